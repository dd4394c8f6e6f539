//! What a client does with what it is told: it logs in, goes where it is sent, leaves, is lost.

use serde_json::Value;

use super::cluster::Cluster;
use super::host::{host_named, hostname};
use super::ledger::stamp;
use super::pipe::PipeId;
use super::schedule::{Event, ms};
use super::user::{Entrance, Farewell, Stage, Talk};

impl Cluster {
    /// Bytes or the end came for a client. A slow one takes its time.
    pub(super) fn user_reads(&mut self, pipe: PipeId, now_it_does: bool) {
        let Some(talk) = self.talks.get_mut(&pipe).filter(|_| self.pipes[pipe].open[0]) else { return };
        let is_slow = self.users[talk.user].is_slow;
        if is_slow && !now_it_does {
            if !std::mem::replace(&mut talk.read_set, true) {
                let wait = self.rng.between(5, 150);
                self.judge.mark("a client read slowly");
                self.schedule.after(ms(wait), Event::Read(pipe));
            }
            return;
        }
        talk.read_set = false;
        let mut talk_line = std::mem::take(&mut talk.line);
        let most = if is_slow { self.rng.between(50, 3_000) as usize } else { usize::MAX };
        let flow = &mut self.pipes[pipe].flows[1];
        let n = flow.unread().len().min(most);
        let mut end = flow.read_upto() - talk_line.len() as u64;
        talk_line.extend_from_slice(&flow.unread()[..n]);
        flow.consume(n);
        let mut at = 0;
        while let Some(length) = memchr::memchr(b'\n', &talk_line[at..]) {
            let line = &talk_line[at..at + length];
            (at, end) = (at + length + 1, end + length as u64 + 1);
            self.client_hears(pipe, line, end);
        }
        talk_line.drain(..at);
        if let Some(talk) = self.talks.get_mut(&pipe) {
            talk.line = talk_line;
        }
        if !self.pipes[pipe].open[0] {
            return;
        }
        self.kick(pipe, 1);
        if self.pipes[pipe].flows[1].is_over() {
            self.user_lost(pipe);
        } else if !self.pipes[pipe].flows[1].unread().is_empty() {
            self.user_reads(pipe, false);
        }
    }

    fn client_hears(&mut self, pipe: PipeId, line: &[u8], end: u64) {
        if line.starts_with(b"{\"command\":\"ACTIVITY_BROADCAST\",") {
            let Some(u) = self.talks.get(&pipe).map(|talk| talk.user) else { return };
            if self.is_news(u, pipe, line) {
                self.user_hears(pipe, line, end);
            }
            return;
        }
        let known = check_line(line).and_then(|value| match value["command"] == "ACTIVITY_BROADCAST" {
            true => Err(format!("a broadcast begins otherwise: {:?}", String::from_utf8_lossy(line))),
            false => Ok(value),
        });
        let value = match known {
            Ok(value) => value,
            Err(why) => {
                return self
                    .violate("clients are sent only what they understand", format!("pipe {pipe}: {why}"));
            }
        };
        let Some(talk) = self.talks.get(&pipe) else { return };
        let (u, stage) = (talk.user, talk.stage);
        self.tell(|| format!("client {u} hears {}", String::from_utf8_lossy(line)));
        match value["command"].as_str().unwrap_or_default() {
            "REGISTER_SUCCESS" => {
                self.on_success_of_ids(u, pipe, &value);
                self.on_registered(u, pipe, stage);
            }
            "MESSAGE_ACK" => self.on_ack_of_ids(u, &value),
            "NEXT" => self.on_next_of_ids(pipe, &value),
            "LOGIN_SUCCESS" => {
                self.on_success_of_ids(u, pipe, &value);
                if stage == Stage::LoggingIn {
                    self.set_stage(pipe, Stage::Online);
                    self.users[u].is_registered = true;
                }
            }
            "REDIRECT" => {
                let to = value["hostname"].as_str().and_then(host_named);
                self.on_redirected(u, pipe, to);
            }
            "REGISTER_FAILED" | "LOGIN_FAILED" | "AUTHENTICATION_FAIL" => {
                self.on_refused(u, pipe, &String::from_utf8_lossy(line));
            }
            _ => self.violate(
                "what clients say is understood",
                format!("client {u} is told {}", String::from_utf8_lossy(line)),
            ),
        }
    }

    pub fn set_stage(&mut self, pipe: PipeId, stage: Stage) {
        if let Some(talk) = self.talks.get_mut(&pipe) {
            talk.stage = stage;
        }
    }

