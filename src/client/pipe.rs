//! The client on a pipe: each line of input is an activity, each broadcast a line of output.
//!
//! Three threads share the machine under one lock that nobody holds while waiting for a descriptor:
//! one reads the input, one writes the connection, and the caller's reads the connection and prints.
//! So neither a server that does not read nor a reader of ours that is slow can block the other way.
//!
//! Invariant: at most [`WAITING_BYTES_MAX`] and one line of input wait for the server; the rest stays
//! in the pipe, where its writer feels it.

use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use zeroize::Zeroizing;

use super::desk::Desk;
pub use super::desk::WAITING_BYTES_MAX;
use super::journey::{Journey, News, Over};
use super::keyring::Keyring;
use super::lines::{LINE_BYTES_MAX, Lines};
use super::machine::{DRAIN, Mode};
use super::memory::Memory;
use super::secret;
use super::travel::{Listener, travel};

/// Output gathered before it is written; it is also written whenever the client would wait.
const OUTPUT_BYTES: usize = 64 << 10;

/// What the command line says.
#[derive(Clone, Default)]
pub struct Options {
    /// The server's host name or address; each address of a name is tried.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// Other servers to try when that one is not there. A pipe without a memory does not.
    pub others: Vec<(String, u16)>,
    /// Nobody or `anonymous`, without a secret: anonymous.
    pub name: Option<String>,
    /// With a name: login. A name without one is registered, with a secret made here.
    pub secret: Option<String>,
    /// The port to connect from, for this connection and those it is redirected to.
    pub local_port: Option<u16>,
    /// Say nothing: input is not read, and its end does not end the session. Without `count` only the
    /// server's close does, as [`Exit::ConnectionFailed`].
    pub listen: bool,
    /// Log out after printing that many broadcasts, if the end of input does not come first.
    pub count: Option<u64>,
    /// The file of a client with an id: what is said and heard in it is said and heard once, over all connections
    /// and runs. Then a pipe, too, makes a broken connection again.
    pub memory: Option<PathBuf>,
    /// Where secrets made here are remembered, and looked for when a name comes without one.
    pub keys: Option<Keyring>,
}

impl Options {
    /// The secret that was given, or else the one that is remembered; true with the latter.
    ///
    /// # Errors
    /// A sentence: what is remembered cannot be read.
    pub(super) fn secret(&self) -> Result<(Option<Zeroizing<String>>, bool), String> {
        let given = self.secret.clone().map(Zeroizing::new);
        let (None, Some(name), Some(keys)) = (&given, &self.name, &self.keys) else {
            return Ok((given, false));
        };
        let found = keys.find(&self.host, self.port, name)?;
        let is_kept = found.is_some();
        Ok((found, is_kept))
    }

    /// Remembers a secret that was made here, and gives the words to tell it.
    pub(super) fn keep(&self, name: &str, secret: &str) -> String {
        let told = format!("registered as {name}, secret {secret}; log in again with -u {name} -s {secret}");
        match self.keys.as_ref().map(|keys| keys.keep(&self.host, self.port, name, secret).map(|()| keys)) {
            None => told,
            Some(Ok(keys)) => format!("{told} (or without -s here: {} has it)", keys.file().display()),
            Some(Err(why)) => format!("{told} (it is not remembered: {why})"),
        }
    }

    /// What to do if the remembered secret is refused.
    pub(super) fn kept_where(&self) -> String {
        let Some(keys) = &self.keys else { return String::new() };
        format!(
            "; the secret was that of {}: give another, or take its line out there",
            keys.file().display()
        )
    }
}

/// How a run ended. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All input was sent and everything heard until the logout was printed, or `count` broadcasts were.
    Done = 0,
    /// No connection, or it was lost before the logout, also when the server closed it; redirects in
    /// circles. What was not sent yet is lost.
    ConnectionFailed = 1,
    /// The server refused the name or the secret. (2 is a wrong command line.)
    Refused = 3,
    /// The server refused a message, or the input could not be read or has a line that is too long.
    Invalid = 4,
    /// The output could not be written. Silent if its reader has left, as in `client | head`.
    Output = 5,
}

