//! Processes that are measured, and the load on them.
#![allow(dead_code, reason = "each bench uses its part")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_activitystreamer");
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is measured.
#[derive(Clone, Copy)]
pub enum Who {
    Server,
    Floor,
    /// A server linked to that one.
    Beside(u16),
    /// A server that shares its clients with those it is linked to: with that one, if there is one.
    Sharing(Option<u16>),
    /// A floor beside that one.
    FloorBeside(u16),
}

/// A process that is measured. It ends with this.
pub struct Subject {
    child: Child,
    pub port: u16,
    http: Option<u16>,
}

impl Subject {
    pub fn start(who: Who) -> Subject {
        let mut command = match who {
            Who::Floor | Who::FloorBeside(_) => {
                // As many descriptors as a server takes.
                let mut command = Command::new("sh");
                command.args(["-c", "ulimit -n $(ulimit -Hn); exec \"$0\" floor \"$@\""]);
                command.arg(std::env::current_exe().expect("this program has a file"));
                if let Who::FloorBeside(port) = who {
                    command.arg(port.to_string());
                }
                command
            }
            Who::Server | Who::Beside(_) | Who::Sharing(_) => {
                let mut command = Command::new(BINARY);
                command.args("server -lp 0 -s measured --http 0 --log error".split(' '));
                if !matches!(who, Who::Sharing(_)) {
                    command.args(["--balance", "off"]);
                }
                command
            }
        };
        if let Who::Beside(port) | Who::Sharing(Some(port)) = who {
            command.args(["-rh", "localhost", "-rp", &port.to_string()]);
        }
        Subject::of(command)
    }

    /// A server with these flags.
    pub fn serving(flags: &str) -> Subject {
        let mut command = Command::new(BINARY);
        command.args("server -s measured --balance off --http 0 --log error".split(' '));
        command.args(flags.split(' '));
        Subject::of(command)
    }

    fn of(mut command: Command) -> Subject {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program runs");
        let mut lines =
            BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let port =
            |line: &str| line.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
        let own = lines.next().and_then(|line| port(&line)).expect("it prints where it listens");
        // The floor has none, and says no more.
        let is_server = command.get_program() == BINARY;
        let status = is_server.then(|| lines.find(|line| line.starts_with("status on "))).flatten();
        let http = status.and_then(|line| port(&line));
        Subject { child, port: own, http }
    }

    /// Waits until it is linked to another server.
    pub fn wait_for_company(&self) {
        self.wait_for_others(1);
    }

    /// Waits until it is linked to so many.
    pub fn wait_for_others(&self, others: usize) {
        let until = Instant::now() + PATIENCE;
        while self.figure("servers{state=\"linked\"}") != Some(others as f64) {
            assert!(Instant::now() < until, "the servers are linked within {PATIENCE:?}");
            thread::yield_now();
        }
    }

    /// A page of its status.
    fn page(&self, path: &str) -> Option<String> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.http?)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).ok()?;
        let mut page = String::new();
        socket.read_to_string(&mut page).ok()?;
        Some(page)
    }

    /// A figure of its metrics, by the name without its prefix; of those with labels one has to be named.
    pub fn figure(&self, name: &str) -> Option<f64> {
        let page = self.page("/metrics")?;
        let mut lines = page.lines().filter_map(|line| line.strip_prefix("activitystreamer_"));
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Time it has spent on a processor.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        // Behind the name in parentheses, user and system time are the 12th and 13th field, in 10 ms.
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("a name").split(' ').collect();
        let ticks = |at: usize| fields[at].parse::<u64>().expect("a number of ticks");
        Duration::from_millis(10 * (ticks(11) + ticks(12)))
    }

    /// Memory it has in use that is no file's.
    pub fn anonymous_bytes(&self) -> i64 {
        kib(&format!("/proc/{}/status", self.child.id()), "RssAnon:") << 10
    }

    /// The most memory it had in use since it began, or since [`Subject::forget_peak`].
    pub fn peak_bytes(&self) -> i64 {
        kib(&format!("/proc/{}/status", self.child.id()), "VmHWM:") << 10
    }

    /// From now on the most it has in use counts anew.
    pub fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("it is ours");
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kib(path: &str, what: &str) -> i64 {
    let text = fs::read_to_string(path).expect("Linux has it");
    let line = text.lines().find_map(|line| line.strip_prefix(what)).expect("a line of it");
    line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
}

/// What the kernel has in small objects, sockets among them, and in their buffers.
pub fn kernel_bytes() -> i64 {
    let sockets = fs::read_to_string("/proc/net/sockstat").expect("Linux has it");
    let pages = sockets.lines().find_map(|line| line.strip_prefix("TCP:")?.rsplit("mem ").next());
    let pages: i64 = pages.and_then(|pages| pages.trim().parse().ok()).unwrap_or(0);
    (kib("/proc/meminfo", "Slab:") << 10) + pages * 4096
}

/// Clients of which one talks.
pub struct Load {
    pub clients: usize,
    pub pace: Pace,
    pub seconds: u64,
}

/// When it talks.
#[derive(Clone, Copy)]
pub enum Pace {
    /// So many messages are on their way.
    Window(usize),
    /// So many a second.
    Rate(f64),
}

impl Load {
    /// Puts the load on these, and returns what was measured.
    pub fn put_on(&self, subjects: &[&Subject]) -> Value {
        self.watched(subjects, || ())
    }

    /// The same, and does that again and again meanwhile.
    pub fn watched(&self, subjects: &[&Subject], mut look: impl FnMut()) -> Value {
        let list = |of: fn(&Subject) -> String| subjects.iter().map(|s| of(s)).collect::<Vec<_>>().join(",");
        let mut command = Command::new(BINARY);
        command.args(["bench", &list(|s| format!("127.0.0.1:{}", s.port)), "--json"]);
        command.args(["-n", &self.clients.to_string()]);
        match self.pace {
            Pace::Window(n) => command.args(["--window", &n.to_string()]),
            Pace::Rate(n) => command.args(["--rate", &n.to_string()]),
        };
        command.args([
            "--time",
            &self.seconds.to_string(),
            "--server-pid",
            &list(|s| s.child.id().to_string()),
        ]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program runs");
        while child.try_wait().expect("it is ours").is_none() {
            look();
            thread::sleep(Duration::from_millis(200));
        }
        let output = child.wait_with_output().expect("it has ended");
        assert!(output.status.success(), "every delivery is as it should be: {command:?}");
        serde_json::from_slice(&output.stdout).expect("one line of JSON")
    }
}

/// Descriptors that this process may have.
pub fn descriptors() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").expect("Linux has it");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a line of it");
    line.split_whitespace().next().and_then(|soft| soft.parse().ok()).unwrap_or(usize::MAX)
}

/// A client that has logged in and says nothing.
pub fn logged_in(port: u16) -> TcpStream {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    socket.write_all(b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n").expect("it reads");
    let mut answer = [0; 256];
    let read = socket.read(&mut answer).expect("it answers");
    assert!(answer[..read].ends_with(b"\n"), "a whole answer");
    socket
}
