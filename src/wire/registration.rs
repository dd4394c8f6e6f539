//! What servers tell each other of registered names: claims and their verdicts, questions, and how two
//! registries become one.

use serde::{Deserialize, Serialize};

use super::peer::{digits, digits_or_none};
use crate::base::hlc::Generation;

/// A registered name, or one that is claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The name.
    pub name: Box<str>,
    /// When and where it was claimed. Of two registrations of a name the lower one wins.
    pub stamp: Generation,
    /// Of its record: the salt.
    #[serde(with = "digits")]
    pub salt: [u8; 16],
    /// The digest.
    #[serde(with = "digits")]
    pub digest: [u8; 32],
    /// KiB of memory it took.
    pub kib: u32,
    /// Passes over that memory.
    pub passes: u32,
    /// Registrations of this name that lost against it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Generation>,
    /// The fast verifier of its secret, if it is known.
    #[serde(default, with = "digits_or_none", skip_serializing_if = "Option::is_none")]
    pub verifier: Option<[u8; 16]>,
}

/// See [`PeerMessage::NewRegisterAnnouncement`](super::peer::PeerMessage::NewRegisterAnnouncement).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "lowercase")]
pub enum Announcement {
    /// Somebody wants this name.
    Claim(Registration),
    /// It is registered.
    Commit(Registration),
    /// The claim is given up.
    Abort {
        /// The name.
        name: Box<str>,
        /// Which claim.
        stamp: Generation,
    },
}

/// The answer to a claim or a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterReply {
    /// The name.
    pub name: Box<str>,
    /// Which claim.
    pub stamp: Generation,
    /// What comes of it.
    pub verdict: Verdict,
    /// Who has the name, where it was denied for that.
    #[serde(default)]
    pub record: Option<Registration>,
}

/// See [`RegisterReply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing speaks against it here, and no other claim will be granted as long as it is not over.
    Granted,
    /// A lower claim is under way; what comes of that decides, and will be told.
    Waits,
    /// The name is taken.
    Denied,
    /// The commit is kept here.
    Stored,
}

/// What a registry holds. Equal registries have equal digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Of all names.
    pub root: u64,
    /// Of each bucket: how many names, and their digest. Empty where only the root is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<(u32, u64)>,
    /// Tell me yours.
    #[serde(default)]
    pub ask: bool,
}

/// The answer to a digest with buckets: which of them differ, and what I have of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Buckets, each with the digests of the names I have. Send me the others.
    pub buckets: Vec<(u8, Vec<u64>)>,
    /// No more follow.
    pub last: bool,
}

/// Registrations, as they were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// Some of them.
    pub records: Vec<Registration>,
    /// That was all.
    #[serde(default)]
    pub last: bool,
}

/// Who has this name?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Comes back in the answer.
    pub id: u64,
    /// The name.
    pub name: Box<str>,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// As it was asked.
    pub id: u64,
    /// The registration, if it is known.
    pub record: Option<Registration>,
}

#[cfg(test)]
mod tests {
    use super::super::peer::{PeerMessage, read};
    use super::*;
    use crate::base::hlc::Hlc;
    use crate::base::id::ServerId;

    #[test]
    fn registrations_come_back_as_they_were_sent() {
        let stamp = Generation { at: Hlc(u64::MAX), by: ServerId([9; 16]) };
        let record = Registration {
            name: "bob \u{e9}".into(),
            stamp,
            salt: [1; 16],
            digest: [0xfe; 32],
            kib: 19_456,
            passes: 2,
            lost: vec![stamp],
            verifier: Some([7; 16]),
        };
        let bare = Registration { lost: Vec::new(), verifier: None, ..record.clone() };
        let name: Box<str> = "bob".into();
        for message in [
            PeerMessage::NewRegisterAnnouncement(Announcement::Claim(record.clone())),
            PeerMessage::NewRegisterAnnouncement(Announcement::Abort { name: name.clone(), stamp }),
            PeerMessage::RegisterReply(RegisterReply { name, stamp, verdict: Verdict::Denied, record: None }),
            PeerMessage::RegistrySync(Sync { records: vec![record, bare], last: true }),
            PeerMessage::RegistryWant(Want { buckets: vec![(255, vec![u64::MAX])], last: true }),
        ] {
            assert_eq!(read(&serde_json::to_vec(&message).unwrap()), Ok(Some(message)));
        }
    }
}
