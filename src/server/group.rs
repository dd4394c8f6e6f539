//! A group: several servers of this machine as one, for as many cores. Each is a process with a port and a folder
//! of its own, linked to the others as any server; besides all listen on one port that they share, so the kernel
//! spreads who knocks there. Redirects do the rest.
//!
//! The process here only looks after them: it starts them, starts one again that ended, and passes signals on.
//! Should it be killed, they stop as if told to.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use socket2::{Domain, Protocol, Socket, Type};
use zeroize::Zeroizing;

use super::spawn::{STACK, this_binary};
use super::{notify, sys};
use crate::base::limits::{AGAIN_LEAST, AGAIN_MOST, AGAIN_RESET};

/// What a group is made of.
pub struct Group {
    /// How many servers.
    pub servers: u16,
    /// The port they share; 0 takes a free one, and free ones for each. Else theirs follow it.
    pub port: u16,
    /// What all are started with, but for what differs.
    pub flags: Vec<OsString>,
    /// Under which name they find each other.
    pub hostname: String,
    /// A server outside that the first joins.
    pub join: Option<(String, u16)>,
    /// Where their status pages are: on this port and those that follow it, or on free ones if it is 0.
    pub http: Option<SocketAddr>,
    /// The cluster secret.
    pub secret: Zeroizing<Vec<u8>>,
}

/// What happens to who looks after them.
enum Event {
    Signal(i32),
    /// A server has its listeners: what it printed.
    Ready(usize, Vec<String>),
    /// A server ended.
    Ended(usize, String),
}

/// One of the servers.
#[derive(Default)]
struct Member {
    process: Option<u32>,
    /// Its own port, once it is known, and where its status pages are.
    port: Option<u16>,
    http: Option<SocketAddr>,
    ready_at: Option<Instant>,
    /// What it printed.
    lines: Vec<String>,
    /// When it is started again, and after what wait it will be the next time.
    again_at: Option<Instant>,
    wait: Duration,
}

impl Group {
    /// Runs until SIGTERM or SIGINT, which stop all of them.
    ///
    /// # Errors
    /// One of them could not start at all; the others were stopped.
    pub fn run(mut self) -> Result<(), String> {
        let held = match self.port {
            0 => {
                let (socket, port) = hold().map_err(|e| format!("no port can be had to share: {e}"))?;
                self.port = port;
                Some(socket)
            }
            port if port.checked_add(self.servers).is_none() => {
                return Err(format!(
                    "{} servers need ports up to {}, and the last is 65535",
                    self.servers,
                    u32::from(port) + u32::from(self.servers)
                ));
            }
            _ => None,
        };
        let members = (0..self.servers).map(|k| Member {
            port: held.is_none().then(|| self.port + 1 + k),
            http: self.http.map(|at| match at.port() {
                0 => at,
                port => SocketAddr::new(at.ip(), port.saturating_add(k)),
            }),
            wait: AGAIN_LEAST,
            ..Member::default()
        });
        let members = members.collect();
        let (tell, events) = mpsc::channel();
        listen_to_signals(tell.clone()).map_err(|e| format!("no signal can be heard: {e}"))?;
        let mut care = Care { group: self, members, tell, is_up: false, is_stopping: false, failed: None };
        care.start(0);
        while care.members.iter().any(|member| member.process.is_some() || member.again_at.is_some()) {
            let again = care.members.iter().filter_map(|member| member.again_at).min();
            let wait = again.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            match events.recv_timeout(wait.min(AGAIN_MOST)) {
                Ok(event) => care.on(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            care.start_again();
        }
        drop(held);
        care.failed.map_or(Ok(()), Err)
    }
}

/// A free port that stays this group's: bound so that others of the same user may listen on it, and not listened
/// on here.
fn hold() -> io::Result<(Socket, u16)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).into())?;
    let port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
    Ok((socket, port))
}

fn listen_to_signals(tell: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    let work = move || signals.forever().all(|signal| tell.send(Event::Signal(signal)).is_ok());
    thread::Builder::new().name("signals".to_owned()).stack_size(STACK).spawn(work).map(drop)
}

/// Who looks after them.
struct Care {
    group: Group,
    members: Vec<Member>,
    tell: Sender<Event>,
    /// All were there at once.
    is_up: bool,
    is_stopping: bool,
    failed: Option<String>,
}

impl Care {
    fn on(&mut self, event: Event) {
        match event {
            Event::Signal(signal) => self.pass_on(signal),
            Event::Ready(k, lines) => self.on_ready(k, lines),
            Event::Ended(k, how) => self.on_ended(k, &how),
        }
    }

    fn pass_on(&mut self, signal: i32) {
        if [SIGTERM, SIGINT].contains(&signal) {
            self.stop();
        }
        for process in self.members.iter().filter_map(|member| member.process) {
            sys::signal(process, signal);
        }
    }

    fn stop(&mut self) {
        if !self.is_stopping {
            notify::tell("STOPPING=1");
        }
        self.is_stopping = true;
        self.members.iter_mut().for_each(|member| member.again_at = None);
    }

