//! How connections end, what follows, and what was not heard.

use std::io;
use std::time::Duration;

use super::fleet::{Fleet, nanos};
use super::limits::{RETRY, TICK};
use crate::client::Closed;
use crate::server::sys::monotonic_ns;

/// What was not heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// By clients that may still hear it.
    pub owed: u64,
    /// By clients that are gone.
    pub lost: u64,
    /// By slow clients that are gone.
    pub slow: u64,
}

impl Fleet {
    /// What clients that are still there are owed, when each talker said so many messages; and what those missed that
    /// are not there, slow ones apart.
    pub fn missing(&self, said: &[u32]) -> Missing {
        let mut missing = Missing::default();
        for (i, conn) in self.conns.iter().enumerate() {
            let n = self.tally.missing(i, said);
            match (conn.is_gone, conn.is_slow) {
                (false, _) => missing.owed += n,
                (true, false) => missing.lost += n,
                (true, true) => missing.slow += n,
            }
        }
        missing
    }

    pub(super) fn tick(&mut self, now: u64) {
        if self.is_holding && self.plan.slow_bytes > 0 {
            let most = (self.plan.slow_bytes as u64 * nanos(TICK) / nanos(Duration::from_secs(1))).max(1);
            for i in 0..self.conns.len() {
                if self.conns[i].is_slow {
                    self.read(i, most as usize, false);
                }
            }
        }
        let since = Duration::from_nanos(now - self.start);
        let late = |i: &usize| self.conns[*i].client.timeout().is_some_and(|at| at <= since);
        let late: Vec<usize> = self.moving.iter().copied().filter(late).collect();
        late.into_iter().for_each(|i| self.give_up(i));
        self.moving.retain(|i| self.conns[*i].client.moving());
        while self.retries.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, i)) = self.retries.pop_front() {
                self.connect(i);
            }
        }
    }

    /// The server does not end a connection that it sent on.
    fn give_up(&mut self, i: usize) {
        self.conns[i].is_read = true;
        self.end(i, None);
    }

    /// The connection is at its end.
    pub(super) fn end(&mut self, i: usize, error: Option<io::Error>) {
        let conn = &mut self.conns[i];
        if error.is_none() && !conn.is_read && conn.client.moving() && !conn.client.transmit().is_empty() {
            conn.is_read = true;
            conn.flush();
            if !conn.client.transmit().is_empty() {
                return;
            }
        }
        (conn.socket, conn.stands) = (None, false);
        conn.rest = Vec::new();
        self.online -= usize::from(std::mem::take(&mut conn.is_online));
        match conn.client.closed() {
            Closed::Moved => self.follow(i),
            Closed::LoggedOut => self.set_gone(i),
            Closed::Lost => self.on_lost(i, error),
        }
    }

    fn follow(&mut self, i: usize) {
        self.counts.moved += 1;
        if !self.plan.registered {
            self.begin_anew(i);
        }
        let conn = &mut self.conns[i];
        conn.address = conn.target.take().unwrap_or(conn.address);
        self.connect(i);
    }

    /// An anonymous client's session is another one now. Before the talk that makes no difference: it hears all.
    fn begin_anew(&mut self, i: usize) {
        let conn = &mut self.conns[i];
        if conn.is_known && !self.measured.is_empty() {
            self.counts.begun_anew += 1;
            self.tally.begin_anew(i);
            self.echoed.extend((0..conn.in_flight()).map(|_| i));
            conn.echoed = conn.said;
        }
    }

    fn on_lost(&mut self, i: usize, error: Option<io::Error>) {
        let conn = &mut self.conns[i];
        let why = match (conn.refused.take(), error) {
            (Some(info), _) => {
                self.counts.refused += 1;
                info
            }
            _ if self.is_leaving => return self.set_gone(i),
            (None, _) if self.plan.returns => {
                conn.breaks += u32::from(conn.is_known);
                self.counts.broken += u64::from(conn.is_known);
                let at = self.plan.servers.iter().position(|server| *server == conn.address).unwrap_or(0);
                conn.address = self.plan.servers[(at + 1) % self.plan.servers.len()];
                self.retries.push_back((monotonic_ns() + nanos(RETRY), i));
                return;
            }
            (None, _) if conn.is_slow && conn.is_known => {
                self.counts.slow_cut += 1;
                return self.set_gone(i);
            }
            (None, error) => {
                self.counts.broken += 1;
                error.map_or("the server closed the connection".to_owned(), |error| error.to_string())
            }
        };
        let address = self.conns[i].address;
        self.note(format!("a client at {address}: {why}"));
        self.set_gone(i);
    }

    fn set_gone(&mut self, i: usize) {
        let conn = &mut self.conns[i];
        self.logging_in -= usize::from(!conn.is_known && !conn.is_gone);
        self.gone += usize::from(!conn.is_gone);
        conn.is_gone = true;
    }
}
