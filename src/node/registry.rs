//! The registry: who has which name, and how a secret is checked.
//!
//! A record is slow to check on purpose (Argon2id, done by the shell's threads). After a success the name
//! has a *verifier*, a keyed digest of name and secret that takes no time and is kept in memory only: it
//! serves re-logins and every ACTIVITY_MESSAGE, and no secret is ever kept.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};

use compact_str::CompactString;
use hashbrown::HashTable;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use siphasher::sip::SipHasher13;

use super::names::Names;
use crate::base::hlc::Generation;
use crate::base::id::UserId;
use crate::base::limits::LOSERS_MAX;
use crate::base::time::Time;

/// A seed for hash tables: chosen by the shell, so that names cannot be chosen to collide and yet a
/// simulated run repeats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(u64, u64);

impl Seed {
    pub fn new(a: u64, b: u64) -> Seed {
        Seed(a, b)
    }
}

impl BuildHasher for Seed {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

/// What is kept of a secret: Argon2id of it, with the salt and the cost it was made at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Drawn for this record.
    pub salt: [u8; 16],
    /// The digest.
    pub digest: [u8; 32],
    /// KiB of memory it took.
    pub kib: u32,
    /// Passes over that memory.
    pub passes: u32,
}

/// A keyed digest of name and secret, HMAC-SHA256 cut to 128 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verifier([u8; 16]);

impl Verifier {
    pub fn bytes(&self) -> [u8; 16] {
        self.0
    }

    pub fn new(bytes: [u8; 16]) -> Verifier {
        Verifier(bytes)
    }

    /// Compares in constant time.
    pub fn matches(&self, other: &Verifier) -> bool {
        let different = self.0.iter().zip(&other.0).fold(0, |d, (a, b)| d | (a ^ b));
        std::hint::black_box(different) == 0
    }
}

/// One registered name. What few names have is beside it in the [`Registry`].
#[derive(Debug)]
pub(super) struct User {
    /// In place up to 24 bytes, which nearly all have.
    pub name: CompactString,
    pub record: Record,
    /// Its registration's; of two the lower wins.
    pub stamp: Generation,
    /// The fast check of this registration's secret, while it is known.
    pub verifier: Option<Verifier>,
    /// When the last session ended; means something while there is none.
    pub idle_since: Time,
    /// The newest session's slot, or `NO_SLOT`; the others hang on it as a list.
    pub newest: u32,
    /// What is kept of its sessions is stale.
    pub sessions_stale: bool,
    /// Its away deadline is set: at most one a name, however often it comes and goes.
    pub away_set: bool,
    /// Its verifier deadline is set.
    pub verifier_set: bool,
}

// With 4 to 8 in its bucket and 6 to 12 in the table a name is below 160.
const _: () = assert!(size_of::<User>() <= 136, "docs/design.md says what a name costs");

/// No link.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// All names. They are never removed, so a [`UserId`] stays good.
///
/// It grows by a page, or by a bucket's table, so that no turn moves all names.
pub(super) struct Registry {
    /// All are full but the last.
    pages: Vec<Vec<User>>,
    /// What is known of a name's sessions, here and elsewhere: who is in, and what each is owed.
    pub names: BTreeMap<UserId, Names>,
    /// Registrations of a name that lost, the lowest first; at most [`LOSERS_MAX`].
    lost: BTreeMap<UserId, Box<[Generation]>>,
    buckets: Vec<Bucket>,
    /// The hash by which names fall into buckets: all servers of a network have it in common, nobody else.
    common: Seed,
    mac: Hmac<Sha256>,
    names_max: usize,
    /// Names that were added or changed, if anybody wants to know.
    pub changed: Option<Vec<UserId>>,
}

/// Names that are made room for at once: half a megabyte.
const PAGE: usize = 4096;
/// How many buckets of names are compared with other servers'.
pub(super) const BUCKETS: usize = 256;

/// Some of the names.
#[derive(Clone, Debug, Default)]
pub(super) struct Bucket {
    /// In the order in which they came.
    pub users: Vec<u32>,
    /// The same by name.
    index: HashTable<u32>,
    /// The sum of their digests.
    pub sum: u64,
}

impl Registry {
    /// An empty registry whose verifiers are made with `key`.
    pub fn new(key: &[u8; 32], names_max: usize) -> Registry {
        let mac: Hmac<Sha256> = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
        // No verifier is made of bytes without a zero among them.
        let common = mac.clone().chain_update(b"buckets").finalize().into_bytes();
        let word = |from: usize| u64::from_le_bytes(std::array::from_fn(|i| common[from + i]));
        Registry {
            pages: Vec::new(),
            names: BTreeMap::new(),
            lost: BTreeMap::new(),
            buckets: vec![Bucket::default(); BUCKETS],
            common: Seed(word(0), word(8)),
            mac,
            names_max,
            changed: None,
        }
    }

    /// Forgets all names, before anybody has a [`UserId`].
    pub fn clear(&mut self) {
        self.pages.clear();
        self.lost.clear();
        self.buckets.fill(Bucket::default());
    }

    pub fn len(&self) -> usize {
        self.pages.last().map_or(0, |last| (self.pages.len() - 1) * PAGE + last.len())
    }

    pub fn set_names_max(&mut self, names_max: usize) {
        self.names_max = names_max;
    }

    /// No more names may be registered here. Those of other servers are still learnt.
    pub fn is_full(&self) -> bool {
        self.len() >= self.names_max.min(NO_SLOT as usize)
    }

