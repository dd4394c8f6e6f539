//! How much of it is done in a turn.

use std::collections::BTreeSet;

use super::*;
use crate::base::hlc::Hlc;
use crate::base::id::{LinkId, ServerId, StreamId};
use crate::base::limits::Limits;
use crate::base::time::Time;
use crate::base::vector::Vector;
use crate::node::peer::Peer;
use crate::node::registry::BUCKETS;
use crate::node::status::Census;
use crate::node::{Input, Seeds};
use crate::wire::frame::{self, Frame, Frames};
use crate::wire::line::Flow;
use crate::wire::peer::State;

/// More than two turns' of them.
const NAMES: u32 = 4_000;

/// A peer that takes what it is sent.
fn peer(node: &mut Node, n: u32) -> PeerId {
    let link = LinkId { slot: n, generation: 1 };
    let mut peer = Peer::new(link, ServerId([n as u8; 16]), true, Time::START);
    peer.stream = Some(StreamId(u64::from(n)));
    PeerId(node.mesh.peers.insert(peer) as u32)
}

/// A node with names, and such a peer.
fn node() -> (Node, PeerId) {
    let mut node = Node::new(Limits { feed_bytes: 1 << 12, ..Limits::default() }, &Seeds::fixed(1));
    for i in 0..NAMES {
        let (salt, digest) = ([1; 16], [2; 32]);
        let stamp = Generation { at: Hlc(u64::from(i)), by: ServerId([1; 16]) };
        let (lost, verifier) = (Vec::new(), None);
        let name = format!("user{i}").into();
        node.merge_registration(&Registration {
            name,
            stamp,
            salt,
            digest,
            kib: 8,
            passes: 1,
            lost,
            verifier,
        });
    }
    let id = peer(&mut node, 9);
    (node, id)
}

/// Turns until the peer has all, each with the bytes it brought; and what was said.
fn turns(node: &mut Node, peer: PeerId) -> (Vec<usize>, Vec<PeerMessage>) {
    let (mut turns, mut said, mut frames) = (Vec::new(), Vec::new(), Frames::default());
    while node.mesh.peers[peer.0 as usize].sync.is_some() {
        node.handle(Time::START, Input::Time);
        let mut bytes = 0;
        loop {
            node.fill_sync(peer);
            let out = std::mem::take(&mut node.mesh.peers[peer.0 as usize].out);
            if out.is_empty() {
                break;
            }
            bytes += out.len();
            let hear = |bytes: &[u8]| {
                if let Frame::Control(body) = frame::read(bytes).unwrap() {
                    said.push(serde_json::from_slice(body).unwrap());
                }
                Flow::Next
            };
            frames.feed(&out, hear).unwrap();
        }
        assert!(bytes > 0, "each turn brings something");
        let is_more = node.timeout(Time::START) == Some(std::time::Duration::ZERO);
        assert_eq!(is_more, node.mesh.peers[peer.0 as usize].sync.is_some(), "the next turn comes at once");
        turns.push(bytes);
    }
    (turns, said)
}

#[test]
fn a_newcomer_gets_all_names_and_no_more_a_turn_than_the_bound() {
    let (mut node, peer) = node();
    let buckets = (0..BUCKETS).map(|i| (i as u8, Vec::new())).collect();
    node.on_want(peer, Want { buckets, last: true });
    let (turns, said) = turns(&mut node, peer);
    let records = said.iter().map(|said| match said {
        PeerMessage::RegistrySync(sync) => (sync.records.len(), sync.last),
        _ => (0, false),
    });
    let (sent, last) = records.fold((0, 0), |(n, lasts), (more, last)| (n + more, lasts + u32::from(last)));
    assert_eq!((sent, last), (NAMES as usize, 1));
    assert!(turns.len() > 2 && turns.iter().all(|bytes| *bytes <= TURN_SYNC_BYTES), "{turns:?}");
}

#[test]
fn a_newcomer_is_told_all_sessions_and_no_more_a_turn_than_the_bound() {
    let (mut node, peer) = node();
    let (home, vector) = (StreamId(u64::MAX), (1..=5).map(|n| (StreamId(u64::MAX - n), 1 << 40)).collect());
    for i in 0..NAMES {
        let generation = Generation { at: Hlc((1 << 60) + u64::from(i)), by: ServerId([0xff; 16]) };
        let mut rec = node.new_rec(generation);
        (rec.home, rec.state, rec.vector) = (home, State::Broken, Some(Vector::clone(&vector)));
        let names = node.known_mut(UserId(i));
        names.put(rec);
        names.taken.push((generation, generation, Time::START));
    }
    let (mut census, mut pieces) = (Census::default(), 1);
    while !node.count_mailboxes(&mut census, 100) {
        pieces += 1;
    }
    let status = node.status(&census);
    assert_eq!((pieces, status.mailboxes), (NAMES / 100, u64::from(NAMES)));
    node.on_want(peer, Want { buckets: Vec::new(), last: true });
    node.on_sync(peer, &Sync { records: Vec::new(), last: true });
    let (turns, said) = turns(&mut node, peer);
    let (mut names, mut taken) = (BTreeSet::new(), 0);
    for said in &said {
        if let PeerMessage::SessionTable(table) = said {
            names.extend(table.entries.iter().map(|entry| entry.name.clone()));
            taken += table.taken.len();
        }
    }
    assert_eq!((names.len(), taken), (NAMES as usize, NAMES as usize));
    assert!(matches!(said.last(), Some(PeerMessage::Synced)), "then it is in step");
    assert!(turns.len() > 2 && turns.iter().all(|bytes| *bytes <= TURN_SYNC_BYTES), "{turns:?}");
}

