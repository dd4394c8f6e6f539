//! The client on a pipe: each line of input is an activity, each broadcast a line of output.
//!
//! Three threads share the machine under one lock that nobody holds while waiting for a descriptor:
//! one reads the input, one writes the connection, and the caller's reads the connection and prints.
//! So neither a server that does not read nor a reader of ours that is slow can block the other way.
//!
//! Invariant: at most [`WAITING_BYTES_MAX`] and one line of input wait for the server; the rest stays
//! in the pipe, where its writer feels it.

use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;

use zeroize::Zeroizing;

use self::journey::Journey;
use super::machine::{ANONYMOUS, Mode};

mod desk;
mod journey;

/// Input that may wait to be written to the server before no more of it is read.
pub const WAITING_BYTES_MAX: usize = 1 << 20;
/// Characters of a generated secret, of 5 bits each, as existing clients make them.
const SECRET_CHARS: usize = 26;

/// What the command line says.
#[derive(Clone, Default)]
pub struct Options {
    /// The server's host name or address; each address of a name is tried.
    pub host: String,
    /// The server's port.
    pub port: u16,
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
    match mode(options).and_then(|(mode, fresh)| Journey::new(options, mode, fresh, output).run(input)) {
        Ok(()) => Exit::Done,
        Err(Stop(exit, why)) => {
            tell(&why);
            exit
        }
    }
}

/// Who the options say the client is, and a secret made for it.
fn mode(options: &Options) -> Result<(Mode, Option<Zeroizing<String>>), Stop> {
    match (options.name.clone(), options.secret.clone().map(Zeroizing::new)) {
        (None, None) => Ok((Mode::Anonymous, None)),
        (Some(name), None) if name == ANONYMOUS => Ok((Mode::Anonymous, None)),
        (Some(name), Some(secret)) => Ok((Mode::Login { name, secret }, None)),
        (Some(name), None) => {
            let secret = secret()?;
            Ok((Mode::Register { name, secret: secret.clone() }, Some(secret)))
        }
        (None, Some(_)) => Err(Stop(Exit::Refused, "a secret (-s) needs a name: add -u NAME".to_owned())),
    }
}

/// A new secret: base 32, so that every terminal, shell and person takes it as it is.
fn secret() -> Result<Zeroizing<String>, Stop> {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut bytes = Zeroizing::new([0; SECRET_CHARS]);
    getrandom::fill(&mut *bytes).map_err(|error| {
        Stop(Exit::ConnectionFailed, format!("cannot make a secret: {error}; give one with -s"))
    })?;
    Ok(Zeroizing::new(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()))
}

fn refused(command: &str, info: &str) -> Stop {
    let why = match command {
        "REGISTER_FAILED" => {
            format!("registration refused: {info}; take another name, or give this one's secret with -s")
        }
        _ => format!("login refused: {info}; check -u and -s"),
    };
    Stop(Exit::Refused, why)
}

fn output_failed(error: io::Error) -> Stop {
    let quiet = error.kind() == ErrorKind::BrokenPipe;
    Stop(Exit::Output, if quiet { String::new() } else { format!("cannot write the output: {error}") })
}

/// Says it on standard error, if there is one.
fn tell(what: &str) {
    if !what.is_empty() {
        let _ = writeln!(io::stderr(), "{what}");
    }
}
