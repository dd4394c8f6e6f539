//! A client for other programs: blocking calls around a [`Journey`], on a thread of its own.
//!
//! ```
//! use std::time::Duration;
//! use activitystreamer::client::{Connection, News, Over, Settings};
//! # use activitystreamer::{base::limits::Limits, server::{Options, Server}};
//! # let (tell, told) = std::sync::mpsc::channel();
//! # std::thread::spawn(move || {
//! #     let limits = Limits { hash_kib: 8, hash_passes: 1, ..Limits::default() };
//! #     let server = Server::new(&Options { limits, ..Options::default() }).expect("a free port");
//! #     tell.send(server.addresses().next().expect("it listens").port()).expect("it is awaited");
//! #     server.run()
//! # });
//! # let port = told.recv()?;
//!
//! let settings = Settings { name: Some("bob".to_owned()), ..Settings::at("localhost", port) };
//! let connection = Connection::open(&settings)?; // registers bob, with a secret made here
//! connection.send("hello")?;
//! loop {
//!     match connection.receive(Duration::from_secs(10))? {
//!         Some(News::Broadcast { activity }) => {
//!             assert_eq!(activity, r#"{"message":"hello","authenticated_user":"bob"}"#);
//!             break;
//!         }
//!         Some(News::Lost { why }) => eprintln!("{why}; it goes on by itself"),
//!         Some(_) => {} // connected, registered, logged in, sent on to another server ...
//!         None => eprintln!("nothing for ten seconds"),
//!     }
//! }
//! let secret = connection.secret().expect("bob has one").to_owned(); // for the next time
//! assert_eq!(connection.close(Duration::from_secs(10))?, Over::LoggedOut);
//! # assert_eq!(secret.len(), 26);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Redirects are followed. A connection that breaks is made again, to any server it has heard of, as
//! [`Journey`] says, which also says what a break may cost.
//!
//! Invariant: at most [`NEWS_BYTES_MAX`] and one piece of news wait to be received; then the server is
//! not read, and after a minute of that it breaks the connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use serde_json::Value;
use zeroize::Zeroizing;

use super::desk::Desk;
use super::ids::Ids;
use super::journey::{Journey, News, Over};
use super::machine::Mode;
use super::memory::Memory;
use super::secret;
use super::travel::{Listener, travel};

/// News that may wait to be received; what broadcasts hold is counted, and 256 bytes for each.
pub const NEWS_BYTES_MAX: usize = 4 << 20;

/// Where to connect, and as whom.
#[derive(Clone)]
pub struct Settings {
    /// Servers by host name or address, and port. The first is tried first; there must be one.
    pub servers: Vec<(String, u16)>,
    /// Nobody or `anonymous`, without a secret: anonymous.
    pub name: Option<String>,
    /// With a name: login. A name without one is registered, with a secret made here.
    pub secret: Option<Zeroizing<String>>,
    /// The port to connect from, for all connections.
    pub local_port: Option<u16>,
    /// How many connections in a row may fail or break before it is over; none: any number.
    pub retries: Option<u32>,
    /// What a break may cost.
    pub delivery: Delivery,
}

/// What a break may cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// What existing clients have: at a break something may be lost or come twice.
    #[default]
    Plain,
    /// Nothing: what is said is heard by all once and in order, and what is heard is heard once, whatever server it
    /// goes to. Until this program ends.
    Once,
    /// The same, and what is needed for it is in this file, so that another run goes on. [`Connection::send`] returns
    /// when what is said is on the disk; what was heard counts as heard when it waits to be received.
    Kept(PathBuf),
}

impl Settings {
    /// An anonymous client that starts from one server and never gives up.
    pub fn at(host: &str, port: u16) -> Settings {
        let servers = vec![(host.to_owned(), port)];
        Settings {
            servers,
            name: None,
            secret: None,
            local_port: None,
            retries: None,
            delivery: Delivery::Plain,
        }
    }
}

/// Why a call failed. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The settings are wrong; nothing was done.
    Settings(String),
    /// What was to be sent is no JSON object; nothing was done.
    NoObject,
    /// As much as may wait for a server waits already; nothing was done.
    Full,
    /// Nothing can be sent or received any more.
    Over(Over),
    /// It is said, and could not be written to the file of [`Delivery::Kept`]; that is tried again.
    Unkept(String),
    /// [`Connection::end`] was called; nothing more can be sent.
    Ended,
    /// The time was over before the logout was done. What was not written is lost.
    Late,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Settings(why) => write!(f, "{why}"),
            Error::NoObject => write!(f, "an activity is a JSON object; put the value into one"),
            Error::Full => write!(f, "too much waits to be sent; try again when a server is reached"),
            Error::Over(over) => write!(f, "{over}"),
            Error::Unkept(why) => write!(f, "it is said and not kept: {why}; make room on the disk"),
            Error::Ended => write!(f, "nothing more can be sent after the end; open another connection"),
            Error::Late => write!(f, "no logout in time; what was not sent is lost"),
        }
    }
}

impl std::error::Error for Error {}

/// A client under way. All calls may come from any thread: one may send while another receives.
///
/// Dropped without [`Connection::close`] it breaks off: a registered user stays owed what is said.
pub struct Connection {
    desk: Arc<Desk>,
    inbox: Arc<Inbox>,
    secret: Option<Zeroizing<String>>,
}

