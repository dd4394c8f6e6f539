//! What servers and clients hear, held against what was said: all of it as it was, in order, once.

use std::time::Duration;

use serde_json::Value;

use super::cluster::Cluster;
use super::ledger::{MessageId, stamp};
use super::pipe::{Owner, PipeId};
use super::schedule::{Event, us};
use super::user::Receipt;
use crate::base::id::LinkId;
use crate::base::limits::{SECOND_COPY, SUSPECT};
use crate::node::Node;
use crate::wire::frame::{self, Frame};
use crate::wire::line::Flow;

/// After so long a peer that did not confirm in time has done so.
const CAUGHT_UP: Duration = Duration::from_secs(9);

impl Cluster {
    /// A client's line reaches a node.
    pub(super) fn line(&mut self, node: &mut Node, h: usize, link: LinkId, from: Owner, line: &[u8]) -> Flow {
        let now = self.now();
        let before = node.counters().activities;
        let flow = node.line(now, link, line);
        let boot = self.hosts[h].boot;
        let is_congested = self.is_congested(boot);
        if let (Owner::User(_), Some((pipe, _))) = (from, self.hosts[h].pipe_of(link))
            && let Some(talk) = self.talks.get_mut(&pipe)
        {
            talk.boot = Some(boot);
            let is_login = talk.asked.is_none() && self.users[talk.user].talks.len() > 1;
            talk.came_to_congested |= talk.asked.is_none() && is_congested;
            talk.asked.get_or_insert(now);
            if is_login && std::mem::take(&mut self.ambush) {
                let wait = self.rng.below(5_000);
                self.schedule.after(us(wait), Event::Strike(h));
            }
        }
        if node.counters().activities > before
            && let Some(id) = stamp(line)
        {
            self.schedule.note((id.device as u64) << 32 | id.k as u64);
            let may_again = self.users.get(id.device).is_some_and(|user| user.ids.is_some());
            let took = |message: &super::ledger::Message| {
                let copies = message.accepted.iter().chain(&message.again);
                message.accepted.is_some() && (!may_again || copies.into_iter().any(|copy| copy.boot == boot))
            };
            if self.ledger.get(id).is_none_or(took) {
                self.violate("a message is accepted once", format!("{id:?} at server {h}"));
            }
            self.judge.mark("messages");
            self.ledger.accept(now, boot, id);
            self.tell(|| format!("server {h} accepts {}.{}", id.device, id.k));
        }
        flow
    }

    /// Another server's frame reaches a node.
    pub(super) fn frame(&mut self, node: &mut Node, h: usize, link: LinkId, bytes: &[u8]) -> Flow {
        let now = self.now();
        if let Some(sock) = self.hosts[h].socks.get_mut(&link) {
            self.links.is_stale |= sock.greeted.is_none();
            sock.greeted.get_or_insert(now);
            sock.heard_at = now;
        }
        let before = node.counters().relayed;
        let flow = node.frame(now, link, bytes);
        if node.counters().relayed > before
            && let Ok(Frame::Data(data)) = frame::read(bytes)
        {
            self.ledger.hold(self.hosts[h].boot, data.stream, data.seq);
        }
        flow
    }

    /// The simulator's own connection to a server heard something: this is what the server applied.
    pub(super) fn tapped(&mut self, h: usize, pipe: PipeId) {
        let now = self.now();
        let boot = self.hosts[h].boot;
        let flow = &mut self.pipes[pipe].flows[1];
        let n = flow.deliverable();
        flow.deliver(n);
        flow.acknowledge(now, flow.delivered);
        let bytes = flow.unread().to_vec();
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
        flow.consume(whole);
        if self.ledger.boots[boot].tap != Some(pipe) {
            return;
        }
        for line in bytes[..whole].split_inclusive(|b| *b == b'\n') {
            let line = &line[..line.len() - 1];
            if memchr::memmem::find(line, b"LOGIN_SUCCESS").is_some() {
                self.ledger.boots[boot].hears_since = Some(now);
            } else if memchr::memmem::find(line, b"\"REDIRECT\"").is_some() {
                return match self.hosts[h].stop_by.is_some() {
                    true => self.tap_is_sent_away(boot, pipe),
                    false => {
                        // It was sent on, and stays by a new connection.
                        self.close(pipe, 0);
                        self.tap_anew(h);
                        self.wake(h);
                    }
                };
            } else if let Some(id) = self.known_message(line) {
                self.tap_hears(boot, id);
            }
        }
    }

