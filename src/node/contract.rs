//! What a shell and a node say to each other.

use std::net::IpAddr;

use super::hashing::{HashJob, Hashed};
use super::mesh::Identity;
use crate::base::feed::Offset;
use crate::base::id::{LinkId, ServerId, StreamId};
use crate::base::rng::Rng;
use crate::base::row::Row;

/// What happens to a node, but for new connections and lines, which have calls of their own.
#[derive(Debug)]
pub enum Input {
    /// Time passed.
    Time,
    /// The link's line is longer than its limit.
    Overlong(LinkId),
    /// The link's line did not arrive in time while memory for half-received lines was short.
    TooSlow(LinkId),
    /// The client ended its side of the connection; every line before was given.
    Eof(LinkId),
    /// The socket is closed, by us or by an error.
    Closed {
        /// Which.
        link: LinkId,
        /// Bytes the kernel took for it that its client's kernel has not acknowledged.
        unacknowledged: u64,
    },
    /// Answer to [`Action::Settle`].
    Settled {
        /// The session looked at.
        session: LinkId,
        /// What for, as it was asked.
        errand: u64,
        /// As in `Closed`.
        unacknowledged: u64,
        /// The kernel has been retransmitting without an answer: the path is gone.
        stalled: bool,
    },
    /// Answer to [`Action::Measure`].
    Confirmed {
        /// The session.
        session: LinkId,
        /// As in `Closed`.
        unacknowledged: u64,
    },
    /// Answer to [`Action::Hash`].
    Hashed(LinkId, Hashed),
    /// Answer to [`Action::Dial`] or [`Action::Upgrade`]: the other end is proven to be this server. Its
    /// bytes are frames from now on, see [`Node::frame`](super::Node::frame).
    Joined {
        /// Which link.
        link: LinkId,
        /// Who is there: the first 16 bytes of SHA-256 of `key`.
        server: ServerId,
        /// Its public key.
        key: [u8; 32],
        /// The address of its socket.
        address: IpAddr,
    },
    /// The same, but the proof failed: another secret, or no server. A link that could not be dialled at
    /// all is simply `Closed`.
    Unproven(LinkId),
    /// Answer to [`Action::Read`].
    Chunk {
        /// As it was asked.
        offset: Offset,
        /// The bytes from there on, as many as come at once; none if they are gone or cannot be read.
        bytes: Option<Box<[u8]>>,
    },
    /// Answer to [`Action::Commit`].
    Committed {
        /// As it was asked.
        ticket: u64,
        /// It is on disk.
        good: bool,
    },
    /// What [`Action::Spawn`] asked for did not start, or ended with an error, perhaps long after.
    SpawnFailed {
        /// As it was asked.
        ticket: u64,
        /// A few words for people.
        why: String,
    },
    /// Send all clients to other servers, then close everything: for at most
    /// [`Limits::drain`](crate::base::limits::Limits::drain) and a little. Without another server, and the second
    /// time: close everything, after what is owed.
    Stop,
}

/// What a node wants done.
#[derive(Debug)]
pub enum Action {
    /// Hash a secret on a thread; answer with [`Input::Hashed`].
    Hash(HashJob),
    /// Read what the session's socket holds (as far as [`Node::reading`](super::Node::reading) lets it), count what is not
    /// acknowledged, and answer with [`Input::Settled`], in this turn.
    Settle {
        /// The session to look at.
        session: LinkId,
        /// What for.
        errand: u64,
    },
    /// Count what of the session's stream is not acknowledged; answer with [`Input::Confirmed`], in this
    /// turn.
    Measure(LinkId),
    /// Read the feed on disk from `offset` on; answer with [`Input::Chunk`].
    Read {
        /// The first byte.
        offset: Offset,
        /// Bytes at most.
        length: usize,
    },
    /// Change rows on disk, all or none; answer with [`Input::Committed`] when they are certain to survive the
    /// machine's end.
    Commit {
        /// Comes back with the answer.
        ticket: u64,
        /// Which rows.
        rows: Vec<Row>,
    },
    /// Start another server that joins this one; answer with [`Input::SpawnFailed`] if that fails.
    Spawn {
        /// Comes back with the answer.
        ticket: u64,
    },
    /// This server is not needed any more: end as if told to stop.
    Retire,
    /// The link takes lines again: give it those held back.
    Resume(LinkId),
    /// All links that were held may take lines again.
    ResumeAll,
    /// Shut our side of the connection; go on reading.
    Shutdown(LinkId),
    /// Close the socket; answer with [`Input::Closed`].
    Close(LinkId),
    /// Connect to another server, write `hello` and prove both ends; answer with [`Input::Joined`],
    /// [`Input::Unproven`], or [`Input::Closed`] where there is no connection.
    Dial {
        /// The link this becomes.
        link: LinkId,
        /// A name or an address.
        hostname: String,
        /// Its port.
        port: u16,
        /// The line that begins the link, LF included; it is part of what is proven.
        hello: Vec<u8>,
    },
    /// The link began with `hello`, so another server is there: prove both ends from the bytes behind that
    /// line; answer as for `Dial`.
    Upgrade {
        /// Which link.
        link: LinkId,
        /// The line as it came, without its line end.
        hello: Box<[u8]>,
    },
}

/// What is to be done with the bytes that come from a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Split them into lines of at most so many bytes and give those.
    Take(usize),
    /// Leave them where they are until [`Action::Resume`].
    Hold,
    /// Read and forget them: the link closes.
    Discard,
    /// Split what is decrypted into frames of at most so many bytes and give those to [`Node::frame`](super::Node::frame).
    Frames(usize),
    /// They are the proof of a server's link: the shell's own.
    Prove,
}

/// What the shell draws at random, once.
#[derive(Clone, Copy)]
pub struct Seeds {
    /// Key of the fast checks of secrets; the same on all servers of a network.
    pub verifiers: [u8; 32],
    /// Seed of the hash tables.
    pub tables: [u64; 2],
    /// Who this server is, and the stream of this boot.
    pub identity: Identity,
    /// Seed of what is left to chance.
    pub chance: u64,
}

impl Seeds {
    /// Seeds that follow from a number: for simulations, tests and benches, where nothing is secret. The
    /// number tells servers and boots apart.
    pub fn fixed(n: u64) -> Seeds {
        let mut rng = Rng::new(n);
        let mut bytes = || rng.draw().to_le_bytes();
        let mut key = [0; 32];
        key.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&bytes()));
        let server = ServerId(std::array::from_fn(|i| key[i]));
        let stream = StreamId(u64::from_le_bytes(bytes()));
        Seeds { verifiers: [7; 32], tables: [1, 2], identity: Identity { server, key, stream }, chance: n }
    }
}
