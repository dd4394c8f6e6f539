//! From connection to connection, as the servers redirect: the thread that reads and prints.
//!
//! Invariant: a connection is read to its end, or for as long as the machine allows, before the next
//! one is made; so what one sender said is printed in the order of saying.

use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::super::lines::{LINE_BYTES_MAX, Lines};
use super::super::link;
use super::super::machine::{Client, Closed, DRAIN, Event, Mode, REDIRECTS_MAX};
use super::desk::Desk;
use super::{Exit, Options, Stop, output_failed, refused, tell};

/// Output gathered before it is written; it is also written whenever the client would wait.
const OUTPUT_BYTES: usize = 64 << 10;

/// A client under way.
pub(super) struct Journey<'a, W: Write> {
    options: &'a Options,
    /// Where to connect next.
    address: (String, u16),
    desk: Arc<Desk>,
    output: BufWriter<W>,
    /// Broadcasts still to print.
    left: Option<u64>,
    /// When to stop waiting for the server's close, once all broadcasts wanted are printed.
    enough: Option<Duration>,
    /// `address` is another server's word.
    redirected: bool,
    /// This connection has answered the login.
    logged_in: bool,
    /// A generated secret, until it was told.
    fresh: Option<Zeroizing<String>>,
    start: Instant,
}

/// How the reading of one connection ended.
enum End {
    /// The server closed it.
    Eof,
    /// It broke.
    Broken(io::Error),
    /// Nobody waits for what is still to come.
    Enough,
}

impl<'a, W: Write> Journey<'a, W> {
    /// `fresh` is the secret to tell once it is registered.
    pub(super) fn new(options: &'a Options, mode: Mode, fresh: Option<Zeroizing<String>>, output: W) -> Self {
        Journey {
            options,
            address: (options.host.clone(), options.port),
            desk: Arc::new(Desk::new(Client::new(mode))),
            output: BufWriter::with_capacity(OUTPUT_BYTES, output),
            left: options.count,
            enough: None,
            redirected: false,
            logged_in: false,
            fresh,
            start: Instant::now(),
        }
    }

    /// Lives until the session is over for good, and says what of it went wrong.
    pub(super) fn run(mut self, input: impl Read + Send + 'static) -> Result<(), Stop> {
        let input = Some(input).filter(|_| !self.options.listen);
        let result = self.follow(input);
        // However it ended, the thread that reads input has nobody to read for any more.
        self.desk.end();
        let flushed = self.output.flush().map_err(output_failed);
        match self.desk.lock().spoiled.take() {
            Some(why) if result.is_ok() => Err(Stop(Exit::Invalid, why)),
            _ => result.and(flushed),
        }
    }

    /// Lives through one connection after another, as the servers redirect.
    fn follow(&mut self, mut input: Option<impl Read + Send + 'static>) -> Result<(), Stop> {
        self.check_count();
        loop {
            let socket = self.connect()?;
            if let Some(input) = input.take() {
                let desk = self.desk.clone();
                thread::spawn(move || desk.read_input(input));
            }
            if self.visit(&socket)? != Closed::Moved {
                return Ok(());
            }
            self.redirected = true;
        }
    }

    fn connect(&self) -> Result<TcpStream, Stop> {
        let (host, port) = &self.address;
        link::dial(host, *port, self.options.local_port).map_err(|why| {
            let remedy = if self.redirected {
                "a server redirected here; is that one's -lh a name this machine can reach?"
            } else {
                "is a server running there? Check -rh and -rp"
            };
            Stop(Exit::ConnectionFailed, format!("{why}; {remedy}"))
        })
    }

    /// Lives through one connection; never returns `Lost`.
    fn visit(&mut self, socket: &TcpStream) -> Result<Closed, Stop> {
        let desk = self.desk.clone();
        desk.open();
        self.logged_in = false;
        let end = thread::scope(|scope| {
            scope.spawn(|| desk.write_link(socket));
            let end = self.read_link(socket);
            if let Ok(End::Eof | End::Broken(_)) = end {
                let until = desk.lock().client.timeout().unwrap_or_else(|| self.now() + DRAIN);
                desk.settle(until.saturating_sub(self.now()));
            }
            desk.close(socket);
            end
        })?;
        let closed = self.desk.lock().client.closed();
        match (end, closed) {
            (End::Enough, _) => Ok(Closed::LoggedOut),
            (_, Closed::Moved) => Ok(Closed::Moved),
            (End::Eof, Closed::LoggedOut) => Ok(Closed::LoggedOut),
            _ if self.enough.is_some() => Ok(Closed::LoggedOut),
            (End::Eof, _) => Err(self.lost("the server closed the connection")),
            (End::Broken(error), _) => Err(self.lost(&format!("the connection broke ({error})"))),
        }
    }