impl Exit {
    /// That of a journey that ended so.
    pub(super) fn of(over: &Over) -> Exit {
        match over {
            Over::LoggedOut => Exit::Done,
            Over::Refused { .. } => Exit::Refused,
            Over::Invalid { .. } => Exit::Invalid,
            Over::Circling | Over::Lost { .. } | Over::Unreached { .. } => Exit::ConnectionFailed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a run ends early: the code, and the words for standard error, empty to be quiet.
struct Stop(Exit, String);

/// Runs a client until it is done. Blocks; standard error gets what went wrong and a generated secret.
///
/// A thread that waits in `input.read` is left behind, to end with its next line or the process.
pub fn run(options: &Options, input: impl Read + Send + 'static, output: impl Write) -> Exit {
    match Pipe::new(options, input, output).and_then(Pipe::run) {
        Ok(()) => Exit::Done,
        Err(Stop(exit, why)) => {
            tell(&why);
            exit
        }
    }
}

/// A client under way: the thread that reads the connections and prints.
struct Pipe<'a, R, W: Write> {
    options: &'a Options,
    desk: Arc<Desk>,
    /// Until a connection stands and it is read.
    input: Option<R>,
    output: BufWriter<W>,
    /// Broadcasts still to print.
    left: Option<u64>,
    /// When to stop waiting for the server's close, once all broadcasts wanted are printed.
    enough: Option<Duration>,
    /// A generated secret, until it was told.
    fresh: Option<Zeroizing<String>>,
    /// The secret is a remembered one.
    kept: bool,
    /// Why the input could not be read to its end.
    spoiled: Arc<Mutex<Option<String>>>,
}

impl<'a, R: Read + Send + 'static, W: Write> Pipe<'a, R, W> {
    fn new(options: &'a Options, input: R, output: W) -> Result<Self, Stop> {
        if options.name.is_none() && options.secret.is_some() {
            return Err(Stop(Exit::Refused, "a secret (-s) needs a name: add -u NAME".to_owned()));
        }
        let (secret, kept) = options.secret().map_err(|why| Stop(Exit::Invalid, why))?;
        let mode =
            secret::mode(options.name.as_deref(), secret).map_err(|why| Stop(Exit::ConnectionFailed, why))?;
        let fresh = if let Mode::Register { secret, .. } = &mode { Some(secret.clone()) } else { None };
        Ok(Pipe {
            options,
            desk: Arc::new(desk(options, mode)?),
            input: Some(input).filter(|_| !options.listen),
            output: BufWriter::with_capacity(OUTPUT_BYTES, output),
            left: options.count,
            enough: None,
            fresh,
            kept,
            spoiled: Arc::default(),
        })
    }

    /// Lives until the session is over for good, and says what of it went wrong.
    fn run(mut self) -> Result<(), Stop> {
        self.check_count();
        let desk = self.desk.clone();
        let over = travel(&desk, self.options.local_port, &mut self);
        // However it ended, the thread that reads input has nobody to read for any more.
        desk.end();
        let result = over.and_then(|over| self.result(over.unwrap_or(Over::LoggedOut)));
        let flushed = self.output.flush().map_err(output_failed);
        match self.spoiled.lock().expect("no thread panics while it holds this").take() {
            Some(why) if result.is_ok() => Err(Stop(Exit::Invalid, why)),
            _ => result.and(flushed),
        }
    }

    fn result(&mut self, over: Over) -> Result<(), Stop> {
        let why = match over {
            Over::LoggedOut => return Ok(()),
            Over::Refused { .. } if self.kept => format!("{over}{}", self.options.kept_where()),
            Over::Refused { .. } => format!("{over} (-u, -s)"),
            Over::Unreached { redirected: false, .. } => format!("{over} Check -rh and -rp"),
            Over::Lost { .. } => self.lost(&over),
            _ => over.to_string(),
        };
        Err(Stop(Exit::of(&over), why))
    }

    fn lost(&mut self, over: &Over) -> String {
        let mut why = over.to_string();
        if let (Some(name), Some(secret)) = (&self.options.name, self.fresh.take()) {
            let secret = secret.as_str();
            why.push_str(&format!(" If {name} was registered all the same, its secret is {secret}"));
        }
        why
    }

    fn print(&mut self, activity: &str) -> Result<(), Stop> {
        if self.left == Some(0) {
            return Ok(());
        }
        self.output.write_all(activity.as_bytes()).map_err(output_failed)?;
        self.output.write_all(b"\n").map_err(output_failed)?;
        if self.options.memory.is_some() {
            // It is noted as heard next: rather twice than never.
            self.output.flush().map_err(output_failed)?;
        }
        self.left = self.left.map(|left| left - 1);
        self.check_count();
        Ok(())
    }

    /// Logs out once all broadcasts wanted are printed. The connection is still read for a while: a
    /// close with bytes unread would be a reset, and might take the LOGOUT with it.
    fn check_count(&mut self) {
        if self.left == Some(0) && self.enough.is_none() {
            self.enough = Some(self.desk.now() + DRAIN);
            self.desk.end();
        }
    }

    fn tell_secret(&mut self) {
        if let (Some(name), Some(secret)) = (&self.options.name, self.fresh.take()) {
            tell(&self.options.keep(name, &secret));
        }
    }
}

impl<R: Read + Send + 'static, W: Write> Listener for Pipe<'_, R, W> {
    type Stop = Stop;