#[test]
fn names_that_both_have_are_passed_over_a_turn_at_a_time() {
    let (mut node, peer) = node();
    let all = node.registry.buckets().to_vec();
    let have = |bucket: &Bucket| bucket.users.iter().map(|u| node.registry.digest_of(UserId(*u))).collect();
    let buckets = all.iter().enumerate().map(|(i, bucket)| (i as u8, have(bucket))).collect();
    node.on_want(peer, Want { buckets, last: true });
    node.mesh.sync_left = DIGEST_BYTES * 100;
    node.fill_sync(peer);
    assert!(node.mesh.peers[peer.0 as usize].out.is_empty(), "a hundred names were looked at");
    let (_, said) = turns(&mut node, peer);
    assert!(matches!(&said[..], [PeerMessage::RegistrySync(sync)] if sync.last && sync.records.is_empty()));
}

#[test]
fn a_peer_is_asked_of_every_bucket_that_differs_and_told_when_that_was_all() {
    let (mut node, peer) = node();
    let buckets = vec![(1, 0); BUCKETS];
    node.want_names(peer, &Digest { root: 0, buckets, ask: false });
    node.mesh.sync_left = 1;
    let (_, said) = turns(&mut node, peer);
    let wants = said.iter().map(|said| match said {
        PeerMessage::RegistryWant(want) => (want.buckets.len(), want.last),
        _ => (0, false),
    });
    let (asked, last) = wants.fold((0, 0), |(n, lasts), (more, last)| (n + more, lasts + u32::from(last)));
    assert_eq!((asked, last), (BUCKETS, 1));
}

/// What a peer is told next, by their commands.
fn told(node: &mut Node, peer: PeerId) -> Vec<&'static str> {
    let mut out = std::mem::take(&mut node.mesh.peers[peer.0 as usize].out);
    while node.mesh.peers[peer.0 as usize].sync.is_some() {
        node.sync_more();
        node.fill_sync(peer);
        out.append(&mut node.mesh.peers[peer.0 as usize].out);
    }
    let mut told = Vec::new();
    let hear = |bytes: &[u8]| {
        if let Frame::Control(body) = frame::read(bytes).unwrap() {
            told.push(match serde_json::from_slice(body).unwrap() {
                PeerMessage::RegistryWant(want) if want.buckets.is_empty() => "wants nothing",
                PeerMessage::RegistryWant(_) => "wants names",
                PeerMessage::RegistryDigest(digest) if digest.ask => "wants its digest",
                _ => "else",
            });
        }
        Flow::Next
    };
    Frames::default().feed(&out, hear).unwrap();
    told.dedup();
    told
}

#[test]
fn one_peer_at_a_time_is_asked_for_names_and_the_others_when_it_has_sent_all_or_is_gone() {
    for is_gone in [false, true] {
        let (mut node, first) = node();
        let [second, third] = [10, 11].map(|n| peer(&mut node, n));
        let theirs = Digest { root: 0, buckets: vec![(1, 0); BUCKETS], ask: false };
        let same = node.registry.buckets().iter().map(summary).collect();
        [first, second].into_iter().for_each(|peer| node.on_digest(peer, &theirs));
        node.on_digest(third, &Digest { root: 0, buckets: same, ask: false });
        assert_eq!(told(&mut node, third), ["wants nothing"], "who has no other names is asked at once");
        assert_eq!((told(&mut node, first), told(&mut node, second)), (vec!["wants names"], vec![]));
        // A digest that comes meanwhile asks for nothing twice.
        node.on_digest(first, &theirs);
        assert_eq!(told(&mut node, first), [""; 0]);
        match is_gone {
            true => node.names_came(first),
            false => node.on_sync(first, &Sync { records: Vec::new(), last: true }),
        }
        assert_eq!(told(&mut node, second), ["wants its digest"]);
        node.on_digest(second, &theirs);
        assert_eq!(told(&mut node, second), ["wants names"]);
    }
}