    fn read_link(&mut self, mut socket: &TcpStream) -> Result<End, Stop> {
        let mut lines = Lines::new(LINE_BYTES_MAX);
        loop {
            let now = self.now();
            while let Some(line) = lines.take() {
                let event = self.desk.lock().client.handle(now, line);
                self.on_event(event)?;
            }
            self.output.flush().map_err(output_failed)?;
            if let Some(deadline) = self.deadline() {
                let left = deadline.saturating_sub(self.now());
                if left.is_zero() {
                    return Ok(if self.enough.is_some() { End::Enough } else { End::Eof });
                }
                if let Err(error) = socket.set_read_timeout(Some(left)) {
                    return Ok(End::Broken(error));
                }
            }
            match lines.fill(&mut socket) {
                Ok(0) => return Ok(End::Eof),
                Ok(_) => {}
                // The next turn sees that the deadline is over.
                Err(error) if is_timeout(&error) && self.deadline().is_some() => {}
                Err(error) => return Ok(End::Broken(error)),
            }
        }
    }

    fn on_event(&mut self, event: Event<'_>) -> Result<(), Stop> {
        match event {
            Event::Broadcast { activity } => return self.print(activity),
            Event::Registered { .. } => self.tell_secret(),
            Event::LoggedIn { info } => {
                log::info!("{info}");
                self.logged_in = true;
            }
            Event::Redirect { host, port } => {
                log::info!("redirected to {host} port {port}");
                self.address = (host, port);
            }
            Event::Refused { command, info } => return Err(refused(&command, &info)),
            Event::Invalid { info } => {
                return Err(Stop(Exit::Invalid, format!("the server refused a message: {info}")));
            }
            Event::Circling => {
                let why = format!("redirected more than {REDIRECTS_MAX} times in a row; try again later");
                return Err(Stop(Exit::ConnectionFailed, why));
            }
            Event::Acknowledged { .. } | Event::Announced | Event::Repeated => {}
            Event::Malformed { why } => log::warn!("ignored a line from the server: {why}"),
        }
        // Each of these may have given the writing thread something to do.
        self.desk.changed();
        Ok(())
    }

    fn print(&mut self, activity: &str) -> Result<(), Stop> {
        if self.left == Some(0) {
            return Ok(());
        }
        self.output.write_all(activity.as_bytes()).map_err(output_failed)?;
        self.output.write_all(b"\n").map_err(output_failed)?;
        self.left = self.left.map(|left| left - 1);
        self.check_count();
        Ok(())
    }

    /// Logs out once all broadcasts wanted are printed. The connection is still read for a while: a
    /// close with bytes unread would be a reset, and might take the LOGOUT with it.
    fn check_count(&mut self) {
        if self.left == Some(0) && self.enough.is_none() {
            self.enough = Some(self.now() + DRAIN);
            self.desk.end();
        }
    }

    fn tell_secret(&mut self) {
        if let (Some(name), Some(secret)) = (&self.options.name, self.fresh.take()) {
            let secret = secret.as_str();
            tell(&format!("registered as {name}, secret {secret}; log in again with -u {name} -s {secret}"));
        }
    }

    fn lost(&mut self, what: &str) -> Stop {
        let mut why = if self.logged_in {
            format!("{what} before the logout; what was not sent is lost, run the client again")
        } else {
            format!("{what} before it answered; is port {} a server's?", self.address.1)
        };
        if let (Some(name), Some(secret)) = (&self.options.name, self.fresh.take()) {
            why.push_str(&format!(
                " If {name} was registered all the same, its secret is {}",
                secret.as_str()
            ));
        }
        Stop(Exit::ConnectionFailed, why)
    }

    /// When to stop reading a connection that the server does not close.
    fn deadline(&self) -> Option<Duration> {
        self.enough.or_else(|| self.desk.lock().client.timeout())
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// What an expired read timeout looks like, which differs by system.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