    fn hear(&mut self, news: News<'_>) -> Result<(), Stop> {
        match news {
            News::Broadcast { activity } => return self.print(&activity),
            News::Connected { .. } => {
                if let Some(input) = self.input.take() {
                    let (desk, spoiled) = (self.desk.clone(), self.spoiled.clone());
                    thread::spawn(move || read_input(&desk, input, &spoiled));
                }
            }
            News::Registered { .. } => self.tell_secret(),
            News::LoggedIn { info } => log::info!("{info}"),
            News::Redirected { host, port } => log::info!("redirected to {host} port {port}"),
            News::Ignored { why } => log::warn!("ignored a line from the server: {why}"),
            News::Lost { why } if self.options.memory.is_some() => tell(&format!("{why}; trying again")),
            // The end of the journey says so.
            News::Acknowledged { .. } | News::Quiet => {}
            News::Refused { .. } | News::Invalid { .. } | News::Lost { .. } | News::Waiting { .. } => {}
        }
        Ok(())
    }

    fn pause(&mut self) -> Result<(), Stop> {
        self.output.flush().map_err(output_failed)
    }

    fn enough(&self) -> Option<Duration> {
        self.enough
    }
}

/// Where the threads meet. Without a memory the first break is the end.
fn desk(options: &Options, mode: Mode) -> Result<Desk, Stop> {
    let first = (options.host.clone(), options.port);
    let Some(path) = &options.memory else {
        return Ok(Desk::new(Journey::new(mode, [first], Some(0), 0), None));
    };
    let (memory, ids) = Memory::open(path).map_err(|why| Stop(Exit::Invalid, why))?;
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| Stop(Exit::Invalid, format!("no random numbers: {error}")))?;
    let servers = [first].into_iter().chain(options.others.iter().cloned());
    let mut journey = Journey::new(mode, servers, None, u64::from_le_bytes(seed));
    journey.number(ids);
    Ok(Desk::new(journey, Some(memory)))
}

/// The input's thread: says line after line, and ends the session at the end of input.
fn read_input(desk: &Desk, mut input: impl Read, spoiled: &Mutex<Option<String>>) {
    let say = |line: &[u8]| desk.say(&String::from_utf8_lossy(line)).is_ok_and(|said| said);
    let mut lines = Lines::new(LINE_BYTES_MAX);
    let read = loop {
        while let Some(line) = lines.take() {
            if !say(line) {
                return;
            }
        }
        match lines.fill(&mut input) {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    match read {
        Ok(()) => drop(say(lines.rest())),
        Err(error) => {
            let why = format!("cannot read the input: {error}; what came before was sent");
            *spoiled.lock().expect("no thread panics while it holds this") = Some(why);
        }
    }
    desk.end();
}

fn output_failed(error: io::Error) -> Stop {
    let quiet = error.kind() == ErrorKind::BrokenPipe;
    Stop(Exit::Output, if quiet { String::new() } else { format!("cannot write the output: {error}") })
}

/// Says it on standard error, if there is one.
pub(super) fn tell(what: &str) {
    if !what.is_empty() {
        let _ = writeln!(io::stderr(), "{what}");
    }
}
