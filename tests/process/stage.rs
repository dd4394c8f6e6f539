//! A server in a process of its own, and clients as plain sockets.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::common::{check_line, command};

pub const BINARY: &str = env!("CARGO_BIN_EXE_activitystreamer");
/// How long anything may take; nothing takes nearly as long unless it never comes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A process that is killed when its test ends, and what it prints.
pub struct Process {
    child: Child,
    pub output: Lines,
    pub errors: Lines,
}

impl Process {
    pub fn start(command: &mut Command) -> Process {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} starts: {error}"));
        let output = Lines::of(child.stdout.take().expect("it is piped"));
        let errors = Lines::of(child.stderr.take().expect("it is piped"));
        Process { child, output, errors }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What is written here is its standard input, if that is piped.
    pub fn input(&mut self) -> &mut Option<std::process::ChildStdin> {
        &mut self.child.stdin
    }

    pub fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args(["-s", signal, &self.id().to_string()]).status();
        assert!(kill.is_ok_and(|status| status.success()), "SIG{signal} can be sent");
    }

    /// Has a server that stops do so at once. A signal that comes with the first, or nearly, is the first.
    pub fn hurry(&self) {
        let until = Instant::now() + PATIENCE;
        while !self.errors.so_far().iter().any(|line| line.contains("stopping at once")) {
            assert!(Instant::now() < until, "it stops at once within {PATIENCE:?}");
            self.signal("TERM");
        }
    }

    /// Ends it with SIGKILL, without the time another process takes to do that.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is our child");
    }

    /// Waits for its end: the end of its output comes first.
    pub fn end(&mut self) -> ExitStatus {
        self.output.rest();
        self.child.wait().expect("it is our child")
    }

    /// Its end must come with this exit code.
    pub fn end_with(&mut self, code: i32) {
        let status = self.end();
        assert_eq!(status.code(), Some(code), "{status}; on standard error: {}", self.errors.rest());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process prints, line by line.
pub struct Lines(Receiver<String>);

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Lines {
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(pipe).split(b'\n');
            while let Some(Ok(line)) = lines.next()
                && tell.send(String::from_utf8_lossy(&line).into_owned()).is_ok()
            {}
        });
        Lines(told)
    }

    pub fn line(&self) -> String {
        self.0.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it prints a line within {PATIENCE:?}"))
    }

    /// The lines that are there already.
    pub fn so_far(&self) -> Vec<String> {
        self.0.try_iter().collect()
    }

    /// The next line that has these words.
    pub fn line_with(&self, words: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut others = String::new();
        while let Ok(line) = self.0.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if line.contains(words) {
                return line;
            }
            others += &format!("{line}\n");
        }
        panic!("it prints {words:?} within {PATIENCE:?}, not only:\n{others}")
    }

    /// Everything up to its end.
    pub fn rest(&self) -> String {
        let (until, mut rest) = (Instant::now() + PATIENCE, String::new());
        loop {
            match self.0.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => rest += &format!("{line}\n"),
                Err(mpsc::RecvTimeoutError::Disconnected) => return rest,
                Err(_) => panic!("it ends within {PATIENCE:?}; so far it printed:\n{rest}"),
            }
        }
    }
}

/// A server on a free port.
pub struct Server {
    pub process: Process,
    pub port: u16,
}

impl Server {
    pub fn start(flags: &[&str]) -> Server {
        Server::run(Command::new(BINARY).arg("server").args(CHEAP).args(flags).env("RUST_LOG", "debug"))
    }

    /// Runs a command that becomes a server.
    pub fn run(command: &mut Command) -> Server {
        Server::of(Process::start(command))
    }

    /// A process that becomes a server.
    pub fn of(process: Process) -> Server {
        let line = process.output.line();
        let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("it prints where it listens, not {line:?}"));
        Server { process, port }
    }

    /// Waits until so many other servers have joined it.
    pub fn joined_by(&self, others: usize) {
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < others {
            let line = self.process.errors.line_with(" joined from ");
            let words: Vec<&str> = line.split(' ').collect();
            let at = words.iter().position(|word| *word == "joined").expect("it was looked for");
            seen.insert(words[at - 1].to_owned());
        }
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// A new connection.
    pub fn connect(&self) -> Talker {
        Talker::at(self.address())
    }

    /// A new connection that takes few bytes unread.
    pub fn connect_slow(&self) -> Talker {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(SLOW_BYTES / 2).expect("a socket has a receive buffer");
        socket.connect(&self.address().into()).expect("the server listens");
        Talker::new(socket.into())
    }

    /// A client that has registered, and logged in as most do.
    pub fn register(&self, name: &str) -> Talker {
        let mut talker = self.connect();
        talker.register(name);
        talker
    }

    /// A client that has logged in.
    pub fn login(&self, name: &str) -> Talker {
        let mut talker = self.connect();
        talker.login(name);
        talker
    }

    /// The most memory the server ever had in use.
    pub fn peak_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    /// The memory it has in use now.
    pub fn rss_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    fn memory_kib(&self, what: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).expect("the server is running");
        let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("Linux says so");
        line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
    }

    /// Time the server has spent on a processor.
    pub fn cpu(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.process.id());
        let stat = std::fs::read_to_string(path).expect("the server is running");
        // Behind the name in parentheses, user and system time are the 12th and 13th field, in 10 ms.
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("a name").split(' ').collect();
        let ticks = |at: usize| fields[at].parse::<u64>().expect("a number of ticks");
        Duration::from_millis(10 * (ticks(11) + ticks(12)))
    }
}

