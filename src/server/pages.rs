//! The status pages: alive, ready, numbers, the network.

use serde_json::json;

use super::Server;
use super::http::Page;
use super::keep::Disk;
use super::metrics::{self, Shell};
use crate::base::limits::{STATUS_FRESH, TURN_CENSUS};
use crate::base::time::Time;
use crate::node::{Census, State, Status, Storage};

const ALL: &str = "the pages are /healthz, /readyz, /metrics and /status";

/// What was said of the node last, and the count that is made for the next time.
#[derive(Default)]
pub(super) struct Figures {
    last: Option<(Time, Status)>,
    census: Option<Census>,
}

impl Figures {
    /// When it goes on with its count.
    pub fn deadline(&self) -> Option<Time> {
        self.census.map(|_| Time::START)
    }
}

impl Server {
    /// The page at `path`; none while what it says is being counted.
    pub(super) fn page(&mut self, path: &str) -> Option<Page> {
        let page = match path {
            "/healthz" => Page::text("200 OK", "ok"),
            "/readyz" => match self.node.state() {
                State::Serving => Page::text("200 OK", "ready"),
                State::Joining => Page::text(UNAVAILABLE, "not ready: not yet in step with its network"),
                State::Draining | State::Stopping => Page::text(UNAVAILABLE, "not ready: it stops"),
            },
            "/metrics" => {
                let status = self.status()?;
                let shell = self.shell();
                let body = metrics::text(&self.node, &status, &shell);
                Page { code: "200 OK", kind: "text/plain; version=0.0.4; charset=utf-8", body }
            }
            "/status" => {
                let status = self.status()?;
                let shell = self.shell();
                let mut all = json!({
                    "version": env!("CARGO_PKG_VERSION"),
                    "uptime_s": shell.now.since(Time::START).as_secs(),
                    "connections": shell.connections,
                    "connections_max": shell.connections_max,
                    "healthy": status.troubles.is_empty(),
                });
                let rest = serde_json::to_value(status).unwrap_or_default();
                if let (Some(all), serde_json::Value::Object(mut rest)) = (all.as_object_mut(), rest) {
                    all.append(&mut rest);
                }
                Page { code: "200 OK", kind: "application/json", body: format!("{all:#}\n") }
            }
            _ => Page::text("404 Not Found", ALL),
        };
        Some(page)
    }

    /// How the server stands, if that is not older than [`STATUS_FRESH`] or is counted at once.
    fn status(&mut self) -> Option<Status> {
        let (now, state) = (self.now, self.node.state());
        let is_old = |(at, old): &mut (Time, Status)| now.since(*at) >= STATUS_FRESH || old.state != state;
        self.figures.last.take_if(is_old);
        if self.figures.last.is_none() && self.figures.census.is_none() {
            self.figures.census = Some(Census::default());
            self.count();
        }
        self.figures.last.as_ref().map(|(_, status)| status.clone())
    }

    /// Goes on with the count that pages wait for. True if that is over now.
    pub(super) fn count(&mut self) -> bool {
        let Some(census) = self.figures.census.as_mut() else { return false };
        if !self.node.count_mailboxes(census, TURN_CENSUS) {
            return false;
        }
        let mut status = self.node.status(census);
        if self.disk.as_ref().is_some_and(Disk::is_unsynced) && status.storage == Storage::Good {
            status.storage = Storage::Degraded;
            status.troubles.push("messages cannot be synced to the disk".to_owned());
        }
        self.figures = Figures { last: Some((self.now, status)), census: None };
        true
    }

    fn shell(&self) -> Shell {
        Shell {
            now: self.now,
            connections: self.open,
            connections_max: self.open_max,
            input_bytes: self.inflow.held(),
            memory_bytes: super::sys::resident_bytes(),
            turns: self.turns.clone(),
        }
    }
}

const UNAVAILABLE: &str = "503 Service Unavailable";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Options;

    #[test]
    fn a_page_waits_for_its_count_and_no_other_page_does() {
        let mut server = Server::new(&Options::default()).unwrap();
        assert!(server.page("/metrics").is_some(), "few are counted at once");
        server.figures = Figures { last: None, census: Some(Census::default()) };
        assert_eq!(server.timeout(), Some(std::time::Duration::ZERO));
        assert!(server.page("/metrics").is_none() && server.page("/status").is_none());
        assert!(server.page("/healthz").is_some() && server.page("/readyz").is_some());
        assert!(server.count() && !server.count());
        assert!(server.page("/metrics").is_some() && server.timeout() != Some(std::time::Duration::ZERO));
    }
}
