//! What the servers of a group are started with.

use std::net::IpAddr;

use super::ServerArgs;
use super::config::Settings;
use crate::server::Options;
use crate::server::group::Group;

/// What is not the same for all servers of a group, or handed over in another way.
const DIFFERENT: [&str; 9] = [
    "http",
    "local-port",
    "processes",
    "remote-host",
    "remote-port",
    "secret",
    "secret-file",
    "shared-port",
    "ephemeral",
];

impl Settings {
    /// The group these settings ask for, if they ask for more servers than one. `given` are the command's own
    /// flags, `options` what the settings come to.
    ///
    /// # Errors
    /// There is no cluster secret to be had, or a flag that only one server can have; the text says what to do.
    pub fn group(&self, given: &ServerArgs, options: &Options) -> Result<Option<Group>, String> {
        let all = self.flags()?;
        if all.processes == 1 {
            return Ok(None);
        }
        if all.shared_port.is_some() {
            return Err("--shared-port is for one server; with --processes they share -lp".to_owned());
        }
        let mut flags = self.given_but(&DIFFERENT);
        flags.push(format!("--ephemeral={}", options.keep.is_none()).into());
        if let Some(path) = &given.config {
            flags.extend(["--config".into(), path.into()]);
        }
        let hostname = match all.bind.filter(|address| !address.is_unspecified()) {
            Some(address) => address.to_string(),
            None => match options.hostname.parse::<IpAddr>() {
                Ok(_) => options.hostname.clone(),
                Err(_) => "localhost".to_owned(),
            },
        };
        Ok(Some(Group {
            servers: all.processes,
            port: all.local_port,
            flags,
            hostname,
            join: options.join.clone(),
            http: options.http,
            secret: options.secret.obtain(options.join.is_some())?,
        }))
    }
}