    /// True if this connection is up and logged in, as far as its client knows.
    pub fn is_online(&self, u: usize) -> bool {
        let online = |pipe| self.talks.get(&pipe).is_some_and(|t: &Talk| t.stage == Stage::Online);
        self.users[u].talk.is_some_and(online)
    }

    fn on_registered(&mut self, u: usize, pipe: PipeId, stage: Stage) {
        if stage != Stage::Registering {
            return self.violate("each REGISTER has one answer", format!("client {u}"));
        }
        self.name_won(u, pipe);
        let pair = self.users[u].introduction();
        match self.users[u].entrance {
            Entrance::Same => {
                self.set_stage(pipe, Stage::LoggingIn);
                self.client_writes(pipe, &format!("{{\"command\":\"LOGIN\",{pair}}}\n"));
            }
            Entrance::New => {
                let host = self.talks[&pipe].host;
                self.set_stage(pipe, Stage::Online);
                self.leave(pipe);
                let wait = self.rng.between(1, 5);
                self.come_later(u, wait, Some(host));
            }
            Entrance::Never => self.set_stage(pipe, Stage::Online),
        }
    }

    /// The client is sent elsewhere; each has its own way to go.
    fn on_redirected(&mut self, u: usize, pipe: PipeId, to: Option<usize>) {
        let Some(to) = to.filter(|to| *to < self.hosts.len()) else {
            return self.violate("REDIRECT leads to a server", format!("client {u}, pipe {pipe}"));
        };
        self.tell(|| format!("client {u} is sent to {}", hostname(to)));
        self.note_sent_on(u, self.talks[&pipe].host);
        self.set_stage(pipe, Stage::Moving);
        if let Some(talk) = self.talks.get_mut(&pipe) {
            talk.was_redirected = true;
        }
        if self.users[u].talk != Some(pipe) {
            return;
        }
        if self.rng.chance(30) {
            self.say_on(u, pipe);
        }
        let talks_on = match self.users[u].farewell {
            Farewell::Logout => {
                self.client_writes(pipe, "{\"command\":\"LOGOUT\"}\n");
                0
            }
            Farewell::Close => 0,
            Farewell::Talk => self.rng.between(1, 200),
        };
        let wait = talks_on + self.rng.between(0, 40);
        if talks_on == 0 {
            self.leave(pipe);
        } else {
            self.schedule.after(ms(talks_on), Event::Leave(pipe));
            if self.rng.chance(50) {
                self.say_on(u, pipe);
            }
        }
        self.users[u].talk = None;
        self.come_later(u, wait, Some(to));
    }

    fn on_refused(&mut self, u: usize, pipe: PipeId, line: &str) {
        self.refused(u, pipe, line);
        self.set_stage(pipe, Stage::Gone);
        self.hang_up(pipe);
        if self.users[u].talk == Some(pipe) {
            self.users[u].talk = None;
            let wait = self.rng.between(300, 900);
            self.come_later(u, wait, None);
        }
    }

    /// The client's socket goes. What its kernel had acknowledged and nobody read is lost.
    fn hang_up(&mut self, pipe: PipeId) {
        if let Some(talk) = self.talks.get_mut(&pipe).filter(|_| self.pipes[pipe].open[0]) {
            let mut rest = std::mem::take(&mut talk.line);
            rest.extend_from_slice(self.pipes[pipe].flows[1].unread());
            let whole = memchr::memrchr(b'\n', &rest).map_or(0, |at| at + 1);
            let ids = rest[..whole].split(|b| *b == b'\n').filter_map(stamp);
            self.users[talk.user].unread.extend(ids);
        }
        self.close(pipe, 0);
    }

    /// The client closes this connection.
    pub fn leave(&mut self, pipe: PipeId) {
        self.doubt(pipe);
        self.set_stage(pipe, Stage::Gone);
        self.hang_up(pipe);
        let u = self.talks[&pipe].user;
        self.tell(|| format!("client {u} leaves pipe {pipe}"));
        if self.users[u].talk == Some(pipe) {
            self.users[u].talk = None;
        }
        self.end_of_session(u, pipe);
    }

    pub(super) fn on_leave(&mut self, pipe: PipeId) {
        let u = self.talks[&pipe].user;
        if self.users[u].farewell == Farewell::Talk && self.rng.chance(50) {
            self.say_on(u, pipe);
        }
        self.leave(pipe);
    }

