//! The machine on a desk that three threads share, and the work of the two that only carry lines.
//!
//! Invariant: `busy` is true exactly while bytes given out by the machine are in a write whose outcome
//! it has not been told.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::super::lines::{LINE_BYTES_MAX, Lines};
use super::super::machine::Client;
use super::WAITING_BYTES_MAX;

/// Bytes given to one write, so that what was written is known in small steps.
const WRITE_BYTES: usize = 64 << 10;

/// The lock around the machine. Nobody holds it while waiting for a descriptor.
pub(super) struct Desk {
    held: Mutex<Held>,
    /// Told after every change that somebody may wait for.
    changed: Condvar,
}

/// What is on the desk.
pub(super) struct Held {
    pub(super) client: Client,
    /// Why the input could not be read to its end.
    pub(super) spoiled: Option<String>,
    /// The connection is in use.
    open: bool,
    /// The writing thread is at work.
    writing: bool,
    busy: bool,
}

impl Desk {
    pub(super) fn new(client: Client) -> Desk {
        let held = Held { client, spoiled: None, open: false, writing: false, busy: false };
        Desk { held: Mutex::new(held), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no thread panics while it holds the desk")
    }

    pub(super) fn changed(&self) {
        self.changed.notify_all();
    }

    /// A connection stands, and its writing thread is about to start.
    pub(super) fn open(&self) {
        let mut held = self.lock();
        held.client.connected();
        held.open = true;
        held.writing = true;
    }

    /// Takes the connection away from the writing thread, also out of the middle of a write.
    pub(super) fn close(&self, socket: &TcpStream) {
        self.lock().open = false;
        self.changed();
        // Fails only if the server's reset was faster.
        let _ = socket.shutdown(Shutdown::Both);
    }

    /// Nobody has more to say.
    pub(super) fn end(&self) {
        self.lock().client.end();
        self.changed();
    }

    /// Waits, `patience` at most, until the machine knows what of its bytes was written: all of a write
    /// under way, and after a REDIRECT the rest of the line it stopped in.
    pub(super) fn settle(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut held = self.lock();
        while held.busy || (held.writing && held.client.moving()) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let (woken, _) = self.changed.wait_timeout(held, left).expect("nobody panics at the desk");
            held = woken;
        }
    }

    /// The writing thread: writes until the connection is closed, broken, or left after a REDIRECT.
    pub(super) fn write_link(&self, mut socket: &TcpStream) {
        let mut batch = Zeroizing::new(Vec::with_capacity(WRITE_BYTES));
        while self.next_batch(&mut batch) {
            let written = socket.write(&batch);
            let mut held = self.lock();
            held.busy = false;
            match written {
                Ok(count) => held.client.sent(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The reading thread is told the same, and what it means.
                Err(_) => break,
            }
            drop(held);
            self.changed();
        }
        let mut held = self.lock();
        held.writing = false;
        if held.client.moving() {
            // The server need not wait for more, and can let our next login proceed.
            let _ = socket.shutdown(Shutdown::Write);
        }
        drop(held);
        self.changed();
    }

    /// Waits for bytes to write; false when there will be none.
    fn next_batch(&self, batch: &mut Vec<u8>) -> bool {
        let mut held = self.lock();
        loop {
            if !held.open {
                return false;
            }
            let bytes = held.client.transmit();
            if !bytes.is_empty() {
                batch.clear();
                batch.extend_from_slice(&bytes[..bytes.len().min(WRITE_BYTES)]);
                held.busy = true;
                return true;
            }
            if held.client.moving() {
                return false;
            }
            held = self.changed.wait(held).expect("nobody panics at the desk");
        }
    }

    /// The input's thread: says line after line, and ends the session at the end of input.
    pub(super) fn read_input(&self, mut input: impl Read) {
        let mut lines = Lines::new(LINE_BYTES_MAX);
        let read = loop {
            while let Some(line) = lines.take() {
                if !self.say(line) {
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
            Ok(()) => drop(self.say(lines.rest())),
            Err(error) => self.spoil(&error),
        }
        self.end();
    }

    /// Says one line when there is room for it; false when nothing more can be said.
    fn say(&self, line: &[u8]) -> bool {
        let line = String::from_utf8_lossy(line);
        let mut held = self.lock();
        while held.client.waiting_bytes() >= WAITING_BYTES_MAX && !held.client.ended() {
            held = self.changed.wait(held).expect("nobody panics at the desk");
        }
        held.client.say(&line);
        let more = !held.client.ended();
        drop(held);
        self.changed();
        more
    }

    fn spoil(&self, error: &io::Error) {
        self.lock().spoiled = Some(format!("cannot read the input: {error}; what came before was sent"));
    }
}
