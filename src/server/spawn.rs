//! Starting other servers: this binary again, or whatever a command does.
//!
//! The process reads the cluster secret from its standard input: a command line can be read by others, and so
//! can an environment. It has a session of its own, so that it outlives this one; what becomes of it after it
//! has joined is its own business.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use mio::Waker;
use zeroize::Zeroizing;

use super::{Options, Server, sys};
use crate::node::Input;

/// How another server is started.
#[derive(Clone, Debug)]
pub enum Spawn {
    /// On this machine, with these flags; those that say whom to join come behind them.
    Local(Vec<OsString>),
    /// By this command, which a shell runs; `{args}` in it becomes these flags, and those.
    Command(String, Vec<OsString>),
}

/// The ticket of what did not start, or ended with an error, and how.
type Failure = (u64, String);

/// What starts them.
pub(super) struct Spawner {
    spawn: Spawn,
    secret: Zeroizing<Vec<u8>>,
    waker: Arc<Waker>,
    tell: Sender<Failure>,
    failed: Receiver<Failure>,
}

impl Spawner {
    /// What starts servers that join this one, which listens on `port`. Without it the secret is wiped here.
    pub fn new(
        options: &Options,
        port: u16,
        secret: Zeroizing<Vec<u8>>,
        waker: &Arc<Waker>,
    ) -> Option<Spawner> {
        let mut spawn = options.spawn.clone()?;
        let joins = ["-rh".into(), (&options.hostname).into(), "-rp".into(), port.to_string().into()];
        let (Spawn::Local(flags) | Spawn::Command(_, flags)) = &mut spawn;
        flags.extend(joins);
        let (tell, failed) = mpsc::channel();
        Some(Spawner { spawn, secret, waker: waker.clone(), tell, failed })
    }

    fn command(&self, ticket: u64) -> Command {
        let number = [OsString::from("--spawned"), ticket.to_string().into()];
        let mut command = match &self.spawn {
            Spawn::Local(flags) => {
                let mut command = Command::new(this_binary());
                command.arg("server").args(flags).args(number);
                command
            }
            Spawn::Command(text, flags) => {
                let flags = flags.iter().chain(&number).map(|flag| quoted(&flag.to_string_lossy()));
                let flags: Vec<String> = flags.collect();
                let mut command = Command::new("sh");
                command.arg("-c").arg(text.replace("{args}", &flags.join(" ")));
                command
            }
        };
        // Its log goes where this one's goes; what it prints is for nobody.
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        // This one's settings, and its process manager's socket, are not the other's.
        let is_own = |name: &str| name.starts_with("AS_") || name == "NOTIFY_SOCKET";
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_own)) {
            command.env_remove(name);
        }
        sys::in_own_session(&mut command);
        command
    }

    /// Starts one. A thread waits for its end.
    fn start(&self, ticket: u64) {
        let (mut command, secret) = (self.command(ticket), self.secret.clone());
        let (tell, waker) = (self.tell.clone(), Arc::clone(&self.waker));
        let work = move || {
            if let Err(why) = run(&mut command, &secret) {
                // Both fail only when the loop is gone.
                let _ = tell.send((ticket, why));
                let _ = waker.wake();
            }
        };
        let begun = thread::Builder::new().name("spawn".to_owned()).stack_size(STACK).spawn(work);
        if let Err(error) = begun {
            let _ = self.tell.send((ticket, format!("no thread can be started: {error}")));
            let _ = self.waker.wake();
        }
    }
}

/// Bytes of stack for a thread that does nothing but wait for a process.
pub(super) const STACK: usize = 128 << 10;

/// Runs the process to its end.
fn run(command: &mut Command, secret: &[u8]) -> Result<(), String> {
    let mut child = command.spawn().map_err(|error| format!("a process cannot be started: {error}"))?;
    let id = child.id();
    log::info!("process {id} is to become a server");
    if let Some(mut input) = child.stdin.take() {
        // One that has ended does not read it; how it ended says why.
        let _ = input.write_all(secret);
    }
    match child.wait() {
        Ok(status) if status.success() => {
            log::info!("process {id} has ended");
            Ok(())
        }
        Ok(status) => Err(format!("process {id} ended: {status}")),
        Err(error) => Err(format!("process {id} cannot be waited for: {error}")),
    }
}

/// The program that runs here, even if its file was replaced since.
pub(crate) fn this_binary() -> PathBuf {
    let path = std::env::current_exe().ok().filter(|path| path.exists());
    path.unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

/// A word that a shell takes as it is.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

impl Server {
    pub(super) fn spawn(&mut self, ticket: u64) {
        match &self.spawner {
            Some(spawner) => spawner.start(ticket),
            None => {
                let why = "this server starts none".to_owned();
                self.node.handle(self.now, Input::SpawnFailed { ticket, why });
            }
        }
    }

    /// This server is not needed any more.
    pub(super) fn retire(&mut self) {
        self.retires = true;
        self.stop();
    }

    /// What was started and ended with an error.
    pub(super) fn take_failed_spawns(&mut self) {
        while let Some((ticket, why)) =
            self.spawner.as_ref().and_then(|spawner| spawner.failed.try_recv().ok())
        {
            self.node.handle(self.now, Input::SpawnFailed { ticket, why });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_when_a_shell_would_change_it() {
        for (word, wanted) in [
            ("--max-clients", "--max-clients"),
            ("/a b/c", "'/a b/c'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("$(reboot)", "'$(reboot)'"),
        ] {
            assert_eq!(quoted(word), wanted);
        }
    }

    #[test]
    fn a_process_gets_the_secret_and_an_error_says_how_it_ended() {
        let sh = |text: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", text]).stdin(Stdio::piped());
            command
        };
        assert_eq!(run(&mut sh(r#"test "$(cat)" = sek"#), b"sek"), Ok(()));
        assert!(run(&mut sh("exit 7"), b"sek").is_err_and(|why| why.contains("exit status: 7")));
        let none = run(Command::new("/nowhere/no-such-program").stdin(Stdio::piped()), b"sek");
        assert!(none.is_err_and(|why| why.contains("cannot be started")));
    }
}
