//! How often what was appended is made to outlive the machine.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::base::limits::FSYNC_INTERVAL;

/// When the journal is synced: what the end of the *machine* may cost. The end of the process costs nothing
/// that was appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// After each turn that appended: what was said while the last sync took place, 1 to 10 ms.
    Always,
    /// Once in [`FSYNC_INTERVAL`]: as much as was said in that, and while the sync took place.
    #[default]
    Interval,
    /// When the system sees fit, on Linux up to 30 s.
    Never,
}

impl Fsync {
    /// How long what was appended may wait for a [`Request::Sync`](super::Request::Sync); none: for ever. One sync is in work at a
    /// time, so under [`Fsync::Always`] the turns of its duration share the next.
    pub fn wait(self) -> Option<Duration> {
        match self {
            Fsync::Always => Some(Duration::ZERO),
            Fsync::Interval => Some(FSYNC_INTERVAL),
            Fsync::Never => None,
        }
    }
}

impl FromStr for Fsync {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Fsync, &'static str> {
        match text {
            "always" => Ok(Fsync::Always),
            "interval" => Ok(Fsync::Interval),
            "never" => Ok(Fsync::Never),
            _ => Err("one of: always, interval, never"),
        }
    }
}

impl fmt::Display for Fsync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fsync::Always => "always",
            Fsync::Interval => "interval",
            Fsync::Never => "never",
        })
    }
}
