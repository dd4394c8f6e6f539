//! What a signal does: stop, stop at once, read the limits anew, say what was counted.

use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGUSR1};

use super::{Server, notify};
use crate::base::limits::{STOP, STOP_AGAIN, STOP_PEERS};
use crate::node::{Counters, Input};

impl Server {
    /// Signals came.
    pub(super) fn on_signals(&mut self) {
        let pending: Vec<i32> = self.signals.pending().collect();
        for signal in pending {
            if signal == SIGUSR1 {
                report(self.node.counters());
            } else if signal == SIGHUP {
                self.on_hangup();
            } else if self.stop_by.is_none() {
                self.stop();
            } else if self.now >= self.deaf_until {
                log::warn!("stopping at once");
                self.stop_by = Some(self.now);
            }
        }
    }

    /// Begins to stop.
    pub(super) fn stop(&mut self) {
        notify::tell("STOPPING=1");
        self.node.handle(self.now, Input::Stop);
        let (what, drain) = match self.node.is_draining() {
            true => ("are sent to other servers", self.drain),
            false => ("get what they are owed", Duration::ZERO),
        };
        log::info!("stopping: {} connections {what}", self.open);
        self.stop_by = Some(self.now + drain + STOP + STOP_PEERS);
        self.deaf_until = self.now + STOP_AGAIN;
    }

    fn on_hangup(&mut self) {
        let Some(reload) = self.reload.as_mut() else { return };
        if let Some(limits) = reload() {
            self.drain = limits.drain;
            self.node.set_limits(limits);
        }
    }
}

/// Logs what was counted, leaving out what never happened.
pub(super) fn report(counters: &Counters) {
    let counted = counters.all().filter(|(_, n)| *n > 0);
    let text: Vec<String> = counted.map(|(name, n)| format!("{name}={n}")).collect();
    log::info!("counted: {}", text.join(" "));
}