    fn tap_hears(&mut self, b: usize, id: MessageId) {
        let now = self.now();
        self.tell(|| format!("boot {b} shows {}.{}", id.device, id.k));
        let boot = &mut self.ledger.boots[b];
        let highest = boot.highest.insert(id.device, id.k).unwrap_or_default().max(id.k);
        boot.highest.insert(id.device, highest);
        let was_there = boot.heard.insert(id, now).is_some();
        if was_there && self.is_forgotten(b, id) {
            self.judge.mark("excused: a repeat, its server had forgotten its client");
        } else if was_there && self.was_trimmed_untold(b, id) {
            self.judge
                .mark("excused: a repeat, it left the journal after the last row that outlived its server");
        } else if was_there {
            self.violate("a server shows a message once", format!("boot {b} shows {id:?} again"));
        } else if id.k < highest {
            match self.order_excused(id, highest) {
                Some(why) => self.judge.mark(why),
                None => self.violate(
                    "a server shows a sender's messages in order",
                    format!("boot {b} shows {id:?} after {highest}"),
                ),
            }
        }
        self.exposed(id);
        let copies =
            |m: &super::ledger::Message| m.accepted.into_iter().chain(m.again.clone()).collect::<Vec<_>>();
        let copies = self.ledger.get(id).map(copies).unwrap_or_default();
        let here = copies.iter().find(|copy| copy.boot == b).or(copies.first());
        let Some(accepted) = here.copied() else { return };
        let host = &mut self.hosts[self.ledger.boots[b].host];
        // A peer that let the bound run out is not waited for before it has caught up.
        if accepted.boot == b && now.since(accepted.at) >= SECOND_COPY {
            host.admitted = Some(now);
        }
        if accepted.boot != b || self.ledger.holders(&accepted).count() > 1 {
            return;
        }
        // A link that came up in this very turn may have done so behind it.
        let is_waited_for = host.socks.values().any(|sock| {
            sock.peer.is_some()
                && sock.greeted.is_some_and(|since| since < now)
                && now.since(sock.heard_at) < SUSPECT
        });
        if is_waited_for && host.admitted.is_none_or(|at| now.since(at) > CAUGHT_UP) {
            self.violate(
                "what is shown is on two servers",
                format!("boot {b} shows {id:?}, which only it holds"),
            );
        }
        self.judge.mark("a message shown with one copy");
        if let Some(message) = self.ledger.get_mut(id) {
            message.single = true;
        }
    }

    fn exposed(&mut self, id: MessageId) {
        let now = self.now();
        if let Some(message) = self.ledger.get_mut(id) {
            message.exposed.get_or_insert(now);
        }
    }

    /// The message that a broadcast line is, if it is one that was said and accepted, word for word.
    fn known_message(&mut self, line: &[u8]) -> Option<MessageId> {
        let known = stamp(line).and_then(|id| self.ledger.get(id).map(|message| (id, message)));
        let Some((id, message)) = known.filter(|(_, message)| message.accepted.is_some()) else {
            let text = String::from_utf8_lossy(line).into_owned();
            self.violate("nothing comes from nowhere", text);
            return None;
        };
        if message.line.as_deref() == Some(line) {
            return Some(id);
        }
        if let Err(why) = is_said(line, &message.activity, &message.name) {
            self.violate("messages come as they were said", format!("{id:?}: {why}"));
            return None;
        }
        let is_second = message.line.is_some();
        if is_second {
            self.violate("a message is spelled the same everywhere", format!("{id:?}"));
        }
        self.ledger.get_mut(id)?.line = Some(line.into());
        Some(id)
    }

    /// A client heard a broadcast.
    pub(super) fn user_hears(&mut self, pipe: PipeId, line: &[u8], end: u64) {
        let now = self.now();
        let Some(id) = self.known_message(line) else { return };
        self.schedule.note((pipe as u64) << 40 | (id.device as u64) << 20 | id.k as u64);
        self.judge.mark("deliveries");
        self.exposed(id);
        let Some(talk) = self.talks.get_mut(&pipe) else { return };
        let u = talk.user;
        self.judge.tell(now, || format!("client {u} hears {}.{} on pipe {pipe}", id.device, id.k));
        if talk.success.is_none() {
            self.violate("no broadcast before a success", format!("client {u} hears {id:?}"));
        }
        let Some(talk) = self.talks.get_mut(&pipe) else { return };
        if !talk.heard.insert(id) {
            return self
                .violate("a session hears a message once", format!("client {u}, pipe {pipe}: {id:?} again"));
        }
        let user = &mut self.users[u];
        let row = &mut user.got[id.device];
        if row.len() < id.k {
            row.resize(id.k, None);
        }
        let before = row[id.k - 1].replace(Receipt { at: now, pipe, end });
        let highest = user.highest[id.device].max(id.k);
        user.highest[id.device] = highest;
        if let Some(receipt) = before {
            let is_double = self.ledger.get(id).is_some_and(|message| !message.again.is_empty());
            let excuse = match self.users[u].ids {
                Some(_) => None,
                None if is_double => Some("excused: a repeat of what its sender said on two servers"),
                None => self.repeat_excused(u, pipe, &receipt),
            };
            return match excuse {
                Some(why) => self.judge.mark(why),
                None => self.violate(
                    "a client hears a message once",
                    format!("client {u} hears {id:?} on pipe {pipe} after {receipt:?}"),
                ),
            };
        }
        if id.k < highest {
            let is_strict = self.both_number(u, id);
            let excuse = || self.order_excused(id, highest).or_else(|| self.order_excused_for(u, id));
            match if is_strict { self.came_again(id) } else { excuse() } {
                Some(why) => self.judge.mark(why),
                None => self.violate(
                    "a client hears each sender in order",
                    format!("client {u} hears {id:?} after {highest} on pipe {pipe}"),
                ),
            }
        }
    }
}

/// Whether a broadcast is what this name said.
fn is_said(line: &[u8], activity: &str, name: &str) -> Result<(), String> {
    if let Some(byte) = line.iter().find(|byte| !(0x20..0x80).contains(*byte)) {
        return Err(format!("the byte {byte:#04x} in it"));
    }
    let text = || String::from_utf8_lossy(line).into_owned();
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("{error}: {}", text()))?;
    let mut said: Value = serde_json::from_str(activity).map_err(|error| error.to_string())?;
    said["authenticated_user"] = name.into();
    if value["command"] == "ACTIVITY_BROADCAST" && value["activity"] == said { Ok(()) } else { Err(text()) }
}
