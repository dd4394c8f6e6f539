//! Failed logins, counted by address and name, so that secrets cannot be guessed at speed.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashMap;

use super::registry::Seed;
use crate::base::limits::{FAILED_LOGIN_PAIRS, FAILED_LOGIN_WINDOW};
use crate::base::time::Time;

/// The pairs that failed within the window. Invariant: `order` rises and holds every key of `pairs`.
#[derive(Debug)]
pub(super) struct Guesses {
    pairs: HashMap<u64, (Time, u8), Seed>,
    order: VecDeque<(Time, u64)>,
    seed: Seed,
    /// Failures allowed a window.
    allowed: u8,
}

impl Guesses {
    pub fn new(seed: Seed, allowed: u8) -> Guesses {
        Guesses { pairs: HashMap::with_hasher(seed), order: VecDeque::new(), seed, allowed }
    }

    pub fn set_allowed(&mut self, allowed: u8) {
        self.allowed = allowed;
    }

    /// How long this address must wait before this name is tried again; none if it need not.
    pub fn wait(&mut self, now: Time, address: IpAddr, name: &str) -> Option<Duration> {
        self.expire(now);
        let (first, failures) = self.pairs.get(&self.key(address, name))?;
        (*failures >= self.allowed).then(|| (*first + FAILED_LOGIN_WINDOW).since(now))
    }

    /// One more failure of this pair.
    pub fn failed(&mut self, now: Time, address: IpAddr, name: &str) {
        self.expire(now);
        let key = self.key(address, name);
        if !self.pairs.contains_key(&key) {
            if self.pairs.len() == FAILED_LOGIN_PAIRS {
                self.pop();
            }
            self.order.push_back((now, key));
        }
        let (_, failures) = self.pairs.entry(key).or_insert((now, 0));
        *failures = failures.saturating_add(1);
    }

    fn expire(&mut self, now: Time) {
        while self.order.front().is_some_and(|(at, _)| *at + FAILED_LOGIN_WINDOW <= now) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.pairs.remove(&key);
        }
    }

    fn key(&self, address: IpAddr, name: &str) -> u64 {
        self.seed.hash_one((address, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_failed_too_often_waits_out_its_window_and_others_do_not() {
        let mut guesses = Guesses::new(Seed::new(1, 2), 3);
        let (a, b): (IpAddr, IpAddr) = ([1, 2, 3, 4].into(), [1, 2, 3, 5].into());
        for _ in 0..3 {
            assert_eq!(guesses.wait(Time::START, a, "bob"), None);
            guesses.failed(Time::START, a, "bob");
        }
        let later = Time::START + Duration::from_secs(59);
        assert_eq!(guesses.wait(later, a, "bob"), Some(Duration::from_secs(1)));
        assert_eq!(guesses.wait(later, b, "bob"), None);
        assert_eq!(guesses.wait(later, a, "eve"), None);
        assert_eq!(guesses.wait(Time::START + FAILED_LOGIN_WINDOW, a, "bob"), None);
    }

    #[test]
    fn the_number_of_pairs_is_bounded() {
        let mut guesses = Guesses::new(Seed::new(1, 2), 1);
        for i in 0..FAILED_LOGIN_PAIRS + 10 {
            guesses.failed(Time::START, [1, 1, 1, 1].into(), &i.to_string());
        }
        assert_eq!((guesses.pairs.len(), guesses.order.len()), (FAILED_LOGIN_PAIRS, FAILED_LOGIN_PAIRS));
        assert_eq!(guesses.wait(Time::START, [1, 1, 1, 1].into(), "0"), None, "the oldest gave way");
    }
}
