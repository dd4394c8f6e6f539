//! What a server that is started by another is started with.

use std::ffi::OsString;
use std::time::Duration;

use super::ServerArgs;
use crate::server::Spawn;

impl ServerArgs {
    /// How this server starts others, with the flags they get.
    pub(super) fn how_to_spawn(&self) -> Option<Spawn> {
        match self.spawn.as_deref() {
            Some("off") => None,
            None if self.max_clients.is_none() => None,
            None | Some("local") => {
                let mut flags = self.flags_for_another();
                flags.extend(["-lp", "0", "--spawn", "local"].map(OsString::from));
                flags.extend(["--spawn-max".into(), self.spawn_max.to_string().into()]);
                if let Some(host) = &self.local_host {
                    flags.extend(["-lh".into(), host.into()]);
                }
                if let Some(address) = self.bind {
                    flags.extend(["--bind".into(), address.to_string().into()]);
                }
                match self.keeps_in() {
                    Some(folder) => flags.extend(["--data-dir".into(), folder.into()]),
                    None => flags.push("--ephemeral".into()),
                }
                Some(Spawn::Local(flags))
            }
            Some(command) => {
                let mut flags = self.flags_for_another();
                flags.extend(["--spawn", "off"].map(OsString::from));
                Some(Spawn::Command(command.to_owned(), flags))
            }
        }
    }

    /// The flags that another server of this network is started with, wherever that is. Whom it joins is known
    /// only when this one listens.
    fn flags_for_another(&self) -> Vec<OsString> {
        let ms = |time: Duration| format!("{}ms", time.as_millis());
        // What is not named here is either of the machine or of this server alone.
        let all = [
            ("--secret-file", "/dev/stdin".to_owned()),
            ("--line-bytes", self.line_bytes.to_string()),
            ("--feed-bytes", self.feed_bytes.to_string()),
            ("--away", ms(self.away)),
            ("--drain", ms(self.drain)),
            ("--login-timeout", ms(self.login_timeout)),
            ("--failed-logins", self.failed_logins.to_string()),
            ("--names", self.names.to_string()),
            ("--hash-kib", self.hash_kib.to_string()),
            ("--hash-passes", self.hash_passes.to_string()),
            ("--hash-threads", self.hash_threads.to_string()),
            ("--retention-bytes", self.retention_bytes.to_string()),
            ("--retention-age", ms(self.retention_age)),
            ("--fsync", self.fsync.to_string()),
            ("--announce", self.announce.to_string()),
            ("--balance", self.balance.clone()),
            ("--retire", ms(self.retire)),
            ("--max-clients", self.max_clients.unwrap_or(u64::MAX).to_string()),
        ];
        all.into_iter().flat_map(|(flag, value)| [flag.into(), value.into()]).collect()
    }
}