    pub fn find(&self, name: &str) -> Option<UserId> {
        let same = |i: &u32| self.user(UserId(*i)).name == name;
        let hash = hash(self.common, name);
        self.buckets[bucket_of(hash)].index.find(place_of(hash), same).copied().map(UserId)
    }

    /// Adds a name that is not there yet.
    pub fn add(&mut self, now: Time, name: &str, record: Record, stamp: Generation) -> UserId {
        debug_assert!(self.find(name).is_none());
        let id = UserId(self.len() as u32);
        if self.pages.last().is_none_or(|page| page.len() == PAGE) {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        self.pages.last_mut().expect("one was added").push(User {
            name: name.into(),
            record,
            stamp,
            verifier: None,
            idle_since: now,
            newest: NO_SLOT,
            sessions_stale: false,
            away_set: false,
            verifier_set: false,
        });
        let (digest, hash_of_it, common) = (self.digest_of(id), hash(self.common, name), self.common);
        let Registry { pages, buckets, .. } = self;
        let bucket = &mut buckets[bucket_of(hash_of_it)];
        let rehash = |i: &u32| place_of(hash(common, &pages[*i as usize / PAGE][*i as usize % PAGE].name));
        bucket.index.insert_unique(place_of(hash_of_it), id.0, rehash);
        bucket.users.push(id.0);
        bucket.sum = bucket.sum.wrapping_add(digest);
        self.changed.iter_mut().for_each(|changed| changed.push(id));
        id
    }

    /// Gives a name another registration, which wins against the one it had, or only other losers.
    pub fn replace(&mut self, id: UserId, record: Option<(Record, Generation)>, mut lost: Vec<Generation>) {
        let before = self.digest_of(id);
        let known = self.lost.remove(&id).unwrap_or_default();
        lost.extend(&known);
        let user = self.user_mut(id);
        if let Some((record, stamp)) = record {
            lost.push(user.stamp);
            (user.record, user.stamp, user.verifier) = (record, stamp, None);
        }
        lost.retain(|stamp| *stamp != user.stamp);
        lost.sort_unstable();
        lost.dedup();
        lost.truncate(LOSERS_MAX);
        if !lost.is_empty() {
            self.lost.insert(id, lost.into());
        }
        let after = self.digest_of(id);
        let bucket = bucket_of(hash(self.common, &self.user(id).name));
        let sum = &mut self.buckets[bucket].sum;
        *sum = sum.wrapping_sub(before).wrapping_add(after);
        self.changed.iter_mut().for_each(|changed| changed.push(id));
    }

    /// Registrations of this name that lost, the lowest first.
    pub fn lost(&self, id: UserId) -> &[Generation] {
        self.lost.get(&id).map_or(&[], |lost| lost)
    }

    /// What this name adds to its bucket's digest.
    pub fn digest_of(&self, id: UserId) -> u64 {
        let user = self.user(id);
        let mut hasher = self.common.build_hasher();
        hasher.write(user.name.as_bytes());
        for stamp in [user.stamp].iter().chain(self.lost(id)) {
            hasher.write(&stamp.at.0.to_le_bytes());
            hasher.write(&stamp.by.0);
        }
        hasher.finish()
    }

    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// The digest of all names: equal registries have equal ones, whatever came first.
    pub fn root(&self) -> u64 {
        self.buckets.iter().fold(0, |root: u64, bucket| root.wrapping_add(bucket.sum))
    }

    pub fn user(&self, id: UserId) -> &User {
        &self.pages[id.0 as usize / PAGE][id.0 as usize % PAGE]
    }

    pub fn user_mut(&mut self, id: UserId) -> &mut User {
        &mut self.pages[id.0 as usize / PAGE][id.0 as usize % PAGE]
    }

    /// The verifier that `name` with `secret` has, whether it is registered or not.
    pub fn verifier(&self, name: &str, secret: &str) -> Verifier {
        let mut mac = self.mac.clone();
        mac.update(name.as_bytes());
        mac.update(&[0]);
        mac.update(secret.as_bytes());
        let digest = mac.finalize().into_bytes();
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        Verifier(short)
    }
}

fn bucket_of(hash: u64) -> usize {
    hash as usize % BUCKETS
}

/// For a bucket's table, which looks at the first and the last bits: all its names have the last in common.
fn place_of(hash: u64) -> u64 {
    hash.rotate_right(32)
}

fn hash(seed: Seed, name: &str) -> u64 {
    let mut hasher = seed.build_hasher();
    hasher.write(name.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hlc::Hlc;
    use crate::base::id::ServerId;

    #[test]
    fn names_are_found_and_verifiers_tell_pairs_apart() {
        let mut registry = Registry::new(&[7; 32], 5000);
        let record = Record { salt: [0; 16], digest: [0; 32], kib: 8, passes: 1 };
        // More than a page of them, so that a second one begins.
        for i in 0..5000 {
            let name = format!("user{i}");
            let stamp = Generation { at: Hlc(u64::from(i)), by: ServerId([1; 16]) };
            assert_eq!(registry.add(Time::START, &name, record.clone(), stamp), UserId(i));
        }
        assert!(registry.is_full());
        assert_eq!(registry.find("user77"), Some(UserId(77)));
        assert_eq!((registry.find("user4999"), registry.find("user5000")), (Some(UserId(4999)), None));
        assert_eq!(registry.buckets().iter().map(|bucket| bucket.users.len()).sum::<usize>(), 5000);
        let known = registry.verifier("user5", "s");
        assert!(known.matches(&registry.verifier("user5", "s")));
        assert!(!known.matches(&registry.verifier("user5", "S")));
        assert!(!registry.verifier("ab", "c").matches(&registry.verifier("a", "bc")));
    }
}
