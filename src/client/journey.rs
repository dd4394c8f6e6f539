//! From server to server: where a client connects next, when, and when it is over.
//!
//! Around [`Client`], which lives from one connection to the next, this decides what follows a
//! connection that ended. Touches no socket, clock, thread, file or random source: time is an argument,
//! counted from whatever start the shell likes, and chance comes from a seed.
//!
//! Invariant: exactly one of waiting, talking and over holds, and [`Journey::step`] says which.

use std::borrow::Cow;
use std::time::Duration;

use super::machine::{Client, Closed, Event, Mode, REDIRECTS_MAX, STAY};
pub use super::news::{News, Over};
use super::servers::Servers;
use crate::base::rng::Rng;

/// The longest pause after the first connection that failed. Each pause is a random part of the longest,
/// from nothing up (full jitter), so that clients that were broken off together do not knock together.
pub const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// It doubles after as many failures as servers are known, up to this: a network that is back is found
/// in half a minute, and one that is not is not worn out.
pub const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Refusals in a row that are taken for another server's ignorance, once the pair has logged in: a server
/// that is cut off from the others may not know the name yet. Far below what makes servers wary
/// (`--failed-logins`).
pub const REFUSALS_MAX: u32 = 3;

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named after what they are")]
pub enum Step {
    /// Connect there; then [`Journey::connected`], or [`Journey::failed`].
    Connect { host: String, port: u16 },
    /// Nothing until then; the server is the one that will be tried.
    Wait { until: Duration, host: String, port: u16 },
    /// Write, read, and at the end of the connection [`Journey::closed`].
    Talk,
    /// Nothing more comes on this connection: close it, then [`Journey::closed`].
    Close,
    /// Nothing more, ever.
    Over(Over),
}

enum State {
    /// The next connection is due then.
    Due(Duration),
    /// A connection stands.
    Up,
    /// It stands, and its last word was this.
    Told(Over),
    Over(Over),
}

/// The state machine of one client and all its connections.
///
/// 1. [`Journey::step`] says to connect, to wait, or that it is over.
/// 2. On a connection do as [`Client`] says: the verbs are the same. Stop when [`Journey::step`] says
///    `Close`.
/// 3. When it ended, [`Journey::closed`]; then 1.
///
/// By default it never gives up. After a broken connection it logs in again at the server that worked
/// last, then at each other one it has heard of in turn, with pauses of full jitter between
/// ([`PAUSE_FIRST`], [`PAUSE_MAX`]).
///
/// What a break may cost: a line that was wholly written is not said again, as nobody can know whether
/// it arrived; one that was not is said again from its beginning. A registered user hears what it missed
/// after the next login; an anonymous one does not. With [`Journey::number`] it costs nothing.
pub struct Journey {
    client: Client,
    servers: Servers,
    state: State,
    /// Connections in a row that failed or did not stay.
    failures: u32,
    /// How many may, before it is over.
    retries: Option<u32>,
    rng: Rng,
    /// Logged in on this connection since then.
    online: Option<Duration>,
    /// The pair has logged in before.
    proven: bool,
    refusals: u32,
    /// A REGISTER was under way when its connection broke: the name may be ours.
    unsure: bool,
    /// What the next REGISTER was told then, until a LOGIN has shown whose the name is.
    taken: Option<Over>,
    /// The server to try was named by REDIRECT.
    redirected: bool,
}

impl Journey {
    /// A client that connects to the first of `servers` at once; there must be one. `retries` is how many
    /// connections in a row may fail without the end of it, with none any number. The same `seed` pauses
    /// for the same times.
    pub fn new(
        mode: Mode,
        servers: impl IntoIterator<Item = (String, u16)>,
        retries: Option<u32>,
        seed: u64,
    ) -> Journey {
        Journey {
            client: Client::new(mode),
            servers: Servers::new(servers),
            state: State::Due(Duration::ZERO),
            failures: 0,
            retries,
            rng: Rng::new(seed),
            online: None,
            proven: false,
            refusals: 0,
            unsure: false,
            taken: None,
            redirected: false,
        }
    }

    /// What to do now.
    pub fn step(&self, now: Duration) -> Step {
        match &self.state {
            State::Due(until) => {
                let (host, port) = self.servers.next();
                let host = host.to_owned();
                if *until > now {
                    Step::Wait { until: *until, host, port }
                } else {
                    Step::Connect { host, port }
                }
            }
            State::Up => Step::Talk,
            State::Told(_) => Step::Close,
            State::Over(over) => Step::Over(over.clone()),
        }
    }

    /// There is another server, which is tried when those known before have failed.
    pub fn learn(&mut self, host: &str, port: u16) {
        self.servers.learn(host, port);
    }

    /// The connection that was to be made stands.
    pub fn connected(&mut self) {
        self.client.connected();
        self.redirected = false;
        self.state = State::Up;
    }

    /// The connection that was to be made cannot be made.
    pub fn failed(&mut self, now: Duration, why: String) {
        let redirected = std::mem::take(&mut self.redirected);
        self.servers.failed();
        self.retry(now, Over::Unreached { why, redirected });
    }

