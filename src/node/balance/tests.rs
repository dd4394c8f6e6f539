use proptest::prelude::*;

use super::*;

fn vessels(loads: Vec<(u64, u64)>) -> Vec<Vessel> {
    let vessel = |(i, (load, most)): (usize, (u64, u64))| Vessel { id: ServerId([i as u8; 16]), load, most };
    loads.into_iter().enumerate().map(vessel).collect()
}

fn some() -> impl Strategy<Value = Vec<Vessel>> {
    let most = prop_oneof![2 => Just(u64::MAX), 1 => 0..40_u64];
    proptest::collection::vec((0..40_u64, most), 1..9).prop_map(vessels)
}

/// What each of them grants each, if all know the same: by target, then source.
fn all_grants(all: &[Vessel]) -> Vec<Vec<u64>> {
    let of = |own: usize| {
        let others: Vec<Vessel> = all.iter().filter(|v| v.id != all[own].id).copied().collect();
        let mut grants = grants(all[own], &others);
        grants.insert(own, 0);
        grants
    };
    (0..all.len()).map(of).collect()
}

proptest! {
    #[test]
    fn shares_are_even_and_within_what_each_should_have(all in some()) {
        let shares = shares(&all);
        let load: u64 = all.iter().map(|v| v.load).sum();
        let room = all.iter().fold(0_u64, |sum, v| sum.saturating_add(v.most));
        prop_assert_eq!(shares.iter().sum::<u64>(), load.min(room));
        let highest = shares.iter().max().copied().unwrap_or_default();
        for (share, vessel) in shares.iter().zip(&all) {
            prop_assert!(*share <= vessel.most);
            prop_assert!(*share + 1 >= highest || *share == vessel.most, "{:?}", shares);
        }
    }

    #[test]
    fn what_is_granted_is_what_is_over_and_fits_into_the_room(all in some()) {
        let (grants, shares) = (all_grants(&all), shares(&all));
        for (i, vessel) in all.iter().enumerate() {
            let given: u64 = grants[i].iter().sum();
            prop_assert!(given <= shares[i].saturating_sub(vessel.load), "the sum is never above the room");
            let gets: u64 = grants.iter().map(|row| row[i]).sum();
            let over = vessel.load.saturating_sub(shares[i]);
            prop_assert!(gets <= over);
            prop_assert!(given == 0 || gets == 0, "nobody gives and takes");
            // As many moves as are needed, and no more.
            if all.iter().all(|v| v.most == u64::MAX) {
                prop_assert_eq!(gets, over);
                prop_assert_eq!(given, shares[i].saturating_sub(vessel.load));
            }
        }
    }

    #[test]
    fn after_all_was_sent_nothing_is_granted_and_nothing_goes_back(all in some()) {
        let grants = all_grants(&all);
        let mut after = all.clone();
        for target in 0..all.len() {
            for source in 0..all.len() {
                after[target].load += grants[target][source];
                after[source].load -= grants[target][source];
            }
        }
        prop_assert!(all_grants(&after).iter().flatten().all(|n| *n == 0), "{:?} {:?}", all, after);
    }
}

#[test]
fn of_equal_ones_the_lower_id_keeps_the_odd_one() {
    let all = vessels(vec![(2, u64::MAX), (0, u64::MAX), (2, u64::MAX), (1, u64::MAX)]);
    assert_eq!(shares(&all), [2, 1, 1, 1]);
    assert_eq!(all_grants(&all)[1], [0, 0, 1, 0]);
}

#[test]
fn totals_make_lost_and_repeated_announces_harmless() {
    let at = |ms| Time::START + std::time::Duration::from_millis(ms);
    let mut inflow = Inflow::default();
    inflow.grant(at(0), 3);
    inflow.grant(at(10), 2);
    assert_eq!((inflow.granted(), inflow.open(), inflow.expected()), (5, 5, 5));
    inflow.hear(at(20), 2);
    inflow.hear(at(21), 2);
    assert_eq!((inflow.open(), inflow.expected()), (3, 5));
    inflow.arrive();
    assert_eq!((inflow.open(), inflow.expected()), (3, 4));
    // One that came before it was told that it was sent.
    inflow.arrive();
    inflow.arrive();
    assert_eq!((inflow.open(), inflow.expected()), (2, 2));
    inflow.hear(at(30), 4);
    assert_eq!((inflow.open(), inflow.expected()), (1, 2));
    // One does not come, one is not used.
    assert_eq!(inflow.expires(), Some(at(5030)));
    inflow.expire(at(5029));
    assert_eq!(inflow.expected(), 2);
    inflow.expire(at(5030));
    assert_eq!((inflow.expected(), inflow.granted(), inflow.expires()), (0, 4, None));
    inflow.arrive();
    assert_eq!(inflow.arrived(), 4, "what was given up does not count twice");
}

#[test]
fn a_network_is_full_when_one_is_above_its_most_and_none_has_room() {
    let one = |load, expected, most| Standing { load, expected, most };
    for (all, wanted) in [
        (vec![one(5, 0, Some(5))], false),
        (vec![one(6, 0, Some(5))], true),
        (vec![one(6, 0, Some(5)), one(4, 0, Some(5))], false),
        (vec![one(6, 0, Some(5)), one(4, 1, Some(5))], true),
        (vec![one(6, 0, Some(5)), one(9, 0, None)], false),
        (vec![one(5, 0, Some(5)), one(5, 1, Some(5))], false),
    ] {
        assert_eq!(is_full(&all), wanted, "{all:?}");
    }
}

#[test]
fn a_fifth_of_the_others_places_must_be_free_before_one_ends() {
    let one = |load, expected, most| Standing { load, expected, most };
    for (all, wanted) in [
        (vec![], false),
        (vec![one(8, 0, Some(10))], true),
        (vec![one(8, 1, Some(10))], false),
        (vec![one(10, 0, Some(10)), one(6, 0, Some(10))], true),
        (vec![one(4, 0, Some(5)), one(u64::MAX, 1, None)], false),
        (vec![one(4, 0, Some(5)), one(1_000, 0, None)], true),
    ] {
        assert_eq!(have_to_spare(&all), wanted, "{all:?}");
    }
}
