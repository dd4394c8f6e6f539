//! A client: a person at one device, with connections one after the other. It speaks the real protocol and
//! has one of the habits that existing clients have.

use std::collections::BTreeSet;

use super::cluster::Cluster;
use super::ids;
use super::ledger::{Message, MessageId};
use super::pipe::{Owner, PipeId};
use super::schedule::{Event, ms};
use super::swarm::Class;
use crate::base::time::Time;
use crate::client::ids::Ids;
use crate::client::named::Named;
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
    /// When it was sent to another server, and by which boot.
    pub sent_on: Vec<(Time, usize)>,
    /// When it logged out, of which boot, and when it was back.
    pub absences: Vec<(Time, Option<usize>, Option<Time>)>,
    /// It numbers what it says.
    pub ids: Option<Box<Ids>>,
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
    /// When it asked, a server was so far behind with another's messages that its answer must come too late.
    pub came_to_congested: bool,
    /// The part of a line that came.
    pub line: Vec<u8>,
    pub heard: BTreeSet<MessageId>,
    pub read_set: bool,
    /// Of a client with an id: up to where it has said its messages here, or they were known; and which
    /// broadcasts come next.
    pub written: Option<u64>,
    pub next: Named,
}

impl User {
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    pub fn pair(&self) -> String {
        if self.is_anonymous() {
            return format!(r#""username":"{ANONYMOUS}""#);
        }
        format!(r#""username":"{}","secret":"{}""#, self.name, self.secret)
    }
}

impl User {
    /// What it says when it logs in.
    pub fn introduction(&self) -> String {
        self.pair() + &self.ids.as_ref().map_or(String::new(), |ids| ids.ext())
    }
}

impl Cluster {
    /// A client's connection and what it does with it.
    pub(super) fn on_come(&mut self, u: usize, plan: u32, to: Option<usize>) {
        let user = &self.users[u];
        if user.plan != plan || user.talk.is_some() || user.is_retired {
            return;
        }
        let up: Vec<usize> = (0..self.hosts.len()).filter(|h| self.hosts[*h].is_known()).collect();
        if up.is_empty() || self.awaits_name(u) {
            return self.come_later(u, 60, None);
        }
        if to.is_none() {
            self.note_knock(u);
        }
        let h = to.filter(|h| self.hosts[*h].is_up()).unwrap_or_else(|| self.choose_door(&up));
        let pipe = self.open_pipe(Owner::User(u), Owner::Host(h, usize::MAX));
        // A client's program waits for its own kernel.
        self.pipes[pipe].flows[0].room = 1 << 30;
        let user = &mut self.users[u];
        user.talk = Some(pipe);
        user.talks.push(pipe);
        let (registers, is_back) = (user.is_owner && !user.is_registered, user.talks.len() > 1);
        let comes_early =
            user.ids.is_none() && user.is_early && !registers && is_back && !user.is_anonymous();
        let talk = Talk {
            user: u,
            host: h,
            boot: None,
            asked: None,
            success: None,
            stage: if registers { Stage::Registering } else { Stage::LoggingIn },
            k_before: self.ledger.messages[u].len(),
            was_redirected: false,
            came_to_congested: false,
            line: Vec::new(),
            heard: BTreeSet::new(),
            read_set: false,
            written: None,
            next: Named::default(),
        };
        self.talks.insert(pipe, talk);
        let pair = self.users[u].introduction();
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
        if self.users[u].ids.is_none() {
            self.client_writes(
                pipe,
                &format!("{{\"command\":\"ACTIVITY_MESSAGE\",{pair},\"activity\":{activity}}}\n"),
            );
        }
        let message = Message {
            activity,
            name: self.users[u].name.clone(),
            pipe,
            end: self.pipes[pipe].flows[0].written(),
            accepted: None,
            again: Vec::new(),
            line: None,
            exposed: None,
            single: false,
        };
        let said = self.users[u].ids.as_mut().map(|ids| ids.say(&message.activity));
        self.ledger.messages[u].push(message);
        if said.is_some() {
            self.write_kept(u, pipe);
            let end = self.pipes[pipe].flows[0].written();
            self.ledger.messages[u][k - 1].end = end;
        }
    }

    /// All clients of this seed.
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
        if self.has(Class::Ids) {
            for (user, ids) in self.users.iter_mut().zip(ids::draw(&self.rng, n)) {
                user.ids = ids;
            }
        }
        for user in &mut self.users {
            user.got = vec![Vec::new(); n];
            user.highest = vec![0; n];
        }
        self.ledger.messages = (0..n).map(|_| Vec::new()).collect();
        for u in 0..n {
            let wait = self.rng.between(300, 1_200);
            let wait = match self.users[u].has_rival {
                // Sometimes while there are faults.
                true if n.is_multiple_of(3) => 500 + self.rng.below(20),
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
            sent_on: Vec::new(),
            absences: Vec::new(),
            ids: None,
        });
    }
}