    /// The connection is at its end. `why` says how; `broken` is false if the server closed it in good
    /// order.
    pub fn closed(&mut self, now: Duration, why: &str, broken: bool) -> Closed {
        let logged_in = self.online.is_some();
        let stayed = self.online.take().is_some_and(|since| now.saturating_sub(since) >= STAY);
        if stayed {
            self.failures = 0;
        }
        let registering = self.client.registering();
        let closed = self.client.closed();
        match std::mem::replace(&mut self.state, State::Due(now)) {
            State::Told(over) => self.told(now, over),
            _ if closed == Closed::Moved => {
                self.redirected = true;
                return Closed::Moved;
            }
            _ if closed == Closed::LoggedOut && !broken => {
                self.state = State::Over(Over::LoggedOut);
                return Closed::LoggedOut;
            }
            _ => {
                self.unsure |= registering;
                // One that stood for a while is looked for where it was first.
                if !stayed {
                    self.servers.failed();
                }
                self.retry(now, Over::Lost { why: why.to_owned(), logged_in });
            }
        }
        Closed::Lost
    }

    /// Takes one line from the server, without its line end.
    pub fn handle<'a>(&mut self, now: Duration, line: &'a [u8]) -> News<'a> {
        match self.client.handle(now, line) {
            Event::Registered { info } => {
                self.unsure = false;
                News::Registered { info }
            }
            Event::LoggedIn { info } => {
                self.online = Some(now);
                self.proven = true;
                self.refusals = 0;
                self.taken = None;
                self.servers.works();
                let told = self.client.ids().map_or(Vec::new(), |ids| ids.servers().to_vec());
                told.iter().for_each(|(host, port)| self.servers.learn(host, *port));
                News::LoggedIn { info }
            }
            Event::Broadcast { activity } => News::Broadcast { activity: Cow::Borrowed(activity) },
            Event::Redirect { host, port } => {
                self.servers.prefer(&host, port);
                News::Redirected { host, port }
            }
            Event::Refused { command, info } => {
                self.state = State::Told(Over::Refused { command: command.clone(), info: info.clone() });
                News::Refused { command, info }
            }
            Event::Invalid { info } => {
                self.state = State::Told(Over::Invalid { info: info.clone() });
                News::Invalid { info }
            }
            Event::Circling => {
                self.state = State::Told(Over::Circling);
                News::Lost { why: format!("redirected more than {REDIRECTS_MAX} times in a row") }
            }
            Event::Acknowledged { cseq } => News::Acknowledged { cseq },
            Event::Announced | Event::Repeated => News::Quiet,
            Event::Malformed { why } => News::Ignored { why },
        }
    }

    /// See [`Client::say`].
    pub fn say(&mut self, line: &str) {
        self.client.say(line);
    }

    /// See [`Client::end`].
    pub fn end(&mut self) {
        self.client.end();
    }

    /// See [`Client::transmit`].
    pub fn transmit(&self) -> &[u8] {
        self.client.transmit()
    }

    /// See [`Client::sent`].
    pub fn sent(&mut self, count: usize) {
        self.client.sent(count);
    }

    /// See [`Client::timeout`].
    pub fn timeout(&self) -> Option<Duration> {
        self.client.timeout()
    }

    /// See [`Client::moving`].
    pub fn moving(&self) -> bool {
        self.client.moving()
    }

    /// See [`Client::ended`].
    pub fn ended(&self) -> bool {
        self.client.ended()
    }

    /// See [`Client::waiting_bytes`].
    pub fn waiting_bytes(&self) -> usize {
        self.client.waiting_bytes()
    }

    /// What follows a connection whose last word that was.
    fn told(&mut self, now: Duration, over: Over) {
        match &over {
            Over::Refused { command, .. } if command == "REGISTER_FAILED" && self.unsure => {
                // The answer to the first REGISTER may have been lost with its connection.
                self.unsure = false;
                self.client.assume_registered();
                self.taken = Some(over);
            }
            Over::Refused { .. } if self.proven && self.refusals < REFUSALS_MAX => {
                self.refusals += 1;
                self.servers.failed();
                self.retry(now, over);
            }
            // The line at fault was written and is not said again, unless it is numbered.
            Over::Invalid { .. } if self.proven && self.client.ids().is_none() => self.retry(now, over),
            Over::Circling => {
                self.servers.failed();
                self.retry(now, over);
            }
            _ => self.state = State::Over(self.taken.take().unwrap_or(over)),
        }
    }

    /// One more failure: the next server is tried after a pause, unless there were enough.
    fn retry(&mut self, now: Duration, over: Over) {
        if self.retries.is_some_and(|retries| self.failures >= retries) {
            self.state = State::Over(over);
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let rounds = (self.failures - 1) as usize / self.servers.count();
        let longest = PAUSE_FIRST.saturating_mul(1 << rounds.min(16)).min(PAUSE_MAX);
        let pause = Duration::from_micros(self.rng.below(longest.as_micros() as u64 + 1));
        self.state = State::Due(now + pause);
    }
}

mod numbered;
#[cfg(test)]
mod tests;
