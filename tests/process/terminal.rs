//! The client on a pseudo-terminal, its screen read by a terminal emulator.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use serde_json::json;

use crate::crew::{login_at, mesh};
use crate::kept::Folder;
use crate::stage::{BINARY, PATIENCE, Server};

const ROWS: u16 = 14;
const COLUMNS: u16 = 76;

/// A program on a terminal of its own.
struct Terminal {
    child: Child,
    keys: File,
    shown: Receiver<Vec<u8>>,
    emulator: vt100::Parser,
}

fn size(rows: u16, columns: u16) -> libc::winsize {
    libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn positive(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("a size")
}

impl Terminal {
    fn start(command: &mut Command) -> Terminal {
        let (mut ours, mut theirs) = (-1, -1);
        let size = size(ROWS, COLUMNS);
        let nothing = std::ptr::null_mut();
        // SAFETY: it writes two descriptors, and reads a size that lives until it is done.
        let done = unsafe {
            libc::openpty(&raw mut ours, &raw mut theirs, nothing, nothing.cast(), &raw const size)
        };
        assert_eq!(done, 0, "there are pseudo-terminals");
        // SAFETY: both were just made, for nobody else.
        let (keys, theirs) = unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) };
        let side = || theirs.try_clone().expect("a descriptor");
        command.stdin(side()).stdout(side()).stderr(side());
        // SAFETY: two system calls, and nothing else.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().expect("it starts");
        drop(theirs);
        // The command has the other side, too; without it the end of the program is seen.
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        let (tell, shown) = mpsc::channel();
        let mut screen = keys.try_clone().expect("a descriptor");
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes)
                && tell.send(bytes[..count].to_vec()).is_ok()
            {}
        });
        let emulator = vt100::Parser::new(positive(ROWS), positive(COLUMNS), 0);
        Terminal { child, keys, shown, emulator }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it has a terminal");
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        self.emulator.screen_mut().set_size(positive(rows), positive(columns));
        let size = size(rows, columns);
        // SAFETY: it reads a size that lives until it is done.
        let done = unsafe { libc::ioctl(self.keys.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(done, 0, "a terminal has a size");
    }

    fn screen(&self) -> String {
        self.emulator.screen().contents()
    }

    /// Waits until the screen is as wanted.
    fn wait(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        while !wanted(&self.screen()) {
            match self.shown.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.emulator.process(&bytes),
                Err(_) => panic!("{what} within {PATIENCE:?}; the screen is:\n{}", self.screen()),
            }
        }
        self.screen()
    }

    fn wait_for(&mut self, words: &str) -> String {
        self.wait(words, |screen| screen.contains(words))
    }

    /// Waits for the end of the program, and that it left the terminal as it was; what is on it then.
    fn end(mut self) -> (ExitStatus, String) {
        let until = Instant::now() + PATIENCE;
        while let Ok(bytes) = self.shown.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.emulator.process(&bytes);
        }
        let status = self.child.wait().expect("it is our child");
        self.is_as_it_was();
        (status, self.screen())
    }

    fn is_as_it_was(&self) {
        let screen = self.emulator.screen();
        assert!(!screen.alternate_screen() && !screen.bracketed_paste() && !screen.hide_cursor());
        // SAFETY: it fills in what it is given.
        let modes = unsafe {
            let mut modes = std::mem::zeroed::<libc::termios>();
            assert_eq!(libc::tcgetattr(self.keys.as_raw_fd(), &raw mut modes), 0);
            modes
        };
        assert_ne!(modes.c_lflag & libc::ICANON, 0, "lines are edited by the system again");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(folder: &Folder, port: u16, flags: &[&str]) -> Terminal {
    client_by(Command::new(BINARY), folder, port, flags)
}

fn client_by(mut command: Command, folder: &Folder, port: u16, flags: &[&str]) -> Terminal {
    command.args(["client", "-rh", "127.0.0.1", "-rp", &port.to_string()]).args(flags);
    command.env("XDG_CONFIG_HOME", folder.here()).env("TERM", "xterm-256color").env("RUST_LOG", "trace");
    Terminal::start(&mut command)
}

#[test]
fn a_talk_on_a_screen_goes_on_when_its_server_dies() {
    let folder = Folder::new("terminal-talk");
    let mut servers = mesh(3);
    let also = format!("127.0.0.1:{}", servers[1].port);
    let mut bob = servers[2].register("bob");
    let mut ann = client(&folder, servers[0].port, &["-u", "ann", "--also", &also]);
    ann.wait_for("logged in as user ann");
    bob.say(json!({ "message": "hello \u{1b}[2J ann" }));
    ann.wait_for("bob: hello ␛[2J ann");
    ann.press("hi bob\r");
    assert_eq!(bob.hear_activity().1, "bob");
    assert_eq!(bob.hear_activity(), (json!({ "message": "hi bob" }), "ann".to_owned()));
    ann.wait_for("✓ann: hi bob");
    servers.remove(0).crash();
    for n in 0..5 {
        bob.say(json!({ "message": format!("number {n}") }));
    }
    ann.wait_for(&format!("ann at 127.0.0.1:{}: online", servers[0].port));
    ann.press("back again\r");
    let screen = ann.wait_for("✓ann: back again");
    for n in 0..5 {
        assert_eq!(screen.matches(&format!("bob: number {n}")).count(), 1, "{screen}");
        assert_eq!(bob.hear_activity().0, json!({ "message": format!("number {n}") }));
    }
    assert_eq!(bob.hear_activity(), (json!({ "message": "back again" }), "ann".to_owned()));
    for once in ["hello ␛[2J ann", "hi bob", "back again"] {
        assert_eq!(screen.matches(once).count(), 1, "{screen}");
    }
    let marks = ["✓ann: hi bob", "the server closed", "logged in as user ann", "bob: number 0", "✓ann: back"];
    let mut at = 0;
    for mark in marks {
        at += screen[at..].find(mark).unwrap_or_else(|| panic!("{mark} in its place:\n{screen}"));
    }
    ann.press("/quit\r");
    let (status, screen) = ann.end();
    assert_eq!((status.code(), screen.trim()), (Some(0), ""));
    // It logged out, so it is owed nothing; and its secret is known here.
    bob.say(json!({ "message": "missed" }));
    bob.hear();
    let mut ann = client(&folder, servers[1].port, &["-u", "ann"]);
    ann.wait_for("logged in as user ann");
    bob.say(json!({ "message": "heard" }));
    assert!(!ann.wait_for("bob: heard").contains("missed"));
    let mode = |path: &std::path::Path| fs::metadata(path).expect("kept").permissions().mode() & 0o777;
    let kept = folder.here().join("activitystreamer");
    assert_eq!((mode(&kept), mode(&kept.join("secrets"))), (0o700, 0o600));
}

#[test]
fn keys_scroll_and_a_new_size_is_filled() {
    let folder = Folder::new("terminal-scroll");
    let server = Server::start(&[]);
    let mut bob = server.register("bob");
    let mut ann = client(&folder, server.port, &[]);
    ann.wait_for("logged in");
    (0..40).for_each(|n| bob.say(json!({ "message": format!("n{n}.") })));
    ann.wait_for("n39.");
    ann.press("\x1b[5~");
    let screen = ann.wait_for("11 below");
    assert!(screen.contains("n28.") && !screen.contains("n29."), "{screen}");
    bob.say(json!({ "message": "n40." }));
    assert!(ann.wait_for("12 below").contains("n28."));
    ann.resize(8, 30);
    let screen = ann.wait("it fits", |screen| screen.contains("12 below") && !screen.contains("n22."));
    assert_eq!(screen.lines().filter(|line| line.contains("bob: n")).count(), 6, "{screen}");
    ann.press("\x1b[6~\x1b[6~\x1b[6~\x1b[6~");
    let screen = ann.wait_for("n40.");
    assert!(!screen.contains("below"), "{screen}");
    ann.resize(ROWS, COLUMNS);
    ann.wait_for("n29.");
    ann.press("日本x\x7f\x1b[D\x1b[H");
    ann.wait_for("> 日本");
    ann.press("\x05\x15");
    ann.wait("an empty line", |screen| screen.lines().last().is_some_and(|line| line.trim() == ">"));
    ann.press("\x04");
    assert_eq!(ann.end().0.code(), Some(0));
}

#[test]
fn however_it_ends_the_terminal_is_as_it_was_and_says_why() {
    let folder = Folder::new("terminal-end");
    let server = Server::start(&[]);
    let _ann = server.register("ann");
    let (status, screen) = client(&folder, server.port, &["-u", "ann", "-s", "wrong"]).end();
    assert_eq!(status.code(), Some(3), "{screen}");
    assert!(screen.contains("login refused: wrong username or secret"), "{screen}");

    let mut killed = client(&folder, server.port, &[]);
    killed.wait_for("online");
    // SAFETY: a signal to a child that was not waited for.
    unsafe { libc::kill(killed.child.id() as i32, libc::SIGTERM) };
    assert_eq!(killed.end().0.signal(), Some(libc::SIGTERM));

    let mut left = client(&folder, server.port, &[]);
    left.wait_for("online");
    left.press("\x03");
    assert_eq!(left.end().0.code(), Some(0));

    drop(server);
    let (_reserved, port) = unused();
    let mut alone = client(&folder, port, &[]);
    alone.wait_for("no connection; tries 127.0.0.1");
    alone.press("/quit\r");
    let (status, screen) = alone.end();
    assert_eq!(status.code(), Some(1), "{screen}");
    assert!(screen.contains("left without a logout"), "{screen}");
}

#[test]
fn it_stops_and_goes_on_as_a_shell_wants() {
    let folder = Folder::new("terminal-stop");
    let server = Server::start(&[]);
    let mut bob = server.register("bob");
    let mut shell = Command::new("sh");
    shell.args(["-mc", r#""$@"; echo stopped; read back; fg > stopped; echo over $?"#, "sh", BINARY]);
    shell.current_dir(folder.here());
    let mut ann = client_by(shell, &folder, server.port, &[]);
    ann.wait_for("online");
    ann.press("half");
    ann.wait_for("> half");
    ann.press("\x1a");
    ann.wait_for("stopped");
    ann.is_as_it_was();
    bob.say(json!({ "message": "meanwhile" }));
    bob.hear();
    ann.resize(ROWS - 2, COLUMNS);
    ann.press("\n");
    let screen = ann.wait_for("bob: meanwhile");
    assert!(screen.contains("> half") && !screen.contains("stopped"), "{screen}");
    assert!(ann.emulator.screen().alternate_screen() && ann.emulator.screen().bracketed_paste());
    ann.press(" a line\r");
    assert_eq!(bob.hear_activity().0, json!({ "message": "half a line" }));
    ann.wait_for("✓anonymous: half a line");
    ann.press("\x04");
    ann.wait_for("over 0");
    assert_eq!(ann.end().0.code(), Some(0));
}

#[test]
fn what_a_killed_client_left_on_the_screen_is_gone() {
    let folder = Folder::new("terminal-left");
    let server = Server::start(&[]);
    let mut left = Command::new("sh");
    left.args(["-c", r#"printf '\033[?1049hleft\n\n  here'; exec "$@""#, "sh", BINARY]);
    let mut ann = client_by(left, &folder, server.port, &[]);
    let screen = ann.wait_for("online");
    assert!(!screen.contains("left") && !screen.contains("here"), "{screen}");
}

#[test]
fn without_a_shell_it_does_not_stop() {
    let folder = Folder::new("terminal-alone");
    let server = Server::start(&[]);
    let mut ann = client(&folder, server.port, &[]);
    ann.wait_for("online");
    ann.press("\x1ahere\r");
    ann.wait_for("✓anonymous: here");
    ann.press("\x04");
    assert_eq!(ann.end().0.code(), Some(0));
}

/// A port on which nobody listens, reserved as long as its socket.
fn unused() -> (socket2::Socket, u16) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a free port");
    let port = socket.local_addr().expect("bound").as_socket().expect("an address").port();
    (socket, port)
}

#[test]
fn plain_takes_no_screen() {
    let folder = Folder::new("terminal-plain");
    let server = Server::start(&[]);
    let mut bob = login_at(server.address(), "anonymous");
    let mut ann = client(&folder, server.port, &["--plain", "-u", "ann"]);
    ann.press("hi\n");
    ann.wait_for(r#"{"message":"hi","authenticated_user":"ann"}"#);
    assert_eq!(bob.hear_activity().1, "ann");
    assert!(!ann.emulator.screen().alternate_screen());
    ann.press("\x04");
    assert_eq!(ann.end().0.code(), Some(0));
}
