//! What goes to other servers, by kind: how many frames, and their bytes.

use super::Node;
use crate::wire::peer::PeerMessage;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Messages.
    Data,
    /// What is held of the receiver's own stream.
    Ack,
    /// What is held, and how far sessions are.
    Frontier,
    /// Signs of life.
    Heartbeat,
    /// Where a server is and what load it has.
    Announce,
    /// Sessions that begin, move on and end.
    Session,
    /// Names that are registered, and questions about them.
    Name,
    /// What a registry holds, and what others lack of it.
    Registry,
    /// What a link begins with.
    Link,
    /// What did not come by itself.
    Fetch,
}

impl Kind {
    /// All kinds, in the order of [`Traffic`].
    pub const ALL: [Kind; 10] = [
        Kind::Data,
        Kind::Ack,
        Kind::Frontier,
        Kind::Heartbeat,
        Kind::Announce,
        Kind::Session,
        Kind::Name,
        Kind::Registry,
        Kind::Link,
        Kind::Fetch,
    ];

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Data => "data",
            Kind::Ack => "ack",
            Kind::Frontier => "frontier",
            Kind::Heartbeat => "heartbeat",
            Kind::Announce => "announce",
            Kind::Session => "session",
            Kind::Name => "name",
            Kind::Registry => "registry",
            Kind::Link => "link",
            Kind::Fetch => "fetch",
        }
    }

    /// The kind of a control frame.
    pub fn of(message: &PeerMessage) -> Kind {
        match message {
            PeerMessage::Frontier(_) => Kind::Frontier,
            PeerMessage::Heartbeat => Kind::Heartbeat,
            PeerMessage::ServerAnnounce(_) => Kind::Announce,
            PeerMessage::SessionClaim(_) | PeerMessage::SessionRelease(_) | PeerMessage::SessionUpdate(_) => {
                Kind::Session
            }
            PeerMessage::NewRegisterAnnouncement(_)
            | PeerMessage::RegisterReply(_)
            | PeerMessage::NameQuestion(_)
            | PeerMessage::NameAnswer(_) => Kind::Name,
            PeerMessage::RegistryDigest(_) | PeerMessage::RegistryWant(_) | PeerMessage::RegistrySync(_) => {
                Kind::Registry
            }
            PeerMessage::ServerHello(_)
            | PeerMessage::ServerAuthKeyAnnouncement(_)
            | PeerMessage::SessionTable(_)
            | PeerMessage::Synced => Kind::Link,
            PeerMessage::Fetch(_) | PeerMessage::FetchGone { .. } => Kind::Fetch,
        }
    }
}

/// Totals since the start, of all links to other servers, one for each of [`Kind::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames made.
    pub frames: [u64; Kind::ALL.len()],
    /// Their bytes, lengths included.
    pub bytes: [u64; Kind::ALL.len()],
}

impl Traffic {
    /// Counts a frame.
    pub fn count(&mut self, kind: Kind, bytes: usize) {
        self.frames[kind as usize] += 1;
        self.bytes[kind as usize] += bytes as u64;
    }

    /// Frames and bytes of a kind.
    pub fn of(&self, kind: Kind) -> (u64, u64) {
        (self.frames[kind as usize], self.bytes[kind as usize])
    }

    /// Each figure with its name and its kind.
    pub fn list(&self) -> impl Iterator<Item = (&'static str, Kind, u64)> {
        let frames = Kind::ALL.into_iter().map(|kind| ("peer_frames", kind, self.of(kind).0));
        frames.chain(Kind::ALL.into_iter().map(|kind| ("peer_frames_bytes", kind, self.of(kind).1)))
    }
}

impl Node {
    /// What was sent to other servers so far.
    pub fn traffic(&self) -> &Traffic {
        &self.mesh.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_index_their_figures() {
        assert!(Kind::ALL.iter().enumerate().all(|(i, kind)| *kind as usize == i));
        let mut traffic = Traffic::default();
        traffic.count(Kind::of(&PeerMessage::Heartbeat), 30);
        assert_eq!(traffic.of(Kind::Heartbeat), (1, 30));
        assert_eq!(traffic.list().filter(|(.., n)| *n > 0).count(), 2);
    }
}
