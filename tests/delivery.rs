//! Who hears what, under any schedule of arrivals, words, full kernels, breaks and logouts, against a model
//! that knows nothing but sets of messages.

mod common;

#[path = "delivery/check.rs"]
mod check;
#[path = "delivery/model.rs"]
mod model;
#[path = "delivery/play.rs"]
mod play;
#[path = "delivery/schedule.rs"]
mod schedule;

use std::cell::RefCell;

use check::Marks;
use model::State;
use play::{Outcome, Play};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use schedule::{Step, USERS, schedule};

#[test]
fn every_session_hears_what_is_for_it_once_and_in_order() {
    run(400, 1 << 20, &[]);
}

#[test]
fn a_short_feed_loses_the_oldest_and_nothing_else() {
    run(300, 4 << 10, &["a slow reader fell off the feed", "something owed had left the feed"]);
}

/// What every run must have met.
const FAULTS: [&str; 11] = [
    "a break reached over a gap in what was sent",
    "a break came after more gaps than are remembered",
    "a LOGIN ended a silence",
    "a connection broke with bytes unacknowledged",
    "a connection broke in the middle of a line",
    "a session was owed something",
    "a login took over from a session that hangs",
    "a LOGOUT left owed what an earlier break had",
    "a leaving session that took nothing was given up",
    "a session ended in its silence",
    "somebody stayed away too long",
];

/// Plays so many schedules with a feed of so many bytes; a failure prints the shortest that fails.
fn run(cases: u32, feed_bytes: usize, more_faults: &[&str]) {
    let marks = RefCell::new(Marks::default());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&schedule(), |steps| {
        play(&steps, feed_bytes, &mut marks.borrow_mut()).map_err(TestCaseError::fail)
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    marks.borrow().check(&[&FAULTS, more_faults].concat());
}

fn play(steps: &[Step], feed_bytes: usize, marks: &mut Marks) -> Outcome {
    let mut play = Play::new(feed_bytes, marks);
    steps.iter().try_for_each(|step| play.step(step))?;
    play.heal()?;
    for i in 0..play.sessions.len() {
        match play.sessions[i].state {
            State::Over => {}
            State::Online => play.got_what_it_should(i, true).map_err(|why| play.report(i, &why))?,
            _ => return Err(play.report(i, "it is still there")),
        }
    }
    // Whatever is still owed is fetched, a session an entry; then nothing is owed.
    for (device, user) in USERS.iter().enumerate() {
        play.step(&Step::Logout(device))?;
        for sessions in 0.. {
            if !play.is_owed(user) {
                break;
            }
            let i = play.arrive(device, None, true)?;
            play.step(&Step::Logout(device))?;
            if sessions > steps.len() {
                return Err(play.report(i, &format!("{user} is owed for ever: {:?}", play.mailboxes[user])));
            }
        }
        play.arrive(device, None, true)?;
        play.step(&Step::Logout(device))?;
    }
    play.heal()
}
