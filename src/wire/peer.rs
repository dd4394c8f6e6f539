//! What servers tell each other in control frames: JSON, `{"command": …, "body": …}`.
//!
//! Unknown commands and fields are ignored, so that versions can differ while a network is renewed.

use serde::{Deserialize, Serialize};

use crate::base::hlc::{Generation, Hlc};
use crate::base::id::{ServerId, StreamId};
use crate::base::vector::{Changes, Vector};
use crate::wire::registration::{
    Announcement, Answer, Digest, Question, RegisterReply, Registration, Sync, Want,
};

/// One control message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", content = "body", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PeerMessage {
    /// The first on every link, from both sides: who I am since this boot, and what I hold.
    ServerHello(Hello),
    /// A sign of life.
    Heartbeat,
    /// Where a server can be reached and what load it has.
    ServerAnnounce(Announce),
    /// Servers of the network, with their public keys.
    ServerAuthKeyAnnouncement(Vec<Known>),
    /// Send me this part of a stream that is not yours.
    Fetch(Fetch),
    /// Of this stream I no longer have what lies before `first`.
    FetchGone {
        /// Which.
        stream: StreamId,
        /// The first I can send.
        first: u64,
    },
    /// What I hold, and how far my sessions are.
    Frontier(Frontier),
    /// A login asks what is known of its name.
    SessionClaim(Claim),
    /// The answer to a claim.
    SessionRelease(Release),
    /// A session began, moved on or ended.
    SessionUpdate(Update),
    /// Sessions and entries, at the begin of a link.
    SessionTable(Table),
    /// All I know was told: the link is in step.
    Synced,
    /// A name is claimed, committed, or its claim is given up.
    NewRegisterAnnouncement(Announcement),
    /// The answer to a claim or a commit.
    RegisterReply(RegisterReply),
    /// What my registry holds.
    RegistryDigest(Digest),
    /// What I lack of yours.
    RegistryWant(Want),
    /// Registrations.
    RegistrySync(Sync),
    /// Who has this name?
    NameQuestion(Question),
    /// The answer.
    NameAnswer(Answer),
}

/// See [`PeerMessage::ServerHello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The boot's stream.
    pub stream: StreamId,
    /// The clock, so that stamps drawn from now on are above.
    pub clock: Hlc,
    /// How far each stream is held. The receiver sends its own from behind that on.
    pub held: Vector,
}

/// See [`PeerMessage::ServerAnnounce`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// Name or address under which clients and servers reach it.
    pub hostname: String,
    /// Its port.
    pub port: u16,
    /// Sessions it has.
    pub load: u64,
    /// It is about to stop, and sends its clients away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// How it shares its clients; none if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<Offer>,
    /// It wants another server to be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spawning: Option<Spawning>,
    /// It was started by another one, for which this is its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spawned: Option<u64>,
}

/// See [`Announce::spawning`]. Of several the lowest goes on, and one that has begun before all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawning {
    /// When it was wanted, and by whom.
    pub stamp: Generation,
    /// It is being started.
    pub started: bool,
}

/// What two servers must know to send each other clients. All pairs are registered users, then anonymous
/// clients; all totals since the link began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Sessions that the server has.
    pub here: [u64; 2],
    /// Users that came to it, in all, but for those that a server sent there.
    #[serde(default)]
    pub came: u64,
    /// How many of both it should have at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u64>,
    /// After how many milliseconds it says so again.
    pub every_ms: u64,
    /// How many the one who reads this may have sent there.
    pub credit: [u64; 2],
    /// How many were sent to the one who reads this.
    pub sent: [u64; 2],
    /// How many that one has sent and are not on their way any more.
    pub arrived: [u64; 2],
}

/// A server of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its id: the first 16 bytes of SHA-256 of `key`.
    pub id: ServerId,
    /// Its public key.
    #[serde(with = "digits")]
    pub key: [u8; 32],
    /// Where it is.
    pub hostname: String,
    /// Its port.
    pub port: u16,
}

/// See [`PeerMessage::Fetch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// Which.
    pub stream: StreamId,
    /// The first wanted.
    pub from: u64,
    /// The last wanted.
    pub upto: u64,
}

/// What a server knows of one session of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whose.
    pub name: Box<str>,
    /// Which.
    pub generation: Generation,
    /// The boot it lives or lived on.
    pub home: StreamId,
    /// Whether it lives.
    pub state: State,
    /// What its client confirmed; none where only its home could say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vector>,
    /// The same as it is sent: see [`PeerMessage::shortened`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
    /// Counts what its home said of it; the higher is the later.
    pub version: u64,
    /// It was claimed and is not attached yet.
    #[serde(default)]
    pub pending: bool,
    /// Its vector was lowered by a login that took another entry.
    #[serde(default)]
    pub lowered: bool,
    /// Two sessions of the name were healthy at once.
    #[serde(default)]
    pub multi: bool,
    /// It has bytes its client has not confirmed.
    #[serde(default)]
    pub unconfirmed: bool,
    /// The home itself says so.
    #[serde(default)]
    pub authentic: bool,
    /// The stamp of the name's registration: another one's sessions are somebody else's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Generation>,
}

impl Entry {
    /// A session of which nothing else is known.
    pub fn new(name: Box<str>, generation: Generation, home: StreamId, state: State) -> Entry {
        Entry {
            name,
            generation,
            home,
            state,
            vector: None,
            changes: None,
            version: 1,
            pending: false,
            lowered: false,
            multi: false,
            unconfirmed: false,
            authentic: false,
            stamp: None,
        }
    }

