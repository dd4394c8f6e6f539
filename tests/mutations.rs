//! Each rule of the servers, broken on purpose, is missed: the simulator sees it within few seeds. What finds
//! nothing when a rule is gone would find nothing when it is wrong.

#[path = "sim/seeds.rs"]
mod seeds;

use std::sync::atomic::{AtomicU64, Ordering};

use activitystreamer::node::Mutation;
use activitystreamer::sim::{Class, Classes, Options, run};
use seeds::on_all_cores;

const SEEDS: u64 = 2_000;

/// What finds it soonest: faults that the rule is for.
fn classes(mutation: Mutation) -> Vec<Class> {
    use Class::*;
    match mutation {
        Mutation::NoPrev => vec![Cut, Move, Break],
        Mutation::NoClaimWait => vec![Move, Break],
        Mutation::ClaimsNotStored | Mutation::EntryDroppedEarly => vec![Kill, Move, Break],
        Mutation::NotReadDry => vec![Move, Pause, Busy],
        Mutation::MovedIsLogout => vec![Move],
        Mutation::OneEntry => vec![Break],
        Mutation::NoSecondCopy | Mutation::AckBeforeHold => vec![Kill],
        Mutation::StreamContinued => vec![Kill],
        Mutation::CloseNotDrain => vec![Rivals],
        Mutation::LocalGenerations => vec![Pause, Move, Break],
        Mutation::WrongWinner => vec![Part, Rivals],
        // Who broke off without a LOGOUT before begins where that session stood, and so lacks nothing.
        Mutation::RepeatsShown | Mutation::GapsIgnored => vec![Cut, Break, Ids],
        Mutation::AckedAtOnce => vec![Kill, Busy, Ids],
        Mutation::LateAnswersIgnored => vec![Part, Break, Logout],
    }
}

#[test]
fn every_broken_rule_is_seen() {
    for mutation in Mutation::ALL {
        let classes: Classes = classes(mutation).into_iter().collect();
        let whole = Options { classes, exactly: true, ..Options::default() };
        let broken = Options { mutation: Some(mutation), ..whole };
        let first = AtomicU64::new(u64::MAX);
        on_all_cores(0..SEEDS, |seed| {
            if first.load(Ordering::Relaxed) > seed
                && !run(seed, &broken).violations.is_empty()
                && run(seed, &whole).violations.is_empty()
            {
                first.fetch_min(seed, Ordering::Relaxed);
            }
        });
        let first = first.into_inner();
        assert!(first < SEEDS, "{mutation:?} is not seen in {SEEDS} seeds of {classes}");
        println!("{mutation:?}: seen in seed {first} of {classes}");
    }
}
