//! What comes back from the rows.

use super::*;
use crate::base::limits::Limits;
use crate::node::Seeds;

#[test]
fn what_was_too_old_before_a_restart_is_not_wanted_again() {
    let mut node = Node::new(Limits { feed_bytes: 1 << 12, ..Limits::default() }, &Seeds::fixed(1));
    let (gone, there) = (StreamId(7), StreamId(8));
    node.restore_feed(100);
    node.restore_line(there, 5, b"{}\n");
    let trimmed: Vector = [(gone, 9), (there, 3)].into_iter().collect();
    assert_eq!(node.restore_rows(Time::START, &[(Table::Meta, TRIMMED.into(), json(&trimmed))]), 0);
    assert_eq!((node.relay.held_of(gone), node.relay.held_of(there)), (9, 5));
}

#[test]
fn a_claim_that_was_not_committed_yields_to_who_registered_since() {
    let stamps = |n| Generation { at: crate::base::hlc::Hlc(n), by: crate::base::id::ServerId([1; 16]) };
    let of = |stamp, digest| Registration {
        name: "bob".into(),
        stamp,
        salt: [0; 16],
        digest,
        kib: 8,
        passes: 1,
        lost: Vec::new(),
        verifier: None,
    };
    let mut node = Node::new(Limits { feed_bytes: 1 << 12, ..Limits::default() }, &Seeds::fixed(1));
    node.set_wall(1_700_000_000_000);
    let claim = KeptName { registration: of(stamps(1), [1; 32]), is_claim: true };
    assert!(node.restore_name(Time::START, &json(&claim).unwrap()));
    // Its clock is far ahead.
    let user = node.merge_registration(&of(stamps(1_900_000_000_000 << 16), [2; 32]));
    assert_eq!(node.registry.user(user).record.digest, [2; 32]);
    assert!(node.mesh.clock.draw().at.ms() <= 1_700_000_000_001);
}

fn of(name: String, stamp: u64) -> Registration {
    let stamp = Generation { at: crate::base::hlc::Hlc(stamp), by: crate::base::id::ServerId([1; 16]) };
    let (salt, digest, lost, verifier) = ([0; 16], [1; 32], Vec::new(), None);
    Registration { name: name.into(), stamp, salt, digest, kib: 8, passes: 1, lost, verifier }
}

#[test]
fn nobody_waits_for_the_many_names_that_are_to_be_written() {
    let mut node = Node::new(Limits { feed_bytes: 1 << 12, ..Limits::default() }, &Seeds::fixed(1));
    node.keep(Time::START, 0);
    let learn = |node: &mut Node, n: u64| node.merge_registration(&of(format!("user{n}"), n));
    for n in 0..2 * COMMIT_ROWS as u64 {
        learn(&mut node, n);
    }
    // One that is deep among them, and one that is new; and a claim of our own.
    for n in [5, 100_000] {
        let user = learn(&mut node, n);
        node.stored_when_kept(PeerId(0), user, of(String::new(), n).stamp);
    }
    node.keep_claim(&of("ours".to_owned(), 1));
    let Some(Action::Commit { ticket, rows }) = node.commit_rows() else { panic!("there is much to write") };
    let awaited = |node: &Node| node.keeping.in_work.as_ref().unwrap().awaited.len();
    assert_eq!((rows.len(), awaited(&node)), (COMMIT_ROWS + 1, 3));
    let has = |name: &str| rows.iter().any(|row| *row.1 == *name.as_bytes());
    assert!(has("user5") && has("user100000") && has("ours"));
    // Who comes when a commit has failed waits for one that has its row.
    node.on_committed(ticket, false);
    let user = learn(&mut node, 100_001);
    node.stored_when_kept(PeerId(0), user, of(String::new(), 100_001).stamp);
    node.now = node.now + COMMIT_RETRY;
    assert!(node.commit_rows().is_some());
    assert_eq!(awaited(&node), 1);
}

#[test]
fn names_of_damaged_rows_are_forgotten_and_others_take_their_place() {
    let mut node = Node::new(Limits { feed_bytes: 1 << 12, ..Limits::default() }, &Seeds::fixed(1));
    let row = |name: &str, is_claim| {
        let registration = of(name.to_owned(), 3);
        json(&KeptName { registration, is_claim }).unwrap()
    };
    assert!(node.restore_name(Time::START, &row("bob", false)));
    assert!(node.restore_name(Time::START, &row("eve", true)));
    assert!(!node.restore_name(Time::START, b"{"));
    let root = node.registry_digest();
    node.forget_names();
    assert_eq!((node.names(), node.registered("bob"), node.registry_digest()), (0, None, 0));
    assert!(node.restore_name(Time::START, &row("eve", true)));
    assert!(node.restore_name(Time::START, &row("bob", false)));
    assert_eq!((node.names(), node.registry_digest()), (2, root));
}
