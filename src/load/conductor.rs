//! Runs several generators as one: starts them, tells them when to talk, adds up what they report.

use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::Options;
use super::figures::cpu_ms;
use super::fleet::nanos;
use super::limits::{DRAW, LEAD, LEAVE, LINGER, PATIENCE, SETTLE, SETTLE_MAX};
use super::plan::Plan;
use super::report::{Cpu, Summary};
use super::words::{Order, Progress, Report, Word};
use crate::server::spawn::this_binary;
use crate::server::sys::{ends_with_parent, monotonic_ns};

/// The generators of a run; they end with it.
pub struct Conductor<'a> {
    options: &'a Options,
    children: Vec<Child>,
    words: Receiver<(usize, Option<Word>)>,
    progress: Vec<Progress>,
    said: Vec<u32>,
    /// Generators that have not said yet what their talkers said.
    speaking: usize,
    reports: Vec<Option<Report>>,
    /// Since when nobody was sent on, and since when nothing moved at all.
    still_since: u64,
    idle_since: u64,
    drawn_at: u64,
    drawn_heard: u64,
    draws: bool,
}

impl Drop for Conductor<'_> {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl<'a> Conductor<'a> {
    /// Starts the generators.
    ///
    /// # Errors
    /// A sentence; none is left behind.
    pub fn start(options: &'a Options, plan: &Plan) -> Result<Conductor<'a>, String> {
        let (tell, words) = mpsc::channel();
        let n = plan.processes as usize;
        let now = monotonic_ns();
        let mut all = Conductor {
            options,
            children: Vec::new(),
            words,
            progress: vec![Progress::default(); n],
            said: vec![0; plan.talkers as usize],
            speaking: n,
            reports: vec![None; n],
            still_since: now,
            idle_since: now,
            drawn_at: 0,
            drawn_heard: 0,
            draws: io::stderr().is_terminal(),
        };
        for process in 0..n {
            let plan = Plan { process: process as u32, ..plan.clone() };
            let mut command = Command::new(this_binary());
            command
                .args(["bench", "--generator"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .process_group(0);
            ends_with_parent(&mut command);
            let mut child =
                command.spawn().map_err(|error| format!("a generator cannot be started: {error}"))?;
            let output = child.stdout.take().expect("it is piped");
            all.children.push(child);
            all.order(process, &serde_json::to_string(&plan).expect("numbers and text"));
            let tell = tell.clone();
            thread::spawn(move || {
                let mut lines = BufReader::new(output).lines();
                while let Some(Ok(line)) = lines.next()
                    && let Ok(word) = serde_json::from_str(&line)
                    && tell.send((process, Some(word))).is_ok()
                {}
                let _ = tell.send((process, None));
            });
        }
        Ok(all)
    }

    /// One that ended does not read it; its end is seen elsewhere.
    fn order(&mut self, process: usize, line: &str) {
        if let Some(input) = self.children[process].stdin.as_mut() {
            let _ = writeln!(input, "{line}").and_then(|()| input.flush());
        }
    }

    fn order_all(&mut self, order: &Order) {
        let line = serde_json::to_string(order).expect("numbers");
        (0..self.children.len()).for_each(|process| self.order(process, &line));
    }

    /// Lives through the run.
    ///
    /// # Errors
    /// A sentence, when it could not be done.
    pub fn run(mut self) -> Result<Summary, String> {
        let is_whole = self.log_in()?;
        let (from, to) = self.talk(is_whole)?;
        let said = self.said.clone();
        self.order_all(&Order::Expect { said });
        let patience = PATIENCE + LINGER + LEAVE + PATIENCE;
        while self.reports.iter().any(Option::is_none) {
            self.step("what is owed is heard", monotonic_ns() + nanos(DRAW))?;
            self.lose_patience(patience, "a generator does not report")?;
        }
        self.clear();
        let reports: Vec<Report> = self.reports.iter_mut().filter_map(Option::take).collect();
        let summary = sum(reports, from, to);
        match is_whole {
            true => Ok(summary),
            false => Err(format!("not all clients could log in: {}", summary.all.reasons.join("; "))),
        }
    }

    /// Until all are in, and stay where they are; false when one will not come.
    fn log_in(&mut self) -> Result<bool, String> {
        let clients = u64::from(self.options.clients);
        let begun = monotonic_ns();
        loop {
            self.step("clients log in", monotonic_ns() + nanos(DRAW))?;
            let (all, now) = (self.total(), monotonic_ns());
            let may_move = all.moved > 0 || self.options.servers.len() > 1;
            let is_still = !may_move || now >= self.still_since + nanos(SETTLE);
            if all.gone > 0 {
                // The reports say why.
                return Ok(false);
            }
            if all.online == clients && (is_still || now >= begun + nanos(SETTLE_MAX)) {
                return Ok(true);
            }
            let so_far = format!("only {} of {clients} clients have logged in", all.online);
            self.lose_patience(PATIENCE.max(SETTLE_MAX), &so_far)?;
        }
    }

    /// Until the talk is over and all have told what they said.
    fn talk(&mut self, is_whole: bool) -> Result<(Cpu, Cpu), String> {
        let begin = monotonic_ns() + nanos(LEAD);
        // Where clients are missing there is nothing to measure.
        let take = |time: Duration| if is_whole { nanos(time) } else { 0 };
        let from = begin + take(self.options.warmup);
        let to = from + take(self.options.time);
        self.order_all(&Order::Talk { begin, from, to });
        while monotonic_ns() < from {
            self.step("warming up", from)?;
        }
        let before = self.cpu();
        while monotonic_ns() < to {
            self.step("talk", to)?;
        }
        let after = self.cpu();
        self.idle_since = monotonic_ns();
        while self.speaking > 0 {
            self.step("the talk ends", monotonic_ns() + nanos(DRAW))?;
            self.lose_patience(PATIENCE, "a generator does not say what it said")?;
        }
        Ok((before, after))
    }

    fn lose_patience(&self, patience: Duration, why: &str) -> Result<(), String> {
        match monotonic_ns() < self.idle_since + nanos(patience) {
            true => Ok(()),
            false => Err(format!("{why}, and nothing has changed for {} s", patience.as_secs())),
        }
    }

    /// Takes what generators say, until then at most, and shows how far it is.
    fn step(&mut self, what: &str, until: u64) -> Result<(), String> {
        let now = monotonic_ns();
        let wait = Duration::from_nanos(until.saturating_sub(now)).min(DRAW);
        match self.words.recv_timeout(wait) {
            Ok((process, Some(word))) => self.take(process, word)?,
            Ok((process, None)) if self.reports[process].is_none() => {
                return Err(format!("generator {process} ended before it reported"));
            }
            Ok((_, None)) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        if self.draws && now >= self.drawn_at + nanos(DRAW) {
            self.draw(what, now);
        }
        Ok(())
    }

    fn take(&mut self, process: usize, word: Word) -> Result<(), String> {
        let now = monotonic_ns();
        match word {
            Word::Progress(progress) => {
                let before = std::mem::replace(&mut self.progress[process], progress);
                if before.moved != progress.moved || before.online != progress.online {
                    self.still_since = now;
                }
                if before != progress {
                    self.idle_since = now;
                }
            }
            Word::Said(said) => {
                self.speaking -= 1;
                for (talker, n) in said {
                    if let Some(place) = self.said.get_mut(talker as usize) {
                        *place = n;
                    }
                }
            }
            Word::Report(report) => {
                self.idle_since = now;
                self.reports[process] = Some(*report);
            }
            Word::Failed(why) => return Err(why),
        }
        Ok(())
    }

    fn total(&self) -> Progress {
        let mut total = Progress::default();
        self.progress.iter().for_each(|one| total.add(one));
        total
    }

    fn cpu(&self) -> Cpu {
        let sum = |ids: &mut dyn Iterator<Item = u32>| ids.map(|id| cpu_ms(id).unwrap_or(0)).sum();
        Cpu {
            at: monotonic_ns(),
            servers_ms: sum(&mut self.options.server_pids.iter().copied()),
            generators_ms: sum(&mut self.children.iter().map(Child::id)),
        }
    }

    fn draw(&mut self, what: &str, now: u64) {
        let all = self.total();
        let seconds = (now - self.drawn_at) as f64 / 1e9;
        let rate = all.heard.saturating_sub(self.drawn_heard) as f64 / seconds;
        (self.drawn_at, self.drawn_heard) = (now, all.heard);
        let wrong = if all.wrong > 0 { format!(", {} WRONG", all.wrong) } else { String::new() };
        let text = format!(
            "{what}: {} of {} clients in, {} moved; {} said, {} heard, {rate:.0} a second{wrong}",
            all.online, self.options.clients, all.moved, all.said, all.heard
        );
        let _ = write!(io::stderr(), "\r\x1b[K{text}");
    }

    fn clear(&self) {
        if self.draws {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn sum(reports: Vec<Report>, before: Cpu, after: Cpu) -> Summary {
    let mut all = Report { login_span: (u64::MAX, 0), ..Report::default() };
    for report in reports {
        all.counts.add(&report.counts);
        all.latency.add(&report.latency);
        all.logins.add(&report.logins);
        all.registrations.add(&report.registrations);
        all.login_span.0 = all.login_span.0.min(report.login_span.0);
        all.login_span.1 = all.login_span.1.max(report.login_span.1);
        all.reasons.extend(report.reasons);
    }
    all.reasons.sort();
    all.reasons.dedup();
    Summary { all, before, after }
}
