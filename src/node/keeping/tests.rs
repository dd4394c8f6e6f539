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
