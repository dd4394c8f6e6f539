//! Checkers, each named after the promise it holds the server to.

use std::collections::{BTreeMap, BTreeSet};

use activitystreamer::base::limits::{CLOSING, RUNS_MAX};

use crate::common::{check_line, command};
use crate::model::{Entry, Message, State};
use crate::play::{Outcome, Play, at};

/// What went wrong on purpose, counted: a green run in which nothing did proves nothing.
#[derive(Debug, Default)]
pub struct Marks(BTreeMap<&'static str, u64>);

impl Marks {
    pub fn hit(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub fn hit_if(&mut self, what: &'static str, hit: bool) {
        *self.0.entry(what).or_default() += u64::from(hit);
    }

    /// Panics if one of these was never hit.
    pub fn check(&self, wanted: &[&str]) {
        let missed: Vec<_> = wanted.iter().filter(|mark| self.0.get(*mark).is_none_or(|n| *n == 0)).collect();
        assert!(missed.is_empty(), "never hit: {missed:?} of {self:#?}");
        println!("{self:#?}");
    }
}

/// A line the server wrote, and where it ends in the session's stream.
struct Line {
    end: usize,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Answer(String),
    Message(Message),
}

impl Play<'_> {
    /// Looks at what a step has done: what was said, who is silent no more, whose connection is closed.
    pub fn look(&mut self) -> Outcome {
        self.listen()?;
        let now = self.world.now;
        for i in 0..self.sessions.len() {
            let session = &mut self.sessions[i];
            if let State::Silent(until) = session.state {
                if until <= now {
                    session.state = State::Online;
                } else if !self.world.socket(session.link).written.is_empty() {
                    return Err(self.report(i, "it hears something in its silence"));
                }
            }
            let session = &mut self.sessions[i];
            if session.state == State::Over {
                continue;
            }
            let socket = self.world.socket(session.link);
            if socket.written.len() > session.written {
                (session.written, session.moved) = (socket.written.len(), now);
            }
            if socket.closed {
                self.over(i).map_err(|why| self.report(i, &why))?;
            }
        }
        Ok(())
    }

    /// The session's connection is closed: was that right, and did it get what it should?
    fn over(&mut self, i: usize) -> Outcome {
        let session = &self.sessions[i];
        let gone = session.cut || (session.stalled && session.passed_on);
        let mut done = false;
        if session.state == State::Leaving && !session.cut {
            done = self.got_everything(i)?;
            if !done && !self.fell_off_the_feed(i)? {
                self.was_given_up_in_time(i)?;
            }
        } else if !gone && !self.fell_off_the_feed(i)? {
            return Err("nobody asked the server to close it".into());
        }
        self.got_what_it_should(i, done)?;
        self.pass_on(i)?;
        self.sessions[i].state = State::Over;
        Ok(())
    }

    /// The server wrote all it had to before it closed.
    fn got_everything(&mut self, i: usize) -> Outcome<bool> {
        let lines = self.lines(i)?;
        let whole = lines.last().map_or(0, |line| line.end) == self.sessions[i].written;
        let expected = self.expected(i);
        let all = expected.iter().all(|m| lines.iter().any(|line| line.what == What::Message(*m)));
        let shut = self.world.socket(self.sessions[i].link).shut;
        if shut && !(whole && all) {
            return Err("the server ended its side before it had written everything".into());
        }
        Ok(shut || (self.sessions[i].ended_side && whole && all))
    }

    fn was_given_up_in_time(&mut self, i: usize) -> Outcome {
        self.marks.hit("a leaving session that took nothing was given up");
        if self.world.now.since(self.sessions[i].moved) < CLOSING {
            return Err(format!("given up although it took bytes at {}", at(self.sessions[i].moved)));
        }
        Ok(())
    }

    /// The next message for it is not in the feed any more.
    fn fell_off_the_feed(&mut self, i: usize) -> Outcome<bool> {
        let last = self.sent(&self.lines(i)?).last().copied();
        let session = &self.sessions[i];
        let due = session.expected(self.tail()).into_iter().chain(session.perhaps.iter().copied());
        let next = due.filter(|m| last.is_none_or(|last| *m > last)).min();
        let head = self.offsets[self.tail()].saturating_sub(self.feed_bytes);
        let fell = next.is_some_and(|message| self.offsets[message] < head);
        self.marks.hit_if("a slow reader fell off the feed", fell);
        Ok(fell)
    }

    /// What a session must hear so far; one that left in its silence was never told that it may.
    fn expected(&self, i: usize) -> Vec<Message> {
        let session = &self.sessions[i];
        if session.mute { Vec::new() } else { session.expected(self.tail()) }
    }

    /// LOGIN_SUCCESS first; then what is owed and what is live, in the order of saying, each once and with
    /// no gap; all of it if the session is `done`; nothing else but what may be repeated.
    pub fn got_what_it_should(&self, i: usize, done: bool) -> Outcome {
        let session = &self.sessions[i];
        let lines = self.lines(i)?;
        let is =
            |line: Option<&Line>, answer: &str| line.is_some_and(|l| l.what == What::Answer(answer.into()));
        if session.login_first && !lines.is_empty() && !is(lines.first(), "LOGIN_SUCCESS") {
            return Err("LOGIN_SUCCESS does not come first".into());
        }
        let got: Vec<Message> = lines.iter().filter_map(|line| line.what.message()).collect();
        if let Some(pair) = got.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(format!("message {} comes behind message {}", pair[1], pair[0]));
        }
        let expected = self.expected(i);
        let owed: Vec<Message> = got.iter().copied().filter(|m| expected.binary_search(m).is_ok()).collect();
        if let Some(extra) = got.iter().find(|m| !owed.contains(m) && !session.perhaps.contains(m)) {
            return Err(format!("message {extra} is not for it, or not any more"));
        }
        if !expected.starts_with(&owed) || (done && owed != expected) {
            return Err("messages are missing".into());
        }
        let logins = lines.iter().filter(|line| is(Some(line), "LOGIN_SUCCESS")).count();
        if done && (logins != session.logins || session.babbled != is(lines.last(), "INVALID_MESSAGE")) {
            return Err("answers are missing".into());
        }
        Ok(())
    }

    /// What the session is owed if its connection ends here: all that was for it and is not acknowledged.
    pub fn unconfirmed(&mut self, i: usize) -> Outcome<Entry> {
        let lines = self.lines(i)?;
        let session = &self.sessions[i];
        let acknowledged = self.world.sockets[&session.link].acknowledged.unwrap_or(usize::MAX);
        let confirmed: BTreeSet<Message> = lines
            .iter()
            .filter(|line| line.end <= acknowledged)
            .filter_map(|line| line.what.message())
            .collect();
        let live = if session.logged_out { 0..0 } else { session.from..self.tail() };
        let owed = session.owed.iter().copied().chain(live);
        let mut perhaps: BTreeSet<Message> = session.perhaps.difference(&confirmed).copied().collect();
        // Where a stream was interrupted often, the server no longer knows every byte's place in it, and
        // repeats too much rather than too little, also what lay in the gaps.
        let broken = |pair: &&[Line]| match (&pair[0].what, &pair[1].what) {
            (What::Message(a), What::Message(b)) => a + 1 != *b,
            (What::Message(_), _) => true,
            _ => false,
        };
        let known = lines.iter().take_while(|line| line.end <= acknowledged).count();
        let gaps = |from: usize| lines[from..].windows(2).filter(broken).count();
        self.marks.hit_if("a break reached over a gap in what was sent", gaps(known) > 0);
        if gaps(0) >= RUNS_MAX {
            self.marks.hit_if("a break came after more gaps than are remembered", known < lines.len());
            let sent = self.sent(&lines);
            perhaps
                .extend(sent.first().zip(sent.last()).into_iter().flat_map(|(first, last)| *first..=*last));
        }
        Ok(Entry {
            since: self.world.now,
            owed: owed.filter(|m| !confirmed.contains(m)).collect(),
            perhaps,
            open: !session.logged_out,
            low: None,
        })
    }

    fn sent(&self, lines: &[Line]) -> BTreeSet<Message> {
        lines.iter().filter_map(|line| line.what.message()).collect()
    }

    /// The whole lines the server wrote to a session; each must be one that a client understands.
    fn lines(&self, i: usize) -> Outcome<Vec<Line>> {
        let written = &self.world.sockets[&self.sessions[i].link].written;
        let text = std::str::from_utf8(written).map_err(|error| error.to_string())?;
        let mut end = 0;
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole
            .map(|line| {
                end += line.len();
                let what = match self.message(line) {
                    Some(message) => What::Message(message),
                    None => match command(&check_line(&line[..line.len() - 1])?) {
                        "ACTIVITY_BROADCAST" => return Err(format!("the witness does not hear {line}")),
                        answer => What::Answer(answer.to_owned()),
                    },
                };
                Ok(Line { end, what })
            })
            .collect()
    }

    /// What is known of a session of which something is wrong.
    pub fn report(&self, i: usize, why: &str) -> String {
        let session = &self.sessions[i];
        let lines = self.lines(i).unwrap_or_default();
        let got: Vec<String> = lines.iter().map(|line| format!("{:?}", line.what)).collect();
        let expected = self.expected(i);
        format!(
            "at {}, session {i} of device {}: {why}\nit got {got:?}\nof messages {expected:?}\n{session:?}",
            at(self.world.now),
            session.device
        )
    }
}

impl What {
    fn message(&self) -> Option<Message> {
        if let What::Message(message) = self { Some(*message) } else { None }
    }
}
