//! One process of many that generates load: it gets its plan on standard input and reports on standard output.

use std::io::{self, Write};
use std::ops::Range;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;

use super::fleet::{Fleet, nanos};
use super::limits::{LEAVE, LINGER, PATIENCE, RESERVED_DESCRIPTORS, TELL};
use super::plan::{Pace, Plan};
use super::words::{Order, Progress, Report, Word};
use crate::server::sys::{monotonic_ns, raise_descriptors};

/// Runs until it has reported, or its input ends.
pub fn run() -> ExitCode {
    let done = begin().and_then(Generator::run);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tell(&Word::Failed(why));
            ExitCode::FAILURE
        }
    }
}

/// Whoever reads it may be gone; then the input ends, too.
fn tell(word: &Word) {
    let line = serde_json::to_string(word).expect("numbers and text");
    let _ = writeln!(io::stdout().lock(), "{line}");
}

fn begin() -> Result<Generator, String> {
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(|error| format!("no plan can be read: {error}"))?;
    let plan: Plan = serde_json::from_str(&line).map_err(|error| format!("that is no plan: {error}"))?;
    let descriptors = raise_descriptors().map_err(|error| format!("no descriptor limit: {error}"))?;
    let clients = plan.own().count() as u64;
    if clients + RESERVED_DESCRIPTORS > descriptors {
        return Err(format!(
            "{clients} clients in one process need more than the {descriptors} descriptors it may have; use \
             --processes auto, or raise `ulimit -n`"
        ));
    }
    let pace = plan.pace;
    let fleet = Fleet::new(plan).map_err(failed)?;
    let waker = fleet.waker().map_err(failed)?;
    let (give, orders) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = io::stdin().lines();
        while let Some(Ok(line)) = lines.next()
            && let Ok(order) = serde_json::from_str(&line)
            && give.send(order).is_ok()
            && waker.wake().is_ok()
        {}
        drop(give);
        let _ = waker.wake();
    });
    Ok(Generator { fleet, pace, orders, phase: Phase::LoggingIn, told_at: 0, echoed: Vec::new() })
}

fn failed(error: io::Error) -> String {
    format!("the poll failed: {error}")
}

struct Generator {
    fleet: Fleet,
    pace: Pace,
    orders: Receiver<Order>,
    phase: Phase,
    told_at: u64,
    /// Scratch: talkers that heard themselves.
    echoed: Vec<usize>,
}

enum Phase {
    LoggingIn,
    Talking(Talk),
    /// Nobody knows yet how much all said.
    Silent,
    /// What is still owed, and when that last became less.
    Hearing {
        said: Vec<u32>,
        owed: u64,
        since: u64,
    },
    /// All was heard, or will not be: are there repeats?
    Lingering {
        said: Vec<u32>,
        until: u64,
    },
    Leaving {
        until: u64,
    },
}

/// Who speaks when.
struct Talk {
    span: Range<u64>,
    /// The talkers of this process: place and number.
    talkers: Vec<(usize, u32)>,
    /// Messages of this process that were said at their time.
    next: u64,
    /// Windows were filled once.
    is_begun: bool,
}

