//! A thread that looks up host names, so that the loop never waits for one.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::Instant;

use mio::Waker;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::base::id::LinkId;
use crate::base::limits::{HANDSHAKE, LOOKUPS_MAX};

struct Job {
    link: LinkId,
    hostname: String,
    port: u16,
    given_at: Instant,
}

/// The addresses of a name, or why there are none.
pub type Found = io::Result<Vec<SocketAddr>>;

/// The thread. It ends when this is dropped and its last answer came.
pub struct Lookup {
    jobs: Producer<Job>,
    results: Consumer<(LinkId, Found)>,
    thread: Thread,
}

impl Lookup {
    /// Starts the thread; it wakes the loop through `waker`.
    pub fn new(waker: &Arc<Waker>) -> io::Result<Lookup> {
        let (jobs, job_end) = RingBuffer::new(LOOKUPS_MAX);
        let (result_end, results) = RingBuffer::new(2 * LOOKUPS_MAX);
        let waker = Arc::clone(waker);
        let work = move || work(job_end, result_end, &waker);
        let handle = thread::Builder::new().name("lookup".to_owned()).spawn(work)?;
        Ok(Lookup { jobs, results, thread: handle.thread().clone() })
    }

    /// Asks for the addresses of a name.
    ///
    /// # Errors
    /// Too many wait already; nothing changed.
    pub fn ask(&mut self, link: LinkId, hostname: &str, port: u16) -> io::Result<()> {
        let job = Job { link, hostname: hostname.to_owned(), port, given_at: Instant::now() };
        self.jobs.push(job).map_err(|_| io::Error::other("too many names wait to be looked up"))?;
        self.thread.unpark();
        Ok(())
    }

    /// The next answer, if one is there.
    pub fn take(&mut self) -> Option<(LinkId, Found)> {
        self.results.pop().ok()
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        // The thread sees the abandoned rings once it is awake.
        self.thread.unpark();
    }
}

/// The addresses that need no looking up.
pub fn plain(hostname: &str, port: u16) -> Option<Vec<SocketAddr>> {
    let bare = hostname.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hostname);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(vec![SocketAddr::new(address, port)]);
    }
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    hostname
        .eq_ignore_ascii_case("localhost")
        .then(|| loopback.map(|address| SocketAddr::new(address, port)).to_vec())
}

fn work(mut jobs: Consumer<Job>, mut results: Producer<(LinkId, Found)>, waker: &Waker) {
    while !results.is_abandoned() {
        let Ok(job) = jobs.pop() else {
            // A job that comes now unparks the thread before it parks.
            thread::park_timeout(HANDSHAKE);
            continue;
        };
        // Nobody waits for it any more; names that take long must not hold up those that do not.
        let found = if job.given_at.elapsed() > HANDSHAKE {
            Err(io::Error::new(ErrorKind::TimedOut, "other names took too long"))
        } else {
            (&*job.hostname, job.port).to_socket_addrs().map(Iterator::collect)
        };
        // Where the loop does not take its answers it does not miss this one.
        let _ = results.push((job.link, found));
        if let Err(e) = waker.wake() {
            log::error!("waking the loop failed: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll, Token};
    use std::time::Duration;

    #[test]
    fn addresses_and_this_machine_need_no_lookup() {
        let text =
            |host: &str| plain(host, 7).map(|all| all.iter().map(|a| a.to_string()).collect::<Vec<_>>());
        assert_eq!(text("127.0.0.1").unwrap(), ["127.0.0.1:7"]);
        assert_eq!(text("::1").unwrap(), text("[::1]").unwrap());
        assert_eq!(text("LocalHost").unwrap(), ["127.0.0.1:7", "[::1]:7"]);
        assert_eq!(text("chat.example"), None);
    }

    #[test]
    fn a_name_that_is_none_is_answered_on_the_thread() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let mut lookup = Lookup::new(&waker).unwrap();
        let link = LinkId { slot: 1, generation: 2 };
        lookup.ask(link, "no such host", 7).unwrap();
        let mut events = Events::with_capacity(1);
        let (answered, found) = loop {
            poll.poll(&mut events, Some(Duration::from_secs(60))).unwrap();
            if let Some(answer) = lookup.take() {
                break answer;
            }
        };
        assert_eq!(answered, link);
        assert!(found.is_err());
    }
}