/// Flags that make a server quick to register with, on a free port. Clients stay where a test puts them.
pub const CHEAP: [&str; 8] = ["-lp", "0", "--hash-kib", "8", "--hash-passes", "1", "--balance", "off"];
/// What the kernel of a slow client holds for it, about.
pub const SLOW_BYTES: usize = 16 << 10;

/// A client as a plain socket.
pub struct Talker {
    lines: BufReader<TcpStream>,
    who: String,
}

impl Talker {
    /// A new connection to a server there.
    pub fn at(address: SocketAddr) -> Talker {
        Talker::new(TcpStream::connect(address).expect("the server listens"))
    }

    fn new(socket: TcpStream) -> Talker {
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        socket.set_nodelay(true).expect("a socket");
        Talker { lines: BufReader::new(socket), who: r#""username":"anonymous""#.to_owned() }
    }

    pub fn socket(&self) -> &TcpStream {
        self.lines.get_ref()
    }

    pub fn tell_bytes(&mut self, bytes: &[u8]) {
        self.lines.get_mut().write_all(bytes).expect("the server takes what a client sends");
    }

    pub fn tell(&mut self, line: &str) {
        self.tell_bytes(format!("{line}\n").as_bytes());
    }

    /// The command with this client's name and secret.
    pub fn with_pair(&self, command: &str) -> String {
        format!(r#"{{"command":"{command}",{}}}"#, self.who)
    }

    /// An ACTIVITY_MESSAGE of this activity, as one line.
    pub fn message(&self, activity: &Value) -> String {
        format!(r#"{{"command":"ACTIVITY_MESSAGE",{},"activity":{activity}}}"#, self.who)
    }

    pub fn say(&mut self, activity: Value) {
        self.tell(&self.message(&activity));
    }

    pub fn register(&mut self, name: &str) {
        self.who = pair(name);
        self.tell(&self.with_pair("REGISTER"));
        self.hear_command("REGISTER_SUCCESS");
        self.tell(&self.with_pair("LOGIN"));
        self.hear_command("LOGIN_SUCCESS");
    }

    pub fn login(&mut self, name: &str) {
        self.who = pair(name);
        self.tell(&self.with_pair("LOGIN"));
        self.hear_command("LOGIN_SUCCESS");
    }

    /// The next line.
    pub fn hear(&mut self) -> Value {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line);
        let read =
            read.unwrap_or_else(|error| panic!("the server sends a line within {PATIENCE:?}: {error}"));
        assert!(read > 0, "the server sends a line and does not close");
        let line = line.strip_suffix('\n').unwrap_or_else(|| panic!("a whole line, not {line:?}"));
        check_line(line).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The next line, or none when the connection has ended or broken; a piece of a line is none.
    pub fn hear_or_end(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the server sends a line within {PATIENCE:?} or closes: {error}"),
        }
        let line = line.strip_suffix('\n')?;
        Some(check_line(line).unwrap_or_else(|why| panic!("{why}")))
    }

    /// Whether the connection still took the activity.
    pub fn said(&mut self, activity: &Value) -> bool {
        let line = self.message(activity) + "\n";
        self.lines.get_mut().write_all(line.as_bytes()).is_ok()
    }

    /// The next line, which must be of this command, and its words if it has any.
    pub fn hear_command(&mut self, wanted: &str) -> String {
        let line = self.hear();
        assert_eq!(command(&line), wanted, "{line}");
        line["info"].as_str().unwrap_or_default().to_owned()
    }

    /// The next line, which must be a broadcast: its activity without the name, and the name.
    pub fn hear_activity(&mut self) -> (Value, String) {
        let mut line = self.hear();
        assert_eq!(command(&line), "ACTIVITY_BROADCAST", "{line}");
        let mut activity = line["activity"].take();
        let name = activity.as_object_mut().and_then(|activity| activity.remove("authenticated_user"));
        let name = name.expect("a broadcast has it, check_line saw");
        (activity, name.as_str().unwrap_or_default().to_owned())
    }

    /// The next lines, which must be broadcasts of these numbers.
    pub fn hear_numbers(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for n in numbers {
            let (activity, _) = self.hear_activity();
            assert_eq!(activity["n"], json!(n), "{activity:.100}");
        }
    }

    /// The server has closed, and in good order.
    pub fn hear_end(&mut self) {
        let mut rest = Vec::new();
        match self.lines.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "the server closes, not {:?}", String::from_utf8_lossy(&rest)),
            Err(error) => panic!("the server closes in good order, not with: {error}"),
        }
    }

    /// The server has closed, with or without a reset; what came before that.
    pub fn hear_any_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.lines.read_to_end(&mut rest) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("the server closes: {error}"),
            _ => rest,
        }
    }

    /// The client has no more to say.
    pub fn half_close(&mut self) {
        self.socket().shutdown(Shutdown::Write).expect("the connection stands");
    }

    /// The client's machine forgets the connection: what it has not read is gone, the server gets a reset.
    /// To close it would not be enough: a process that another test starts at this moment may have it, too.
    pub fn kill(self) {
        let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
        let bytes = size_of_val(&nowhere) as libc::socklen_t;
        // SAFETY: the address lives until the call is over, and is as long as it says.
        let done = unsafe { libc::connect(self.socket().as_raw_fd(), &raw const nowhere, bytes) };
        assert_eq!(done, 0, "a socket can be disconnected");
    }
}

/// A name with the secret everybody has here.
pub fn pair(name: &str) -> String {
    let secret = if name == "anonymous" { "" } else { r#","secret":"sek""# };
    format!(r#""username":"{name}"{secret}"#)
}
