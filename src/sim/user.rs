//! A client: a person at one device, with connections one after the other. It speaks the real protocol and
//! has one of the habits that existing clients have.

use std::collections::BTreeSet;

use serde_json::Value;

use super::cluster::Cluster;
use super::host::{host_named, hostname};
use super::ledger::{Message, MessageId, stamp};
use super::pipe::{Owner, PipeId};
use super::schedule::{Event, ms};
use super::swarm::Class;
use crate::base::time::Time;
use crate::wire::message::ANONYMOUS;

/// What a client does when it is sent to another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Says LOGOUT, and closes.
    Logout,
    /// Closes.
    Close,
    /// Goes on talking for up to 200 ms.
    Talk,
}

/// What a client does after REGISTER_SUCCESS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// LOGIN on the same connection.
    Same,
    /// LOGIN on a new one.
    New,
    /// Just talks.
    Never,
}

/// When and where a message was heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receipt {
    pub at: Time,
    pub pipe: PipeId,
    /// Where its line ends in what the server wrote.
    pub end: u64,
}

#[derive(Debug)]
pub(super) struct User {
    pub name: String,
    pub secret: String,
    pub farewell: Farewell,
    pub entrance: Entrance,
    /// Speaks before it has logged in, after a move.
    pub is_early: bool,
    pub is_slow: bool,
    /// Somebody else wants its name, or it has several devices.
    pub has_rival: bool,
    pub is_shared: bool,
    /// It is the one that registers its name.
    pub is_owner: bool,
    /// It never saw the answer to a REGISTER.
    pub is_in_doubt: bool,
    /// When it heard REGISTER_SUCCESS, and whether that server was out of touch with others.
    pub won_at: Option<Time>,
    /// When that REGISTER was taken.
    pub won_from: Option<Time>,
    pub won_apart: bool,
    pub is_registered: bool,
    /// It has lost its name, or never got it.
    pub is_retired: bool,
    /// The connection it has.
    pub talk: Option<PipeId>,
    /// All it ever had.
    pub talks: Vec<PipeId>,
    pub plan: u32,
    /// What it heard, by device and number.
    pub got: Vec<Vec<Option<Receipt>>>,
    /// The highest number heard of each device.
    pub highest: Vec<usize>,
    /// Since when it is owed everything.
    pub joined: Option<Time>,
    /// What its kernel had and it never read, because it left.
    pub unread: BTreeSet<MessageId>,
    /// When it logged out, of which boot, and when it was back.
    pub absences: Vec<(Time, Option<usize>, Option<Time>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Registering,
    LoggingIn,
    Online,
    /// It was sent away.
    Moving,
    /// It said LOGOUT.
    Leaving,
    Gone,
}

/// One connection of a client.
#[derive(Debug)]
pub(super) struct Talk {
    pub user: usize,
    pub host: usize,
    /// The boot whose node took its first line, and when.
    pub boot: Option<usize>,
    pub asked: Option<Time>,
    /// When a success was written to it.
    pub success: Option<Time>,
    pub stage: Stage,
    /// What it had said before this connection.
    pub k_before: usize,
    pub was_redirected: bool,
    line: Vec<u8>,
    pub heard: BTreeSet<MessageId>,
    read_set: bool,
}

impl User {
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    fn pair(&self) -> String {
        if self.is_anonymous() {
            return format!(r#""username":"{ANONYMOUS}""#);
        }
        format!(r#""username":"{}","secret":"{}""#, self.name, self.secret)
    }
}

impl Cluster {
    /// A client's connection and what it does with it.
    pub(super) fn on_come(&mut self, u: usize, plan: u32, to: Option<usize>) {
        let user = &self.users[u];
        if user.plan != plan || user.talk.is_some() || user.is_retired {
            return;
        }
        let up: Vec<usize> = (0..self.hosts.len()).filter(|h| self.hosts[*h].is_up()).collect();
        if up.is_empty() || self.awaits_name(u) {
            return self.come_later(u, 60, None);
        }
        let h = to.filter(|h| self.hosts[*h].is_up()).unwrap_or_else(|| *self.rng.choose(&up));
        let pipe = self.open_pipe(Owner::User(u), Owner::Host(h, usize::MAX));
        // A client's program waits for its own kernel.
        self.pipes[pipe].flows[0].room = 1 << 30;
        let user = &mut self.users[u];
        user.talk = Some(pipe);
        user.talks.push(pipe);
        let (registers, is_back) = (user.is_owner && !user.is_registered, user.talks.len() > 1);
        let comes_early = user.is_early && !registers && is_back && !user.is_anonymous();
        let talk = Talk {
            user: u,
            host: h,
            boot: None,
            asked: None,
            success: None,
            stage: if registers { Stage::Registering } else { Stage::LoggingIn },
            k_before: self.ledger.messages[u].len(),
            was_redirected: false,
            line: Vec::new(),
            heard: BTreeSet::new(),
            read_set: false,
        };
        self.talks.insert(pipe, talk);
        let pair = self.users[u].pair();
        self.tell(|| format!("client {u} ({pair}) comes to server {h}, pipe {pipe}"));
        if registers {
            self.client_writes(pipe, &format!("{{\"command\":\"REGISTER\",{pair}}}\n"));
        } else {
            if comes_early {
                self.judge.mark("a client spoke before it logged in");
                self.say(u);
            }
            self.client_writes(pipe, &format!("{{\"command\":\"LOGIN\",{pair}}}\n"));
        }
        let patience = self.rng.between(1_500, 4_500);
        self.schedule.after(ms(patience), Event::Impatient(pipe));
    }

    /// The client comes (back) after so many milliseconds.
    pub fn come_later(&mut self, u: usize, wait_ms: u64, to: Option<usize>) {
        self.users[u].plan += 1;
        let plan = self.users[u].plan;
        self.schedule.after(ms(wait_ms), Event::Come { user: u, plan, to });
    }

    pub fn client_writes(&mut self, pipe: PipeId, text: &str) {
        if self.pipes[pipe].open[0] && !self.pipes[pipe].flows[0].ended {
            let now = self.now();
            self.pipes[pipe].flows[0].write(now, &[text.as_bytes()]);
            self.kick(pipe, 0);
        }
    }

    /// The client says its next message on the connection it has.
    pub fn say(&mut self, u: usize) {
        let Some(pipe) = self.users[u].talk else { return };
        self.say_on(u, pipe);
    }

    pub fn say_on(&mut self, u: usize, pipe: PipeId) {
        if !self.pipes[pipe].open[0] || self.pipes[pipe].flows[0].ended || self.pipes[pipe].reset[0] {
            return;
        }
        let k = self.ledger.messages[u].len() + 1;
        let more = match self.rng.below(12) {
            0 => r#","t":"\u00e9\"\\ \/","x":null"#.to_owned(),
            1 => r#","t":"é😀","n":1.50,"a":[1,{"b":[]}]"#.to_owned(),
            2 => format!(r#","t":"{}""#, "x".repeat(self.rng.below(600) as usize)),
            3 => r#","authenticated_user":"nobody" , "z" : true"#.to_owned(),
            _ => String::new(),
        };
        let activity = format!(r#"{{"d":{u},"k":{k}{more}}}"#);
        let pair = self.users[u].pair();
        self.client_writes(
            pipe,
            &format!("{{\"command\":\"ACTIVITY_MESSAGE\",{pair},\"activity\":{activity}}}\n"),
        );
        let message = Message {
            activity,
            name: self.users[u].name.clone(),
            pipe,
            end: self.pipes[pipe].flows[0].written(),
            accepted: None,
            line: None,
            exposed: None,
            single: false,
        };
        self.ledger.messages[u].push(message);
    }

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
            return self.user_hears(pipe, line, end);
        }
        let value = match check_line(line) {
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
            "REGISTER_SUCCESS" => self.on_registered(u, pipe, stage),
            "LOGIN_SUCCESS" => {
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
        let pair = self.users[u].pair();
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
        if self.users[u].is_anonymous() && self.talks[&pipe].success.is_some() {
            self.users[u].joined = None;
        }
    }

    /// The client waited long enough for its login.
    pub(super) fn on_impatient(&mut self, pipe: PipeId) {
        let Some(talk) = self.talks.get(&pipe) else { return };
        let u = talk.user;
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
        if user.joined.is_none() {
            user.joined = Some(now);
        }
        if let Some((_, _, back)) = user.absences.last_mut() {
            back.get_or_insert(now);
        }
    }

    /// True if slow readers, moves and so on are a matter of this seed.
    pub fn add_users(&mut self) {
        let swarm = self.swarm.clone();
        for i in 0..swarm.users {
            self.add_user(&format!("u{i}"), false);
        }
        if self.has(Class::Rivals) {
            for i in 0..self.rng.between(1, 3) {
                for _ in 0..2 {
                    self.add_user(&format!("r{i}"), false);
                }
                let n = self.users.len();
                self.judge.mark(Class::Rivals.label());
                for u in n - 2..n {
                    self.users[u].has_rival = true;
                    self.users[u].secret = format!("secret of {u}");
                }
            }
        }
        for i in 0..swarm.shared {
            for _ in 0..self.rng.between(2, 3) {
                self.add_user(&format!("m{i}"), true);
            }
        }
        for _ in 0..swarm.anonymous {
            self.add_user(ANONYMOUS, false);
        }
        let n = self.users.len();
        for user in &mut self.users {
            user.got = vec![Vec::new(); n];
            user.highest = vec![0; n];
        }
        self.ledger.messages = (0..n).map(|_| Vec::new()).collect();
        for u in 0..n {
            let wait = self.rng.between(300, 1_200);
            let wait = match self.users[u].has_rival {
                // Sometimes while there are faults.
                true if n % 3 == 0 => 500 + self.rng.below(20),
                true => 1_550 + self.rng.below(400),
                false if self.users[u].is_shared => 300 + self.rng.below(100),
                false => wait,
            };
            self.come_later(u, wait, None);
            self.schedule.after(ms(wait), Event::Act(u));
        }
    }

    fn add_user(&mut self, name: &str, is_shared: bool) {
        let farewell = *self.rng.choose(&[Farewell::Logout, Farewell::Close, Farewell::Talk]);
        let entrance = *self.rng.choose(&[Entrance::Same, Entrance::New, Entrance::Never]);
        let is_slow = self.has(Class::Slow) && self.rng.chance(35);
        let is_owner = name != ANONYMOUS && (!is_shared || self.users.iter().all(|user| user.name != name));
        self.users.push(User {
            name: name.to_owned(),
            secret: format!("secret of {name}"),
            farewell,
            entrance,
            is_early: self.rng.chance(33),
            is_slow,
            has_rival: false,
            is_shared,
            is_owner,
            is_in_doubt: false,
            won_at: None,
            won_from: None,
            won_apart: false,
            is_registered: false,
            is_retired: false,
            talk: None,
            talks: Vec::new(),
            plan: 0,
            got: Vec::new(),
            highest: Vec::new(),
            joined: None,
            unread: BTreeSet::new(),
            absences: Vec::new(),
        });
    }
}

/// A line to a client as JSON. An error if no client should ever be sent it.
fn check_line(line: &[u8]) -> Result<Value, String> {
    if let Some(byte) = line.iter().find(|byte| !(0x20..0x80).contains(*byte)) {
        return Err(format!("the byte {byte:#04x} in {:?}", String::from_utf8_lossy(line)));
    }
    let value: Value = serde_json::from_slice(line)
        .map_err(|error| format!("{error} in {:?}", String::from_utf8_lossy(line)))?;
    let text = |field: &str| value[field].as_str().is_some_and(|text| !text.is_empty());
    let right = match value["command"].as_str() {
        Some(
            "REGISTER_SUCCESS"
            | "REGISTER_FAILED"
            | "LOGIN_SUCCESS"
            | "LOGIN_FAILED"
            | "INVALID_MESSAGE"
            | "AUTHENTICATION_FAIL",
        ) => text("info"),
        Some("REDIRECT") => text("hostname") && value["port"].is_u64(),
        _ => false,
    };
    if right { Ok(value) } else { Err(format!("{:?}", String::from_utf8_lossy(line))) }
}