    /// The connection is gone without the client's doing, or as it wanted.
    pub(super) fn user_lost(&mut self, pipe: PipeId) {
        let Some(talk) = self.talks.get(&pipe) else { return };
        let (u, stage) = (talk.user, talk.stage);
        if stage == Stage::Gone {
            return;
        }
        self.doubt(pipe);
        let unread = self.pipes[pipe].flows[1].unread().len();
        if unread > 0 {
            self.users[u].is_slow = false;
            self.user_reads(pipe, true);
        }
        self.set_stage(pipe, Stage::Gone);
        self.hang_up(pipe);
        self.end_of_session(u, pipe);
        if self.users[u].talk == Some(pipe) {
            self.users[u].talk = None;
            self.tell(|| format!("client {u} lost pipe {pipe} in {stage:?}"));
            let wait = match stage {
                Stage::Leaving => self.rng.between(50, 1_500),
                _ if self.rng.chance(50) => self.rng.between(2, 60),
                _ => self.rng.between(60, 900),
            };
            self.come_later(u, wait, None);
        }
    }

    /// An anonymous client's membership ends with its connection.
    fn end_of_session(&mut self, u: usize, pipe: PipeId) {
        if self.users[u].is_anonymous() && self.users[u].ids.is_none() && self.talks[&pipe].success.is_some()
        {
            self.users[u].joined = None;
        }
    }

    /// The client waited long enough for its login, or after LOGOUT for the end from a server that is gone.
    pub(super) fn on_impatient(&mut self, pipe: PipeId) {
        let Some(talk) = self.talks.get(&pipe) else { return };
        let u = talk.user;
        if talk.stage == Stage::Leaving {
            return match talk.boot.and_then(|boot| self.ledger.boots[boot].died) {
                Some(_) => self.user_lost(pipe),
                None => self.schedule.after(ms(6_000), Event::Impatient(pipe)),
            };
        }
        if !matches!(talk.stage, Stage::Registering | Stage::LoggingIn) || self.users[u].talk != Some(pipe) {
            return;
        }
        self.judge.mark("a client gave up waiting for its login");
        self.tell(|| format!("client {u} gives up on pipe {pipe}"));
        self.leave(pipe);
        self.come_later(u, 20, None);
    }

    /// Notes when a success is written to a client.
    pub(super) fn note_success(&mut self, pipe: PipeId, side: usize, n: usize) {
        let now = self.now();
        let Some(talk) = self.talks.get_mut(&pipe).filter(|talk| talk.success.is_none()) else { return };
        if n == 0 || memchr::memmem::find(self.pipes[pipe].flows[side].last(n + 16), b"_SUCCESS\"").is_none()
        {
            return;
        }
        talk.success = Some(now);
        let u = talk.user;
        let user = &mut self.users[u];
        if user.joined.is_none() && user.ids.is_none() {
            user.joined = Some(now);
        }
        if let Some((_, _, back)) = user.absences.last_mut() {
            back.get_or_insert(now);
        }
    }
}

/// A line to a client, without its line end, as JSON.
///
/// # Errors
/// No client should ever be sent it; the text says why.
pub fn check_line(line: impl AsRef<[u8]>) -> Result<Value, String> {
    let line = line.as_ref();
    let text = || String::from_utf8_lossy(line);
    if let Some(byte) = line.iter().find(|byte| !(0x20..0x80).contains(*byte)) {
        return Err(format!("the byte {byte:#04x} in the line {:?}", text()));
    }
    let value: Value =
        serde_json::from_slice(line).map_err(|error| format!("{error} in the line {:?}", text()))?;
    let is_text = |field: &str| value[field].as_str().is_some_and(|text| !text.is_empty());
    let right = match value["command"].as_str() {
        Some(
            "REGISTER_SUCCESS"
            | "REGISTER_FAILED"
            | "LOGIN_SUCCESS"
            | "LOGIN_FAILED"
            | "INVALID_MESSAGE"
            | "AUTHENTICATION_FAIL",
        ) => is_text("info"),
        Some("NEXT") => value["ids"].is_array(),
        Some("MESSAGE_ACK") => value["cseq"].is_u64(),
        Some("REDIRECT") => is_text("hostname") && value["port"].is_u64(),
        Some("ACTIVITY_BROADCAST") => value["activity"]["authenticated_user"].is_string(),
        _ => false,
    };
    if right { Ok(value) } else { Err(format!("no client understands the line {:?}", text())) }
}