    /// True if it is of this registration of its name.
    pub fn is_of(&self, stamp: Generation) -> bool {
        self.stamp.is_none_or(|own| own == stamp)
    }
}

/// See [`Entry::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Its client is connected, as far as is known.
    Live,
    /// Its connection broke; it is owed what follows its vector.
    Broken,
    /// It logged out; it is owed nothing.
    Ended,
}

/// See [`PeerMessage::Frontier`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frontier {
    /// How far each stream is held, for those of which that changed: the first on a link names all.
    pub held: Vector,
    /// What every session of mine has confirmed that is not named below; again what changed.
    pub confirmed: Vector,
    /// Sessions that have not: whose, which, and how far they are.
    pub behind: Vec<Behind>,
    /// Orders this among what I say of my sessions.
    pub version: u64,
}

/// A session of [`Frontier::behind`]: its name, which it is, and the streams in which it stands elsewhere than
/// [`Frontier::confirmed`], with where. None where it stands as it was named before.
pub type Behind = (Box<str>, Generation, Option<Changes>);

/// See [`PeerMessage::SessionClaim`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The session that wants to begin, pending.
    pub entry: Entry,
    /// Its name, for who has not heard of it yet, with the fast verifier of its secret.
    pub registration: Registration,
}

/// See [`PeerMessage::SessionRelease`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The claim it answers.
    pub generation: Generation,
    /// What is known of the name.
    pub entries: Vec<Entry>,
    /// How far the name itself has spoken in each stream.
    pub last: Vector,
    /// Generations that were taken over, and by which.
    pub taken: Vec<(Generation, Generation)>,
    /// What the answering server has applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Vector>,
    /// The same as it is sent: see [`PeerMessage::shortened`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
    /// The user was sent from server to server, and is not again for so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spared_ms: Option<u64>,
    /// The answering server was the one that sent it, a moment ago.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sent_away: bool,
}

/// See [`PeerMessage::SessionUpdate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The session as it is now.
    pub entry: Entry,
    /// Entries it took over: each with the generation that took it.
    pub taken: Vec<(Generation, Generation)>,
    /// Entries of the name whose vector is lowered.
    pub lowered: Vec<Entry>,
    /// Of those it took: sessions whose home was not heard, so that they may have lived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unheard: Vec<Generation>,
    /// Sessions that lived, or may have, when it took or lowered entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
}

/// Sessions that lived when a login took an entry. Those that end without having confirmed anything above
/// `after` are owed what that entry was, from `vector` on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// Those that lived.
    pub sessions: Vec<Generation>,
    /// Where the login begins.
    pub vector: Vector,
    /// What was exposed when it was asked for.
    pub after: Vector,
}

/// See [`PeerMessage::SessionTable`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Sessions and entries.
    pub entries: Vec<Entry>,
    /// As in [`Release::taken`], each with its name.
    pub taken: Vec<(Box<str>, Generation, Generation)>,
}

/// Reads a control body. `Ok(None)`: a command that this version does not know.
///
/// # Errors
/// A body that is no message; the link it came on is closed.
pub fn read(body: &[u8]) -> Result<Option<PeerMessage>, String> {
    #[derive(Deserialize)]
    struct Named {
        command: String,
    }
    match serde_json::from_slice(body) {
        Ok(message) => Ok(Some(message)),
        Err(error) => match serde_json::from_slice::<Named>(body) {
            Ok(named) if error.to_string().contains("unknown variant") => {
                log::debug!("a peer sent {}, which this version does not know", named.command);
                Ok(None)
            }
            _ => Err(error.to_string()),
        },
    }
}

/// Bytes as hexadecimal digits.
pub mod digits {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::base::id::{digits, hex};

    /// Writes them.
    pub fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&digits(bytes))
    }

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(from: D) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(from)?;
        hex(&text).ok_or_else(|| D::Error::custom(format_args!("expected {} hexadecimal digits", 2 * N)))
    }
}

/// The same where there may be none.
pub mod digits_or_none {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::base::id::{digits, hex};

    /// Writes them.
    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &Option<[u8; N]>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => to.serialize_some(&digits(bytes)),
            None => to.serialize_none(),
        }
    }

    /// Reads them; what is malformed is none.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        from: D,
    ) -> Result<Option<[u8; N]>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.and_then(|text| hex(&text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_unknown_ones_are_ignored() {
        let known = Known { id: ServerId([1; 16]), key: [2; 32], hostname: "h".into(), port: 7 };
        for message in [
            PeerMessage::Heartbeat,
            PeerMessage::ServerAuthKeyAnnouncement(vec![known]),
            PeerMessage::FetchGone { stream: StreamId(5), first: 9 },
        ] {
            assert_eq!(read(&serde_json::to_vec(&message).unwrap()), Ok(Some(message)));
        }
        assert_eq!(read(br#"{"command":"LATER","body":{"x":1}}"#), Ok(None));
        assert_eq!(read(br#"{"command":"HEARTBEAT","more":1}"#), Ok(Some(PeerMessage::Heartbeat)));
        assert!(read(br#"{"command":"FETCH","body":{}}"#).is_err() && read(b"x").is_err());
    }
}