impl Connection {
    /// Starts a client. Returns at once: the news tell how the connecting goes, and what is sent until
    /// then waits.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub fn open(settings: &Settings) -> Result<Connection, Error> {
        if settings.servers.is_empty() {
            return Err(Error::Settings("no server to connect to; name one".to_owned()));
        }
        let mode =
            secret::mode(settings.name.as_deref(), settings.secret.clone()).map_err(Error::Settings)?;
        let secret = match &mode {
            Mode::Register { secret, .. } | Mode::Login { secret, .. } => Some(secret.clone()),
            Mode::Anonymous => None,
        };
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| Error::Settings(format!("no random numbers: {error}")))?;
        let seed = u64::from_le_bytes(seed);
        let (memory, ids) = match &settings.delivery {
            Delivery::Plain => (None, None),
            Delivery::Once => {
                let mut client = [0; 16];
                getrandom::fill(&mut client)
                    .map_err(|error| Error::Settings(format!("no random numbers: {error}")))?;
                (None, Some(Ids::new(client)))
            }
            Delivery::Kept(path) => {
                let (memory, ids) = Memory::open(path).map_err(Error::Settings)?;
                (Some(memory), Some(ids))
            }
        };
        let mut journey = Journey::new(mode, settings.servers.iter().cloned(), settings.retries, seed);
        if let Some(ids) = ids {
            journey.number(ids);
        }
        let (desk, inbox) = (Arc::new(Desk::new(journey, memory)), Arc::new(Inbox::default()));
        let (local_port, at, mut to) = (settings.local_port, desk.clone(), inbox.clone());
        thread::spawn(move || {
            let Ok(over) = travel(&at, local_port, &mut to);
            to.lock().over = over;
            to.changed.notify_all();
            // Whoever waits for room to say more waits no longer.
            at.leave();
        });
        Ok(Connection { desk, inbox, secret })
    }

    /// The secret of this client's name: that of the settings, or the one made here.
    pub fn secret(&self) -> Option<&str> {
        self.secret.as_ref().map(|secret| secret.as_str())
    }

    /// Says one line: a JSON object goes out byte for byte, other text as `{"message":text}`; blank text
    /// says nothing. While [`WAITING_BYTES_MAX`](super::pipe::WAITING_BYTES_MAX) wait for a server, this
    /// waits too. It does not wait for the line to be heard: that is known when it comes back.
    ///
    /// # Errors
    /// [`Error::Over`], [`Error::Ended`]: the line is not said. [`Error::Unkept`]: it is.
    pub fn send(&self, line: &str) -> Result<(), Error> {
        let over = || self.inbox.lock().over.clone();
        // First, since whoever has received the end may call before the desk is left.
        if let Some(over) = over() {
            return Err(Error::Over(over));
        }
        match self.desk.say(line) {
            Ok(true) => Ok(()),
            Ok(false) => Err(over().map_or(Error::Ended, Error::Over)),
            Err(error) => Err(Error::Unkept(error.to_string())),
        }
    }

    /// The same, but never waits.
    ///
    /// # Errors
    /// Those of [`Connection::send`], and [`Error::Full`].
    pub fn try_send(&self, line: &str) -> Result<(), Error> {
        if self.desk.is_full() { Err(Error::Full) } else { self.send(line) }
    }

    /// Says one activity, which is a JSON object.
    ///
    /// # Errors
    /// Those of [`Connection::send`], and [`Error::NoObject`].
    pub fn send_value(&self, activity: &Value) -> Result<(), Error> {
        if activity.is_object() { self.send(&activity.to_string()) } else { Err(Error::NoObject) }
    }

    /// The next piece of news, or none if there is none in that time.
    ///
    /// # Errors
    /// [`Error::Over`] after the last one.
    pub fn receive(&self, patience: Duration) -> Result<Option<News<'static>>, Error> {
        let until = Instant::now() + patience;
        let mut held = self.inbox.lock();
        loop {
            if let Some(news) = held.news.pop_front() {
                held.bytes -= bytes(&news);
                self.inbox.changed.notify_all();
                return Ok(Some(news));
            }
            if let Some(over) = &held.over {
                return Err(Error::Over(over.clone()));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            held = self.inbox.changed.wait_timeout(held, left).expect(NO_PANIC).0;
        }
    }

    /// Says that nothing more is said: LOGOUT follows. What is still owed can be received, until
    /// [`Error::Over`].
    pub fn end(&self) {
        self.desk.end();
    }

    /// Logs out, throws away what was not received, and waits for the end. It is over then in any case.
    ///
    /// # Errors
    /// [`Error::Late`] if that takes longer than `patience`, as when no server is reached.
    pub fn close(self, patience: Duration) -> Result<Over, Error> {
        self.end();
        let until = Instant::now() + patience;
        loop {
            match self.receive(until.saturating_duration_since(Instant::now())) {
                Ok(Some(_)) => {}
                Err(Error::Over(over)) => return Ok(over),
                Ok(None) | Err(_) => return Err(Error::Late),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.desk.leave();
        self.inbox.lock().left = true;
        self.inbox.changed.notify_all();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("over", &self.inbox.lock().over).finish_non_exhaustive()
    }
}

/// News on their way from the thread that reads.
#[derive(Default)]
struct Inbox {
    held: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    news: VecDeque<News<'static>>,
    bytes: usize,
    over: Option<Over>,
    /// Nobody receives any more.
    left: bool,
}

const NO_PANIC: &str = "no thread panics while it holds the inbox";

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.held.lock().expect(NO_PANIC)
    }
}

impl Listener for Arc<Inbox> {
    type Stop = Infallible;

    fn hear(&mut self, news: News<'_>) -> Result<(), Infallible> {
        let mut held = self.lock();
        while held.bytes >= NEWS_BYTES_MAX && !held.left {
            held = self.changed.wait(held).expect(NO_PANIC);
        }
        if !held.left {
            held.bytes += bytes(&news);
            held.news.push_back(news.into_owned());
            self.changed.notify_all();
        }
        Ok(())
    }
}

/// What a piece of news counts for.
fn bytes(news: &News<'_>) -> usize {
    256 + if let News::Broadcast { activity } = news { activity.len() } else { 0 }
}
