//! Servers that are started again where they were: a port that stays theirs, and a folder.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use socket2::{Domain, Socket, Type};

use crate::stage::{BINARY, CHEAP, Process, Server, Talker};

/// A folder of the test's own that is gone afterwards.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(test: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("activitystreamer-{test}-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a folder for the test");
        Folder(folder)
    }

    pub fn here(&self) -> &Path {
        &self.0
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path in text").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The names of what is in a folder, in order.
pub fn names_in(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("a file").file_name();
    let mut names: Vec<_> = entries.map(|e| name(e).into_string().expect("a name in text")).collect();
    names.sort();
    names
}

/// Where one server runs after the other: a port that nobody else gets, and a folder.
pub struct Place {
    pub port: u16,
    pub data: String,
    /// Bound and not listening: a server may share the port, and the system gives it to nobody.
    _held: Socket,
}

impl Place {
    /// A place with its data in this folder.
    pub fn new(data: String) -> Place {
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        held.set_reuse_address(true).expect("a socket");
        held.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        let port = held.local_addr().expect("bound").as_socket().expect("an address").port();
        Place { port, data, _held: held }
    }

    /// The command that starts a server here.
    pub fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(["server", "-lp", &self.port.to_string(), "--data-dir", &self.data]);
        command.args(&CHEAP[2..]).args(flags).env("RUST_LOG", "debug");
        command
    }

    pub fn start(&self, flags: &[&str]) -> Server {
        Server::run(&mut self.command(flags))
    }

    /// What a server here that does not start says.
    pub fn refusal(&self, flags: &[&str]) -> String {
        let mut process = Process::start(&mut self.command(flags));
        let errors = process.errors.rest();
        process.end_with(1);
        errors
    }

    /// The folder of what is kept here.
    pub fn folder(&self) -> PathBuf {
        Path::new(&self.data).join(self.port.to_string())
    }

    /// The journal's files, oldest first.
    pub fn journal(&self) -> Vec<PathBuf> {
        let feed = self.folder().join("feed");
        names_in(&feed).into_iter().map(|name| feed.join(name)).collect()
    }
}

impl Server {
    /// Ends it as a crash would, and waits until nothing of it is left.
    pub fn crash(mut self) {
        self.process.kill();
        self.process.end();
    }

    /// Stops it with SIGTERM; its log since it was last read.
    pub fn stop(mut self) -> String {
        self.process.signal("TERM");
        let log = self.process.errors.rest();
        self.process.end_with(0);
        log
    }
}

impl Talker {
    /// The client's machine forgets the connection when the server knows that all was read so far.
    pub fn vanish(mut self) {
        // What the client sends acknowledges what it read; the answer to it is no broadcast.
        self.tell(&self.with_pair("LOGIN"));
        self.hear_command("LOGIN_SUCCESS");
        self.kill();
    }
}
