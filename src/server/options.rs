//! What a server is started with, and why it may not start.

use std::net::SocketAddr;
use std::{fmt, io};

use super::keep::Keep;
use super::listen::Bind;
use super::noise::Credentials;
use super::secret::{Keys, Source, draw};
use super::spawn::Spawn;
use crate::base::id::StreamId;
use crate::base::limits::Limits;
use crate::node::{Identity, Seeds};

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub bind: Bind,
    /// On which port; 0 lets the system choose.
    pub port: u16,
    /// Another port, on which more servers of this machine may listen, too.
    pub shared_port: Option<u16>,
    /// The name or address under which clients and other servers reach it.
    pub hostname: String,
    /// A server of the network to join.
    pub join: Option<(String, u16)>,
    /// Where the secret is that all servers of the network have.
    pub secret: Source,
    /// What it keeps on disk, in a folder of its port there; with none nothing outlives it.
    pub keep: Option<Keep>,
    /// How it starts other servers, if it does when all are full.
    pub spawn: Option<Spawn>,
    /// Where its status pages are; with none it has none.
    pub http: Option<SocketAddr>,
    /// Its bounds.
    pub limits: Limits,
}

impl Default for Options {
    /// A server alone, on a free port of this machine.
    fn default() -> Options {
        Options {
            bind: Bind::Loopback,
            port: 0,
            shared_port: None,
            hostname: "localhost".to_owned(),
            join: None,
            secret: Source::Alone,
            keep: None,
            spawn: None,
            http: None,
            limits: Limits::default(),
        }
    }
}

/// Why a server did not start. Its text says what to do.
#[derive(Debug)]
pub enum StartError {
    /// The port cannot be had.
    Listen(Bind, u16, io::Error),
    /// The address of the status pages cannot be had.
    Http(SocketAddr, io::Error),
    /// There is no cluster secret.
    Secret(String),
    /// Its folder cannot be used.
    Store(io::Error),
    /// The system lacks something.
    System(io::Error),
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> StartError {
        StartError::System(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(Bind::Only(address), _, error)
                if error.kind() == io::ErrorKind::AddrNotAvailable =>
            {
                write!(f, "cannot listen on {address}: this machine does not have it; --bind chooses another")
            }
            StartError::Listen(_, port, error) => {
                write!(f, "cannot listen on port {port}: {error}; -lp chooses another, -lp 0 a free one")
            }
            StartError::Http(at, error) => {
                write!(f, "the status pages cannot be at {at}: {error}; --http chooses another place")
            }
            StartError::Secret(why) => write!(f, "{why}"),
            StartError::Store(error) => {
                write!(
                    f,
                    "what outlives the server cannot be kept: {error}; --data-dir chooses another folder, --ephemeral keeps nothing"
                )
            }
            StartError::System(error) => write!(f, "the system lets no server start: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What a node draws at random once.
pub(super) fn seeds(keys: &Keys, credentials: &Credentials) -> io::Result<Seeds> {
    Ok(Seeds {
        verifiers: *keys.verifiers,
        tables: [draw()?, draw()?],
        identity: Identity { server: credentials.id, key: credentials.public, stream: StreamId(draw()?) },
        chance: draw()?,
    })
}
