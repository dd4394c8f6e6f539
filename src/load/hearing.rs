//! What clients read: deliveries, which are nearly all and only looked at where bench wrote into them, and the rest.

use std::io::{Error, ErrorKind, Read};
use std::time::Duration;

use memchr::memchr;

use super::fleet::Fleet;
use super::limits::LINE_BYTES_MAX;
use super::stamp::{self, Stamp};
use super::tally::Heard;
use crate::client::Event;
use crate::server::sys::monotonic_ns;

impl Fleet {
    /// Reads a client's connection until there is no more, or so many bytes were read. Where an event `told` of it, a
    /// short read says that there is no more: what comes later is another event.
    pub(super) fn read(&mut self, i: usize, most: usize, told: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut left = most;
        while left > 0 {
            let conn = &mut self.conns[i];
            let kept = conn.rest.len();
            if kept >= LINE_BYTES_MAX {
                let why = format!("a line is longer than {LINE_BYTES_MAX} bytes");
                self.end(i, Some(Error::new(ErrorKind::InvalidData, why)));
                break;
            }
            let Some(socket) = conn.socket.as_mut() else { break };
            if buffer.len() < 2 * kept {
                buffer.resize(2 * kept, 0);
            }
            buffer[..kept].copy_from_slice(&conn.rest);
            let room = left.min(buffer.len() - kept);
            match socket.read(&mut buffer[kept..kept + room]) {
                Ok(0) => {
                    self.end(i, None);
                    break;
                }
                Ok(count) => {
                    conn.rest.clear();
                    let bytes = &buffer[..kept + count];
                    let used = self.take_lines(i, bytes);
                    self.conns[i].rest.extend_from_slice(&bytes[used..]);
                    left -= count;
                    if told && count < room {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.end(i, Some(error));
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Takes all whole lines and says how many bytes they are.
    fn take_lines(&mut self, i: usize, bytes: &[u8]) -> usize {
        let now = monotonic_ns();
        let mut at = 0;
        while let Some(length) = memchr(b'\n', &bytes[at..]) {
            let line = &bytes[at..at + length];
            at += length + 1;
            match stamp::scan(line) {
                Some(stamp) => self.on_delivery(i, stamp, now),
                None => self.on_line(i, line, now),
            }
        }
        at
    }

    fn on_delivery(&mut self, i: usize, stamp: Stamp, now: u64) {
        let heard = match stamp.run == self.plan.run {
            true => self.tally.hear(i, stamp.by as usize, stamp.n),
            false => None,
        };
        let Some(heard) = heard else {
            self.counts.foreign += 1;
            return;
        };
        let conn = &mut self.conns[i];
        match heard {
            Heard::New => {}
            Heard::Late => self.counts.out_of_order += 1,
            Heard::Again => {
                let after_break = conn.breaks > 0;
                self.counts.repeated += u64::from(!after_break);
                self.counts.repeated_after_break += u64::from(after_break);
                return;
            }
        }
        self.counts.heard += 1;
        self.counts.heard_measured += u64::from(self.measured.contains(&now));
        // How long a slow client takes is its own affair.
        if !conn.is_slow && self.measured.contains(&stamp.at) {
            self.latency.record(now.saturating_sub(stamp.at));
        }
        if conn.talker == Some(stamp.by) {
            conn.echoed = (conn.echoed + 1).min(conn.said);
            self.echoed.push(i);
        }
    }

    /// Any other line: the machine knows what it means.
    fn on_line(&mut self, i: usize, line: &[u8], now: u64) {
        let conn = &mut self.conns[i];
        match conn.client.handle(Duration::from_nanos(now - self.start), line) {
            Event::Broadcast { activity } => match stamp::parse(activity) {
                Some(stamp) => self.on_delivery(i, stamp, now),
                None => self.counts.foreign += 1,
            },
            Event::Registered { .. } => {
                self.registrations.record(now - conn.begun);
                conn.begun = now;
                self.dirty.push(i);
            }
            Event::LoggedIn { .. } => self.on_logged_in(i, now),
            Event::Redirect { host, port } => self.on_redirect(i, host, port),
            Event::Refused { command, info } => conn.refused = Some(format!("{command}: {info}")),
            Event::Invalid { info } => conn.refused = Some(format!("INVALID_MESSAGE: {info}")),
            // These clients have no ids.
            Event::Acknowledged { .. } | Event::Announced | Event::Repeated => {}
            Event::Circling => conn.refused = Some("the servers redirect in circles".to_owned()),
            Event::Malformed { why } => {
                self.counts.malformed += 1;
                let why = format!("a line from {}: {why}", conn.address);
                self.note(why);
            }
        }
    }

    fn on_logged_in(&mut self, i: usize, now: u64) {
        let conn = &mut self.conns[i];
        conn.is_online = true;
        self.online += 1;
        self.dirty.push(i);
        if !conn.is_known {
            conn.is_known = true;
            self.logging_in -= 1;
            self.logins.record(now - conn.begun);
            self.logins_span.1 = self.logins_span.1.max(now);
        }
        conn.begun = now;
    }

    fn on_redirect(&mut self, i: usize, host: String, port: u16) {
        let target = self.resolve(host, port);
        if target.is_none() {
            self.note("a REDIRECT to a host that has no address".to_owned());
        }
        let conn = &mut self.conns[i];
        conn.target = target;
        self.online -= usize::from(std::mem::take(&mut conn.is_online));
        self.moving.push(i);
        self.dirty.push(i);
    }
}
