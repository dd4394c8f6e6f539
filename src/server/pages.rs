//! The status pages: alive, ready, numbers, the network.

use serde_json::json;

use super::Server;
use super::http::Page;
use super::keep::Disk;
use super::metrics::{self, Shell};
use crate::base::limits::STATUS_FRESH;
use crate::base::time::Time;
use crate::node::{State, Status, Storage};

const ALL: &str = "the pages are /healthz, /readyz, /metrics and /status";

impl Server {
    /// The page at `path`.
    pub(super) fn page(&mut self, path: &str) -> Page {
        match path {
            "/healthz" => Page::text("200 OK", "ok"),
            "/readyz" => match self.node.state() {
                State::Serving => Page::text("200 OK", "ready"),
                State::Joining => Page::text(UNAVAILABLE, "not ready: not yet in step with its network"),
                State::Draining | State::Stopping => Page::text(UNAVAILABLE, "not ready: it stops"),
            },
            "/metrics" => {
                let shell = self.shell();
                let status = self.standing();
                let body = metrics::text(&self.node, &status, &shell);
                Page { code: "200 OK", kind: "text/plain; version=0.0.4; charset=utf-8", body }
            }
            "/status" => {
                let shell = self.shell();
                let status = self.standing();
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
        }
    }

    /// How the server stands; a walk over all there is once in [`STATUS_FRESH`].
    fn standing(&mut self) -> Status {
        let (now, state) = (self.now, self.node.state());
        let is_old = |(at, old): &mut (Time, Status)| now.since(*at) >= STATUS_FRESH || old.state != state;
        self.status.take_if(is_old);
        let disk_fails = self.disk.as_ref().is_some_and(Disk::is_unsynced);
        let (_, status) = self.status.get_or_insert_with(|| {
            let mut status = self.node.status();
            if disk_fails && status.storage == Storage::Good {
                status.storage = Storage::Degraded;
                status.troubles.push("messages cannot be synced to the disk".to_owned());
            }
            (now, status)
        });
        status.clone()
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
