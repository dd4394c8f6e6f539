//! The journey on a desk that threads share, and the work of the one that writes.
//!
//! Invariant: `busy` is true exactly while bytes given out by the machine are in a write whose outcome
//! it has not been told.

use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::journey::Journey;
use super::memory::Memory;

/// What is said may wait for the server up to this; then whoever says more waits.
pub const WAITING_BYTES_MAX: usize = 1 << 20;
/// Bytes given to one write, so that what was written is known in small steps.
const WRITE_BYTES: usize = 64 << 10;

/// The lock around the journey. Nobody holds it while waiting for a descriptor.
pub(super) struct Desk {
    held: Mutex<Held>,
    /// Told after every change that somebody may wait for.
    changed: Condvar,
    start: Instant,
}

/// What is on the desk.
pub(super) struct Held {
    pub(super) journey: Journey,
    /// The connection in use.
    socket: Option<Arc<TcpStream>>,
    /// The writing thread is at work.
    writing: bool,
    busy: bool,
    /// Nobody wants to hear or say more.
    left: bool,
    /// Where a client with an id keeps what it knows.
    memory: Option<Memory>,
}

impl Desk {
    pub(super) fn new(journey: Journey, memory: Option<Memory>) -> Desk {
        let held = Held { journey, socket: None, writing: false, busy: false, left: false, memory };
        Desk { held: Mutex::new(held), changed: Condvar::new(), start: Instant::now() }
    }

    /// The journey's time.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no thread panics while it holds the desk")
    }

    pub(super) fn changed(&self) {
        self.changed.notify_all();
    }

    /// A connection stands, and its writing thread is about to start; false if nobody wants it any more.
    pub(super) fn open(&self, socket: &Arc<TcpStream>) -> bool {
        let mut held = self.lock();
        if held.left {
            return false;
        }
        held.journey.connected();
        held.socket = Some(socket.clone());
        held.writing = true;
        true
    }

    /// Takes the connection away from the writing thread, also out of the middle of a write.
    pub(super) fn close(&self) {
        if let Some(socket) = self.lock().socket.take() {
            // Fails only if the server's reset was faster.
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.changed();
    }

    /// Breaks the connection, and makes no other.
    pub(super) fn leave(&self) {
        self.lock().left = true;
        self.close();
    }

    /// [`Desk::leave`] was called.
    pub(super) fn left(&self) -> bool {
        self.lock().left
    }

    /// Nobody has more to say.
    pub(super) fn end(&self) {
        self.lock().journey.end();
        self.changed();
    }

    /// Waits until then, or until nobody wants more.
    pub(super) fn wait(&self, until: Duration) {
        let mut held = self.lock();
        while let Some(left) = until.checked_sub(self.now())
            && !left.is_zero()
            && !held.left
        {
            held = self.changed.wait_timeout(held, left).expect("nobody panics at the desk").0;
        }
    }

    /// Waits, `patience` at most, until the machine knows what of its bytes was written: all of a write
    /// under way, and after a REDIRECT the rest of the line it stopped in.
    pub(super) fn settle(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut held = self.lock();
        while held.busy || (held.writing && held.journey.moving()) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            held = self.changed.wait_timeout(held, left).expect("nobody panics at the desk").0;
        }
    }

    /// Writes down what changed, if there is a memory.
    pub(super) fn keep(&self) -> io::Result<()> {
        self.lock().keep()
    }

    /// Says one line when there is room for it; false when nothing more can be said.
    ///
    /// # Errors
    /// Those of the memory: it is said, and not written down.
    pub(super) fn say(&self, line: &str) -> io::Result<bool> {
        let mut held = self.lock();
        while held.journey.waiting_bytes() >= WAITING_BYTES_MAX && !held.is_done() {
            held = self.changed.wait(held).expect("nobody panics at the desk");
        }
        if held.is_done() {
            return Ok(false);
        }
        held.journey.say(line);
        let kept = held.keep();
        drop(held);
        self.changed();
        kept.map(|()| true)
    }

    /// Whoever says a line now has to wait.
    pub(super) fn is_full(&self) -> bool {
        let held = self.lock();
        held.journey.waiting_bytes() >= WAITING_BYTES_MAX && !held.is_done()
    }

    /// The writing thread: writes until the connection is closed, broken, or left after a REDIRECT.
    pub(super) fn write_link(&self, mut socket: &TcpStream) {
        let mut batch = Zeroizing::new(Vec::with_capacity(WRITE_BYTES));
        while self.next_batch(&mut batch) {
            let written = socket.write(&batch);
            let mut held = self.lock();
            held.busy = false;
            match written {
                Ok(count) => held.journey.sent(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The reading thread is told the same, and what it means.
                Err(_) => break,
            }
            drop(held);
            self.changed();
        }
        let mut held = self.lock();
        held.writing = false;
        if held.journey.moving() {
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
            if held.socket.is_none() {
                return false;
            }
            let bytes = held.journey.transmit();
            if !bytes.is_empty() {
                batch.clear();
                batch.extend_from_slice(&bytes[..bytes.len().min(WRITE_BYTES)]);
                held.busy = true;
                return true;
            }
            if held.journey.moving() {
                return false;
            }
            held = self.changed.wait(held).expect("nobody panics at the desk");
        }
    }
}

impl Held {
    fn keep(&mut self) -> io::Result<()> {
        match (self.memory.as_mut(), self.journey.ids_mut()) {
            (Some(memory), Some(ids)) => memory.write(ids),
            _ => Ok(()),
        }
    }

    fn is_done(&self) -> bool {
        self.left || self.journey.ended()
    }
}
