//! Plays a schedule in a world and keeps the model beside it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use activitystreamer::base::id::LinkId;
use activitystreamer::base::limits::Limits;
use activitystreamer::base::time::Time;
use activitystreamer::sim::World;
use serde_json::Value;

use crate::check::Marks;
use crate::common::check_line;
use crate::model::{Entry, Mailbox, Message, Session, State};
use crate::schedule::{Device, Step, USERS};

pub type Outcome<T = ()> = Result<T, String>;

pub const AWAY: Duration = Duration::from_secs(60);
const SILENT: Duration = Duration::from_secs(1);

/// A world, the sessions that ever were in it, and what they were promised.
pub struct Play<'m> {
    pub world: World,
    pub feed_bytes: u64,
    pub sessions: Vec<Session>,
    /// Where each message begins in the feed, and behind the last one the feed's end.
    pub offsets: Vec<u64>,
    pub marks: &'m mut Marks,
    /// By the whole line: everybody hears the same bytes.
    messages: HashMap<String, Message>,
    /// Hears everything, and so says in which order the server took it.
    witness: LinkId,
    /// The session each device uses.
    devices: [Option<usize>; USERS.len()],
    /// Sessions that their devices have left without a word.
    hanging: VecDeque<usize>,
    pub mailboxes: BTreeMap<&'static str, Mailbox>,
    /// Messages a device ever began, and those the witness has not heard yet.
    said: [u32; USERS.len()],
    unheard: [VecDeque<u32>; USERS.len()],
}

