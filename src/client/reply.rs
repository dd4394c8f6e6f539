//! A line from a server, taken apart.
//!
//! Invariant: every field but the command is kept as it is spelled until somebody needs it, so that an
//! activity is passed on byte for byte and a field of an odd type spoils only the commands that use it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The command, and the fields of all commands.
#[derive(Deserialize)]
pub(super) struct Reply<'a> {
    #[serde(borrow)]
    pub(super) command: Cow<'a, str>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(borrow)]
    hostname: Option<&'a RawValue>,
    #[serde(borrow)]
    port: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) activity: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) ext: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) ids: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    cseq: Option<&'a RawValue>,
}

impl<'a> Reply<'a> {
    pub(super) fn parse(line: &'a [u8]) -> Option<Reply<'a>> {
        // serde would take an array too, its items as the fields in their order.
        let object = line.trim_ascii_start().starts_with(b"{");
        if object { serde_json::from_slice(line).ok() } else { None }
    }

    /// The server's words, whatever type it gave them.
    pub(super) fn info(&self) -> String {
        let Some(info) = self.info else { return "no reason given".to_owned() };
        serde_json::from_str(info.get()).unwrap_or_else(|_| info.get().to_owned())
    }

    /// Whose a broadcast is, and its number there.
    pub(super) fn id(&self) -> Option<&'a str> {
        self.id?.get().strip_prefix('"')?.strip_suffix('"')
    }

    pub(super) fn cseq(&self) -> Option<u64> {
        serde_json::from_str(self.cseq?.get()).ok()
    }

    pub(super) fn address(&self) -> Option<(String, u16)> {
        let host: String = serde_json::from_str(self.hostname?.get()).ok()?;
        let port: u16 = serde_json::from_str(self.port?.get()).ok()?;
        if host.is_empty() || port == 0 { None } else { Some((host, port)) }
    }
}