    fn on_ready(&mut self, k: usize, lines: Vec<String>) {
        let said = |what: &str| {
            let address = |line: &String| line.strip_prefix(what)?.trim_end_matches('/').parse().ok();
            lines.iter().find_map(address)
        };
        let member = &mut self.members[k];
        member.port = said("listening on ").map(|at: SocketAddr| at.port()).or(member.port);
        member.http = said("status on http://").or(member.http);
        (member.ready_at, member.lines) = (Some(Instant::now()), lines);
        // The others join the first.
        for k in 0..self.members.len() {
            if self.members[k].process.is_none() && self.members[k].again_at.is_none() && !self.is_stopping {
                self.start(k);
            }
        }
        if !self.is_up && self.members.iter().all(|member| member.ready_at.is_some()) {
            self.is_up = true;
            // For scripts; that nobody reads it is no reason to stop.
            let lines = self.members.iter().flat_map(|member| &member.lines);
            lines.for_each(|line| drop(writeln!(io::stdout(), "{line}")));
            let _ = writeln!(io::stdout(), "{SHARING}{}", self.group.port);
            notify::tell("READY=1");
        }
    }

    fn on_ended(&mut self, k: usize, how: &str) {
        let member = &mut self.members[k];
        member.process = None;
        let ready_at = member.ready_at.take();
        if self.is_stopping {
            return;
        }
        if !self.is_up {
            self.failed = Some(format!("server {} of the group could not start: {how}", k + 1));
            return self.pass_on(SIGTERM);
        }
        let member = &mut self.members[k];
        if ready_at.is_some_and(|at| at.elapsed() >= AGAIN_RESET) {
            member.wait = AGAIN_LEAST;
        }
        log::error!("server {} of the group ended: {how}; again in {:?}", k + 1, member.wait);
        member.again_at = Some(Instant::now() + member.wait);
        member.wait = (member.wait * 2).min(AGAIN_MOST);
    }

    fn start_again(&mut self) {
        for k in 0..self.members.len() {
            if self.members[k].again_at.is_some_and(|at| at <= Instant::now()) {
                self.start(k);
            }
        }
    }

    /// Starts one. A thread of its own waits for its end.
    fn start(&mut self, k: usize) {
        self.members[k].again_at = None;
        let (mut command, tell) = (self.command(k), self.tell.clone());
        let secret = self.group.secret.clone();
        // The thread that starts a process must live as long: the kernel takes its end for that of the parent.
        let (started, process) = mpsc::channel();
        let work = move || {
            let how = match command.spawn() {
                Ok(child) => {
                    let _ = started.send(child.id());
                    watch(child, &secret, |lines| drop(tell.send(Event::Ready(k, lines))))
                }
                Err(error) => format!("its process cannot be started: {error}"),
            };
            drop(started);
            let _ = tell.send(Event::Ended(k, how));
        };
        let begun = thread::Builder::new().name(format!("server {}", k + 1)).stack_size(STACK).spawn(work);
        match begun {
            Ok(_) => self.members[k].process = process.recv().ok(),
            Err(error) => {
                let _ = self.tell.send(Event::Ended(k, format!("no thread can be started: {error}")));
            }
        }
        if let Some(process) = self.members[k].process {
            log::info!("server {} of the group is process {process}", k + 1);
        }
    }

    fn command(&self, k: usize) -> Command {
        let Group { port, flags, hostname, join, .. } = &self.group;
        let mut command = Command::new(this_binary());
        command.arg("server").args(flags);
        command.args(["--processes=1".to_owned(), format!("--shared-port={port}")]);
        command.arg("--secret-file=/dev/stdin");
        command.arg(format!("--local-port={}", self.members[k].port.unwrap_or(0)));
        let others = self.members.iter().enumerate().filter(|(other, m)| *other != k && m.ready_at.is_some());
        let other = others.filter_map(|(_, member)| Some((hostname.clone(), member.port?))).next();
        if let Some((host, port)) = other.or_else(|| join.clone()) {
            command.args([format!("--remote-host={host}"), format!("--remote-port={port}")]);
        }
        if let Some(at) = self.members[k].http {
            command.arg(format!("--http={at}"));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.env_remove("NOTIFY_SOCKET");
        sys::in_own_session(&mut command);
        sys::ends_with_parent(&mut command);
        command
    }
}

/// Hands over the secret, tells what is printed until the server is ready, and waits for its end: how it was.
fn watch(mut child: Child, secret: &[u8], ready: impl Fn(Vec<String>)) -> String {
    if let Some(mut input) = child.stdin.take() {
        // One that has ended does not read it; how it ended says why.
        let _ = input.write_all(secret);
    }
    let mut lines = Vec::new();
    for line in child.stdout.take().into_iter().flat_map(|output| BufReader::new(output).lines()) {
        match line {
            Ok(line) if line.starts_with(SHARING) => ready(std::mem::take(&mut lines)),
            Ok(line) => lines.push(line),
            Err(_) => break,
        }
    }
    match child.wait() {
        Ok(status) => status.to_string(),
        Err(error) => format!("its process cannot be waited for: {error}"),
    }
}

/// What a server prints, last of all, in front of the port that it shares.
pub const SHARING: &str = "sharing port ";
