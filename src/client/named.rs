//! Which broadcasts come next on one connection.

use std::collections::VecDeque;

use crate::base::id::{StreamId, hex};

/// Runs that NEXT named and that did not come yet: a stream, the first number, and how many.
#[derive(Clone, Debug, Default)]
pub struct Named(VecDeque<(StreamId, u64, u64)>);

impl Named {
    /// Notes what a NEXT names. False if that cannot be.
    pub fn add(&mut self, ids: &str) -> bool {
        let Ok(runs) = serde_json::from_str::<Vec<(String, u64, u64)>>(ids) else { return false };
        for (stream, first, count) in runs.into_iter().filter(|run| run.2 > 0) {
            let Some(stream) = hex(&stream) else { return false };
            self.0.push_back((StreamId(u64::from_be_bytes(stream)), first, count));
        }
        true
    }

    /// True if no broadcast may come.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which the broadcast is that comes now; none if it was not named.
    pub fn take(&mut self) -> Option<(StreamId, u64)> {
        let run = self.0.front_mut()?;
        let broadcast = (run.0, run.1);
        (run.1, run.2) = (run.1.saturating_add(1), run.2 - 1);
        if run.2 == 0 {
            self.0.pop_front();
        }
        Some(broadcast)
    }
}
