//! Three servers, each a process of this program, and the folder they keep everything in.
//!
//! Invariant: when this value is gone, so are the processes and the folder, however it came to that; if this process
//! is killed, the system ends the servers.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::cli::status::ask;
use crate::load::limits::{DEMO_LOG_LINES, DEMO_SERVERS};
use crate::server::spawn::this_binary;
use crate::server::sys::ends_with_parent;

/// A place where one server runs after the other.
struct Place {
    port: u16,
    /// Bound and not listening: the server shares the port, and the system gives it to nobody else.
    _held: Socket,
    process: Option<Child>,
    /// Its status pages.
    http: Option<SocketAddr>,
}

/// The network of the demonstration.
pub struct Network {
    folder: PathBuf,
    places: Vec<Place>,
}

impl Drop for Network {
    fn drop(&mut self) {
        (0..self.places.len()).for_each(|i| self.kill(i));
        // What cannot be removed is in the folder for what may be.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Network {
    /// A folder and free ports; no server runs yet.
    pub fn new() -> Result<Network, String> {
        let mut tag = [0; 8];
        getrandom::fill(&mut tag).map_err(|error| format!("no random number: {error}"))?;
        let name = format!("activitystreamer-demo-{:016x}", u64::from_ne_bytes(tag));
        let folder = std::env::temp_dir().join(name);
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| format!("the folder {} cannot be made: {error}", folder.display()))?;
        let mut network = Network { folder, places: Vec::new() };
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|error| format!("no random number: {error}"))?;
        let secret = format!("{:032x}", u128::from_ne_bytes(secret));
        fs::write(network.secret(), secret).map_err(|error| format!("no file can be written: {error}"))?;
        for _ in 0..DEMO_SERVERS {
            network.places.push(hold().map_err(|error| format!("no free port: {error}"))?);
        }
        Ok(network)
    }

    fn secret(&self) -> PathBuf {
        self.folder.join("cluster.secret")
    }

    fn log(&self, i: usize) -> PathBuf {
        self.folder.join(format!("{}.log", self.places[i].port))
    }

    /// Where the servers listen, or will.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.places.iter().map(|place| (Ipv4Addr::LOCALHOST, place.port).into()).collect()
    }

    /// Whether a server runs there.
    pub fn runs(&self, i: usize) -> bool {
        self.places[i].process.is_some()
    }

    /// Starts the server of a place, and waits until it listens.
    pub fn start(&mut self, i: usize) -> Result<(), String> {
        let failed = |error: io::Error| format!("a server cannot be started: {error}");
        let (own, other) = (self.places[i].port, self.places[(i + 1) % DEMO_SERVERS].port);
        let mut command = Command::new(this_binary());
        // Hashes that cost next to nothing: these secrets guard nothing.
        command.args(["server", "--hash-kib", "8", "--hash-passes", "1", "--http", "0", "--log", "info"]);
        command.args(["-lp", &own.to_string(), "-rh", "localhost", "-rp", &other.to_string()]);
        command.arg("--data-dir").arg(&self.folder).arg("--secret-file").arg(self.secret());
        let is_own = |name: &std::ffi::OsString| name.to_str().is_some_and(|name| name.starts_with("AS_"));
        std::env::vars_os().map(|(name, _)| name).filter(is_own).for_each(|name| {
            command.env_remove(name);
        });
        let log = File::options().create(true).append(true).open(self.log(i)).map_err(failed)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
        ends_with_parent(&mut command);
        let mut child = command.spawn().map_err(failed)?;
        let output = child.stdout.take().expect("it is piped");
        self.places[i].process = Some(child);
        let said = BufReader::new(output).lines().map_while(Result::ok);
        let http = said.filter_map(|line| Some(line.strip_prefix("status on http://")?.to_owned())).next();
        let http = http.and_then(|at| at.trim_end_matches('/').parse().ok());
        self.places[i].http = http;
        http.map(|_| ())
            .ok_or_else(|| format!("a server did not start; its log ends:\n{}", self.last_words(i)))
    }

    fn last_words(&self, i: usize) -> String {
        let log = fs::read_to_string(self.log(i)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(DEMO_LOG_LINES)..].join("\n")
    }

    /// Ends a server as a crash does: SIGKILL.
    pub fn kill(&mut self, i: usize) {
        if let Some(mut child) = self.places[i].process.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.places[i].http = None;
    }

    /// A server that ended although nobody ended it, and its last words.
    pub fn fallen(&mut self) -> Option<String> {
        (0..DEMO_SERVERS).find_map(|i| {
            let status = self.places[i].process.as_mut()?.try_wait().ok()??;
            let port = self.places[i].port;
            Some(format!("the server at {port} ended ({status}); its log ends:\n{}", self.last_words(i)))
        })
    }

    /// Whether each server that runs is linked to each other that does, and all know the same.
    pub fn is_whole(&self) -> bool {
        let up = self.places.iter().filter(|place| place.process.is_some()).count();
        let is_linked = |page: &Value| {
            let servers = page["servers"].as_array().map_or(&[][..], Vec::as_slice);
            let linked = servers.iter().filter(|server| server["state"] == "linked").count();
            linked + 1 == up && page["in_sync"] == true
        };
        let pages = self.places.iter().filter_map(|place| place.http);
        pages.map(|at| ask(at, false)).all(|page| page.is_ok_and(|page| is_linked(&page)))
    }
}

fn hold() -> io::Result<Place> {
    let held = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    held.set_reuse_address(true)?;
    held.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let port = held.local_addr()?.as_socket().map_or(0, |at| at.port());
    Ok(Place { port, _held: held, process: None, http: None })
}