impl Generator {
    fn run(mut self) -> Result<(), String> {
        loop {
            let until = self.wake_at();
            self.fleet.turn(until).map_err(failed)?;
            match self.orders.try_recv() {
                Ok(order) => self.obey(order),
                Err(TryRecvError::Empty) => {}
                // Nobody waits for a report.
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
            let now = monotonic_ns();
            if now >= self.told_at + nanos(TELL) {
                self.told_at = now;
                tell(&Word::Progress(self.progress()));
            }
            if self.advance(now) {
                return Ok(());
            }
        }
    }

    fn wake_at(&self) -> u64 {
        let tell_at = self.told_at + nanos(TELL);
        match &self.phase {
            Phase::Talking(talk) => tell_at.min(self.due(talk).unwrap_or(u64::MAX)).min(talk.span.end),
            Phase::Lingering { until, .. } | Phase::Leaving { until } => tell_at.min(*until),
            _ => tell_at,
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Talk { begin, from, to } => {
                self.fleet.measure(from..to);
                self.fleet.hold();
                let talkers = self.fleet.talkers().collect();
                self.phase = Phase::Talking(Talk { span: begin..to, talkers, next: 0, is_begun: false });
            }
            Order::Expect { said } => {
                self.fleet.release();
                self.phase = Phase::Hearing { said, owed: u64::MAX, since: monotonic_ns() };
            }
        }
    }

    /// Goes on to the next phase when it is time; true at the end.
    fn advance(&mut self, now: u64) -> bool {
        let all_are_gone = self.fleet.gone == self.fleet.len();
        match std::mem::replace(&mut self.phase, Phase::Silent) {
            Phase::Talking(talk) if now >= talk.span.end => {
                let said = talk.talkers.iter().map(|(i, talker)| (*talker, self.fleet.said(*i).0));
                tell(&Word::Said(said.collect()));
            }
            Phase::Talking(mut talk) => {
                self.talk(&mut talk, now);
                self.phase = Phase::Talking(talk);
            }
            Phase::Hearing { said, owed: before, since } => {
                let owed = self.fleet.missing(&said).owed;
                let since = if owed < before { now } else { since };
                self.phase = match owed == 0 || now >= since + nanos(PATIENCE) {
                    true => Phase::Lingering { said, until: now + nanos(LINGER) },
                    false => Phase::Hearing { said, owed, since },
                };
            }
            Phase::Lingering { said, until } if now >= until => {
                let missing = self.fleet.missing(&said);
                self.fleet.counts.lost = missing.owed + missing.lost;
                self.fleet.counts.slow_missed = missing.slow;
                self.fleet.leave();
                self.phase = Phase::Leaving { until: now + nanos(LEAVE) };
            }
            Phase::Leaving { until } if all_are_gone || now >= until => {
                tell(&Word::Report(Box::new(self.report())));
                return true;
            }
            same => self.phase = same,
        }
        false
    }

    /// Says what is due. What is late is said with the time at which it should have been.
    fn talk(&mut self, talk: &mut Talk, now: u64) {
        self.fleet.take_echoed(&mut self.echoed);
        if now < talk.span.start {
            return;
        }
        match self.pace {
            Pace::Rate(_) => {
                while let Some(at) = self.due(talk).filter(|at| *at <= now && *at < talk.span.end) {
                    let (i, _) = talk.talkers[(talk.next % talk.talkers.len() as u64) as usize];
                    self.fleet.say(i, at);
                    talk.next += 1;
                }
            }
            Pace::Window(window) if !talk.is_begun => {
                talk.is_begun = true;
                for (i, _) in &talk.talkers {
                    (0..window).for_each(|_| self.fleet.say(*i, now));
                }
            }
            Pace::Window(_) => self.echoed.drain(..).for_each(|i| self.fleet.say(i, now)),
        }
    }

    /// When this process's next message is to be said. The messages of all talkers are at even distances.
    fn due(&self, talk: &Talk) -> Option<u64> {
        let plan = self.fleet.plan();
        match self.pace {
            Pace::Window(_) => (!talk.is_begun).then_some(talk.span.start),
            Pace::Rate(rate) => {
                let own = talk.talkers.len() as u64;
                let (_, talker) = *talk.talkers.get((talk.next % own.max(1)) as usize)?;
                let of_all = talk.next / own * u64::from(plan.talkers) + u64::from(talker);
                Some(talk.span.start + (of_all as f64 * 1e9 / rate) as u64)
            }
        }
    }

    fn progress(&self) -> Progress {
        let counts = &self.fleet.counts;
        Progress {
            online: self.fleet.online as u64,
            gone: self.fleet.gone as u64,
            moved: counts.moved,
            said: counts.said,
            heard: counts.heard,
            wrong: counts.repeated + counts.out_of_order,
        }
    }

    fn report(&mut self) -> Report {
        let fleet = &mut self.fleet;
        Report {
            counts: fleet.counts.clone(),
            latency: std::mem::take(&mut fleet.latency),
            logins: std::mem::take(&mut fleet.logins),
            registrations: std::mem::take(&mut fleet.registrations),
            login_span: fleet.logins_span,
            reasons: fleet.reasons.clone(),
        }
    }
}