impl<'m> Play<'m> {
    pub fn new(feed_bytes: usize, marks: &'m mut Marks) -> Play<'m> {
        let limits = Limits { feed_bytes, line_bytes: 1024, away: AWAY, ..Limits::default() };
        let mut world = World::new(limits);
        for user in ["ann", "bob", "cyd"] {
            let link = world.connect();
            let register = format!(r#"{{"command":"REGISTER","username":"{user}","secret":"sek"}}"#);
            world.send(link, format!("{register}\n{{\"command\":\"LOGOUT\"}}\n").as_bytes());
            world.end(link);
        }
        let witness = world.connect();
        world.send(witness, format!("{}\n", login("anonymous")).as_bytes());
        world.heard(witness);
        Play {
            world,
            feed_bytes: feed_bytes as u64,
            sessions: Vec::new(),
            offsets: vec![0],
            marks,
            messages: HashMap::new(),
            witness,
            devices: [None; USERS.len()],
            hanging: VecDeque::new(),
            mailboxes: BTreeMap::new(),
            said: [0; USERS.len()],
            unheard: std::array::from_fn(|_| VecDeque::new()),
        }
    }

    /// The number of messages said so far: the next one's place.
    pub fn tail(&self) -> Message {
        self.offsets.len() - 1
    }

    /// Which message a broadcast is, given as a whole line.
    pub fn message(&self, line: &str) -> Option<Message> {
        self.messages.get(line).copied()
    }

    /// The session a device uses, if it can still speak.
    fn live(&self, device: Device) -> Option<usize> {
        self.devices[device].filter(|i| self.sessions[*i].is_live())
    }

    /// The session a device uses, also one that is leaving.
    fn attached(&self, device: Device) -> Option<usize> {
        self.devices[device].filter(|i| self.sessions[*i].state != State::Over)
    }

    pub fn step(&mut self, step: &Step) -> Outcome {
        match *step {
            Step::Arrive(device, room, acknowledges) => {
                return self.arrive(device, room.map(usize::from), acknowledges).map(drop);
            }
            Step::ArriveTalking(device) => self.arrive_talking(device)?,
            Step::LoginAgain(device, times) => {
                for _ in 0..times {
                    self.login_again(device);
                    self.look()?;
                    self.say(device, 0)?;
                }
            }
            Step::Say(device, times, len) => {
                for _ in 0..times {
                    self.say(device, len.into())?;
                }
            }
            Step::SayTogether(ref devices) => {
                for device in devices {
                    self.present(*device)?;
                }
                for device in devices {
                    let session = self.present(*device)?;
                    let half = self.half(session);
                    let line = [half, self.message_line(*device, 5)].concat();
                    self.world.arrive(self.sessions[session].link, &line);
                }
                self.world.turn();
            }
            Step::SayHalf(device) => self.say_half(device)?,
            Step::Room(device, room) => {
                let room = room.map(usize::from);
                self.on(device, |play, i| play.world.make_room(play.sessions[i].link, room));
            }
            Step::AcknowledgeNothing(device) => self.on(device, Play::freeze),
            Step::Acknowledge(device, n) => self.on(device, |play, i| {
                let socket = play.world.socket(play.sessions[i].link);
                let more = |at: usize| (at + usize::from(n)).min(socket.written.len());
                socket.acknowledged = socket.acknowledged.map(more);
            }),
            Step::AcknowledgeAll(device) => {
                self.on(device, |play, i| play.world.socket(play.sessions[i].link).acknowledged = None);
            }
            Step::Break(device) => self.on(device, Play::cut),
            Step::Stall(device) => self.on(device, |play, i| {
                play.hang(i);
                play.sessions[i].stalled = true;
                play.world.socket(play.sessions[i].link).stalled = true;
            }),
            Step::BreakHanging => {
                if let Some(i) = self.hanging.pop_front() {
                    self.cut(i);
                }
            }
            Step::Logout(device) => self.leave(device, |play, i| {
                play.sessions[i].logged_out = true;
                play.send(i, b"{\"command\":\"LOGOUT\"}\n");
            }),
            Step::EndSide(device) => self.leave(device, |play, i| {
                play.sessions[i].ended_side = true;
                play.world.end(play.sessions[i].link);
            }),
            Step::Babble(device) => self.leave(device, |play, i| {
                play.sessions[i].babbled = true;
                play.send(i, b"how are you?\n");
            }),
            Step::Pass(ms) => return self.pass(Duration::from_millis(ms)),
        }
        self.look()
    }

    /// Time passes; the model looks on at every deadline.
    pub fn pass(&mut self, by: Duration) -> Outcome {
        let until = self.world.now + by;
        while self.world.now < until {
            let left = until.since(self.world.now);
            let wait = self.world.node.timeout(self.world.now).unwrap_or(left);
            self.world.advance(wait.max(Duration::from_millis(1)).min(left));
            self.look()?;
        }
        Ok(())
    }

    fn on(&mut self, device: Device, act: impl FnOnce(&mut Self, usize)) {
        if let Some(i) = self.attached(device) {
            act(self, i);
        }
    }

    /// The device's session; a new one if it has none that speaks.
    fn present(&mut self, device: Device) -> Outcome<usize> {
        self.live(device).map_or_else(|| self.arrive(device, None, true), Ok)
    }

    /// A new session after LOGIN.
    pub fn arrive(&mut self, device: Device, room: Option<usize>, acknowledges: bool) -> Outcome<usize> {
        let i = self.connect(device, State::Online)?;
        let socket = self.world.socket(self.sessions[i].link);
        (socket.room, socket.acknowledged) = (room, (!acknowledges).then_some(0));
        self.sessions[i].login_first = true;
        self.sessions[i].logins = 1;
        self.send(i, format!("{}\n", login(USERS[device])).as_bytes());
        self.look()?;
        Ok(i)
    }

    fn arrive_talking(&mut self, device: Device) -> Outcome {
        let i = self.connect(device, State::Silent(self.world.now + SILENT))?;
        let line = self.message_line(device, 9);
        self.send(i, &line);
        Ok(())
    }

    fn login_again(&mut self, device: Device) {
        let Some(i) = self.live(device) else { return };
        if let State::Silent(_) = self.sessions[i].state {
            self.sessions[i].login_first = true;
            self.sessions[i].state = State::Online;
            self.marks.hit("a LOGIN ended a silence");
        }
        self.sessions[i].logins += 1;
        self.send(i, format!("{}\n", login(USERS[device])).as_bytes());
    }

    /// A new connection that will be a session, and what it will be owed.
    fn connect(&mut self, device: Device, state: State) -> Outcome<usize> {
        if let Some(i) = self.live(device) {
            self.hang(i);
        }
        let Entry { owed, perhaps, .. } = self.take_over(USERS[device])?;
        let i = self.sessions.len();
        self.sessions.push(Session {
            device,
            link: self.world.connect(),
            state,
            owed,
            perhaps,
            from: self.tail(),
            to: Message::MAX,
            logins: 0,
            babbled: false,
            login_first: false,
            logged_out: false,
            ended_side: false,
            mute: false,
            half: None,
            stalled: false,
            cut: false,
            passed_on: false,
            written: 0,
            moved: self.world.now,
        });
        self.devices[device] = Some(i);
        Ok(i)
    }

    /// What a new session of this user takes over from its older ones and from the mailbox.
    fn take_over(&mut self, user: &'static str) -> Outcome<Entry> {
        let now = self.world.now;
        let nothing = || Entry { since: now, owed: [].into(), perhaps: [].into(), open: false, low: None };
        if user == "anonymous" {
            return Ok(nothing());
        }
        let mut all = nothing();
        let mut may_hang = false;
        for i in 0..self.sessions.len() {
            let session = &self.sessions[i];
            if USERS[session.device] != user || session.state == State::Over || session.passed_on {
                continue;
            }
            if session.state == State::Leaving || session.stalled {
                self.pass_on(i)?;
            } else {
                let claimed = self.unconfirmed(i)?;
                self.marks.hit_if("a login took over from a session that hangs", !claimed.owed.is_empty());
                // It may hang, and then no entry is taken: what is in one may come again.
                may_hang = true;
                all.owed.extend(claimed.owed);
                all.perhaps.extend(claimed.perhaps);
            }
        }
        let mailbox = self.mailboxes.entry(user).or_default();
        let expired = mailbox.expire(now, AWAY);
        self.marks.hit_if("somebody stayed away too long", expired > 0);
        if mailbox.blurred {
            all.perhaps.extend(0..self.offsets.len() - 1);
        }
        mailbox.blurred |= may_hang;
        if let Some(entry) = mailbox.take(now, AWAY) {
            all.owed.extend(entry.owed);
            all.perhaps.extend(entry.perhaps);
        }
        // What has left the feed is lost, and nobody can be told more than that. A frame that begins where
        // the feed does may be taken for the rest of a longer one.
        let feed_bytes = self.feed_bytes;
        let offsets = &self.offsets;
        let behind = |message: Message| offsets[offsets.len() - 1] - offsets[message];
        let before = all.owed.len();
        all.perhaps.extend(all.owed.iter().filter(|m| behind(**m) == feed_bytes));
        all.owed.retain(|m| behind(*m) < feed_bytes);
        self.marks.hit_if("something owed had left the feed", all.owed.len() < before);
        self.marks.hit_if("a session was owed something", !all.owed.is_empty());
        Ok(all)
    }

    /// Leaves in the mailbox what the session is still owed.
    pub fn pass_on(&mut self, i: usize) -> Outcome {
        let user = USERS[self.sessions[i].device];
        if user == "anonymous" || std::mem::replace(&mut self.sessions[i].passed_on, true) {
            return Ok(());
        }
        let entry = self.unconfirmed(i)?;
        if self.sessions[i].logged_out {
            self.marks.hit_if("a LOGOUT left owed what an earlier break had", !entry.owed.is_empty());
        }
        let mailbox = self.mailboxes.entry(user).or_default();
        if entry.open || !entry.owed.is_empty() {
            mailbox.entries.push(entry);
        } else {
            mailbox.blurred |= !entry.perhaps.is_empty();
        }
        Ok(())
    }

    /// The device sends; a line it had begun is finished first.
    fn send(&mut self, i: usize, bytes: &[u8]) {
        let bytes = [&self.half(i), bytes].concat();
        self.world.send(self.sessions[i].link, &bytes);
    }

    /// The rest of the line that was begun.
    fn half(&mut self, i: usize) -> Vec<u8> {
        let Some((n, rest)) = self.sessions[i].half.take() else { return Vec::new() };
        // It was begun earlier than whatever waits for the witness now.
        self.unheard[self.sessions[i].device].push_front(n);
        rest
    }

    fn say(&mut self, device: Device, len: usize) -> Outcome {
        let session = self.present(device)?;
        let line = self.message_line(device, len);
        self.send(session, &line);
        self.look()
    }

    fn message_line(&mut self, device: Device, len: usize) -> Vec<u8> {
        let n = self.next_number(device);
        self.unheard[device].push_back(n);
        line(device, n, len)
    }

    fn next_number(&mut self, device: Device) -> u32 {
        self.said[device] += 1;
        self.said[device]
    }

    fn say_half(&mut self, device: Device) -> Outcome {
        let i = self.present(device)?;
        if self.sessions[i].half.is_none() {
            let n = self.next_number(device);
            let line = line(device, n, 20);
            let (front, back) = line.split_at(line.len() / 2);
            self.world.send(self.sessions[i].link, front);
            self.sessions[i].half = Some((n, back.to_vec()));
        }
        Ok(())
    }

    fn freeze(&mut self, i: usize) {
        let socket = self.world.socket(self.sessions[i].link);
        socket.acknowledged.get_or_insert(socket.written.len());
    }

    /// The device is gone without a word, and its kernel acknowledges no more.
    fn hang(&mut self, i: usize) {
        self.freeze(i);
        let socket = self.world.socket(self.sessions[i].link);
        socket.room.get_or_insert(300);
        let session = &mut self.sessions[i];
        session.half = None;
        self.devices[session.device] = None;
        self.hanging.push_back(i);
    }

    fn cut(&mut self, i: usize) {
        let socket = self.world.socket(self.sessions[i].link);
        let (all, safe) = (socket.written.len(), socket.acknowledged.unwrap_or(socket.written.len()));
        self.marks.hit_if("a connection broke with bytes unacknowledged", safe < all);
        self.marks.hit_if("a connection broke in the middle of a line", !socket.written.ends_with(b"\n"));
        self.sessions[i].cut = true;
        self.world.cut(self.sessions[i].link);
    }

    /// The device says its last word.
    fn leave(&mut self, device: Device, act: impl FnOnce(&mut Self, usize)) {
        let Some(i) = self.live(device) else { return };
        if self.sessions[i].half.is_some() {
            // The rest of its line, and what that makes others hear, comes first.
            self.send(i, b"");
            if self.world.sockets[&self.sessions[i].link].closed {
                // By that it fell off the feed.
                return;
            }
        }
        let tail = self.tail() + self.unheard.iter().map(VecDeque::len).sum::<usize>();
        let (now, session) = (self.world.now, &mut self.sessions[i]);
        session.mute = session.state != State::Online;
        (session.state, session.to, session.moved) = (State::Leaving, tail, now);
        self.marks.hit_if("a session ended in its silence", self.sessions[i].mute);
        act(self, i);
    }

    /// What the witness heard since, given to the model.
    pub fn listen(&mut self) -> Outcome {
        let heard = self.world.heard(self.witness);
        for line in heard.split_inclusive('\n') {
            let (by, n) = identity(&check_line(line.trim_end_matches('\n'))?)?;
            if self.unheard[by].pop_front() != Some(n) {
                return Err(format!("the witness hears message {n} of device {by} out of turn"));
            }
            let tail = self.tail();
            self.messages.insert(line.to_owned(), tail);
            self.mailboxes.values_mut().for_each(|mailbox| mailbox.said(tail));
            self.offsets.push(self.offsets[tail] + line.len() as u64);
        }
        for device in 0..USERS.len() {
            // What a session says behind the moment it falls off the feed is not read any more.
            if self.attached(device).is_some_and(|i| self.world.sockets[&self.sessions[i].link].closed) {
                self.unheard[device].clear();
            }
        }
        match self.unheard.iter().position(|queue| !queue.is_empty()) {
            Some(by) => {
                Err(format!("the witness does not hear message {} of device {by}", self.unheard[by][0]))
            }
            None => Ok(()),
        }
    }

    /// True while a name is owed something that somebody can still come for.
    pub fn is_owed(&mut self, user: &str) -> bool {
        let now = self.world.now;
        self.mailboxes.get_mut(user).is_some_and(|mailbox| {
            mailbox.expire(now, AWAY);
            !mailbox.entries.is_empty()
        })
    }

    /// Everybody's kernels work again, and all who hang or leave are gone.
    pub fn heal(&mut self) -> Outcome {
        while !self.hanging.is_empty() {
            self.step(&Step::BreakHanging)?;
        }
        for i in 0..self.sessions.len() {
            if self.sessions[i].state != State::Over {
                self.world.socket(self.sessions[i].link).acknowledged = None;
                self.world.make_room(self.sessions[i].link, None);
                self.look()?;
            }
        }
        self.pass(Duration::from_secs(3))
    }
}

fn login(user: &str) -> String {
    let secret = if user == "anonymous" { "" } else { r#","secret":"sek""# };
    format!(r#"{{"command":"LOGIN","username":"{user}"{secret}}}"#)
}

fn line(device: Device, n: u32, len: usize) -> Vec<u8> {
    let (user, pad) = (USERS[device], "x".repeat(len));
    let activity = format!(r#"{{"by":{device},"n":{n},"pad":"{pad}"}}"#);
    let who = format!(r#""username":"{user}","secret":"sek""#);
    format!("{{\"command\":\"ACTIVITY_MESSAGE\",{who},\"activity\":{activity}}}\n").into_bytes()
}

/// Who said a broadcast, and which of its messages it is.
fn identity(line: &Value) -> Outcome<(Device, u32)> {
    let activity = &line["activity"];
    let (by, n) = (activity["by"].as_u64(), activity["n"].as_u64());
    let (Some(by), Some(n)) = (by, n) else { return Err(format!("nobody said {line}")) };
    let by = by as Device;
    if activity["authenticated_user"] != USERS[by] {
        return Err(format!("a message of {} has another name: {line}", USERS[by]));
    }
    Ok((by, n as u32))
}

/// So that a report of a session says when.
pub fn at(time: Time) -> String {
    format!("{:?}", time.since(Time::START))
}
