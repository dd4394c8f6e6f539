//! A server's disk: what was written outlives its process, what was synced its machine, too.
//!
//! It does what the store does for the mio server: a turn's lines are appended before any link is written
//! to; a worker that takes its time reads, commits and syncs; a start restores what is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::cluster::Cluster;
use super::host::Notice;
use super::ledger::{MessageId, stamp};
use super::schedule::{Event, us};
use super::swarm::Class;
use crate::base::feed::Offset;
use crate::base::id::StreamId;
use crate::base::limits::{CHUNK_BYTES, FSYNC_INTERVAL, JOURNAL_RETRY};
use crate::base::row::{Row, Table};
use crate::base::time::Time;
use crate::node::{Input, Node};

/// What is left of a disk when its server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The process was killed: what was written.
    Written,
    /// The machine died: what was synced, and some of what was written since.
    Synced,
    /// Nothing.
    Empty,
}

/// A line of the journal.
#[derive(Debug)]
struct Line {
    offset: Offset,
    stream: StreamId,
    seq: u64,
    at: Time,
    bytes: Box<[u8]>,
}

impl Line {
    fn end(&self) -> Offset {
        self.offset + self.bytes.len() as u64
    }
}

/// A row's table and key.
type Key = (Table, Box<[u8]>);

/// What the worker has to do.
#[derive(Debug)]
enum Job {
    Sync(Offset),
    Read { offset: Offset, end: Offset },
    Commit { ticket: u64, rows: Vec<Row>, asked: Time },
}

#[derive(Debug)]
pub(super) struct Disk {
    lines: VecDeque<Line>,
    /// Where its files begin; a file goes as a whole.
    segments: VecDeque<Offset>,
    tail: Offset,
    synced: Offset,
    rows: BTreeMap<Key, Box<[u8]>>,
    jobs: VecDeque<Job>,
    busy_until: Time,
    sync_at: Option<Time>,
    append_from: Time,
    /// It takes nothing.
    pub is_full: bool,
    /// Since when the journal lacks what was said.
    failing_since: Option<Time>,
    /// When the rows that are there were handed over.
    pub stored: Time,
    /// When a commit last failed, or was so late that it may have been refused.
    pub was_late: Option<Time>,
    /// What was ever in the journal, and what left it when, because it was too old.
    pub ever: BTreeSet<MessageId>,
    pub dropped: BTreeMap<MessageId, Time>,
}

impl Disk {
    /// An empty one, whose feed begins anywhere.
    pub fn new(begin: Offset) -> Disk {
        Disk {
            lines: VecDeque::new(),
            segments: [begin].into(),
            tail: begin,
            synced: begin,
            rows: BTreeMap::new(),
            jobs: VecDeque::new(),
            busy_until: Time::START,
            sync_at: None,
            append_from: Time::START,
            is_full: false,
            failing_since: None,
            stored: Time::START,
            was_late: None,
            ever: BTreeSet::new(),
            dropped: BTreeMap::new(),
        }
    }

    /// It is in the journal.
    pub fn has(&self, id: MessageId) -> bool {
        self.ever.contains(&id) && !self.dropped.contains_key(&id)
    }

    /// The names on it.
    fn names(&self) -> impl Iterator<Item = String> {
        let names = self.rows.keys().filter(|(table, _)| *table == Table::Names);
        names.map(|(_, key)| String::from_utf8_lossy(key).into_owned())
    }

    fn head(&self) -> Offset {
        self.segments[0]
    }

    fn apply(&mut self, rows: Vec<Row>, asked: Time) {
        self.stored = asked;
        for (table, key, value) in rows {
            match value {
                Some(value) => drop(self.rows.insert((table, key), value)),
                None => drop(self.rows.remove(&(table, key))),
            }
        }
    }

    /// Lines below `at` are gone.
    fn drop_below(&mut self, now: Time, at: Offset) {
        let n = self.lines.partition_point(|line| line.offset < at);
        let ids = self.lines.drain(..n).filter_map(|line| stamp(&line.bytes));
        self.dropped.extend(ids.map(|id| (id, now)));
    }

    /// Its server is gone. Returns since when what it had shown may be lost.
    fn end(&mut self, fate: Fate, kept: u64, is_lucky: bool) -> Option<Time> {
        let first = std::mem::take(&mut self.jobs).into_iter().next();
        if let Some(Job::Commit { rows, asked, .. }) = first.filter(|_| is_lucky) {
            self.apply(rows, asked);
        }
        (self.sync_at, self.busy_until, self.append_from) = (None, Time::START, Time::START);
        let mut lost_since = self.failing_since.take();
        match fate {
            Fate::Empty => {
                *self = Disk { is_full: self.is_full, was_late: self.was_late, ..Disk::new(0) };
                return Some(Time::START);
            }
            Fate::Synced => {
                let head = self.head();
                let safe = self.lines.partition_point(|line| line.offset < self.synced);
                let n = safe + (kept as usize) % (self.lines.len() - safe + 1);
                for line in self.lines.drain(n..) {
                    lost_since = Some(lost_since.map_or(line.at, |at| at.min(line.at)));
                    stamp(&line.bytes).map(|id| self.ever.remove(&id));
                }
                self.tail = self.lines.back().map_or(self.synced.max(self.head()).min(self.tail), Line::end);
                let tail = self.tail;
                self.segments.retain(|at| *at < tail || *at == head);
            }
            Fate::Written => {}
        }
        self.synced = self.tail;
        lost_since
    }
}

impl Cluster {
    /// A disk for a new server, or in the place of a lost one.
    pub fn new_disk(&mut self) -> Disk {
        // Pieces that are read begin at multiples of their size: let such a border be near.
        Disk::new(self.rng.below(CHUNK_BYTES as u64))
    }

    /// The server ends: what is on its disk is what outlives that.
    pub fn disk_ends(&mut self, h: usize, fate: Fate) -> Option<Time> {
        let (kept, is_lucky) = (self.rng.draw(), self.rng.chance(50));
        let lost_since = self.hosts[h].disk.end(fate, kept, is_lucky);
        if fate == Fate::Empty {
            // What its clients were told may reach them still.
            let Disk { is_full, was_late, .. } = self.hosts[h].disk;
            self.hosts[h].disk = Disk { is_full, was_late, ..self.new_disk() };
        }
        lost_since
    }

    /// Gives a node that starts what is on its disk.
    pub fn restore(&mut self, h: usize, node: &mut Node, boot: usize) {
        let now = self.now();
        let disk = &self.hosts[h].disk;
        node.restore_feed(disk.head());
        for line in &disk.lines {
            node.restore_line(line.stream, line.seq, &line.bytes);
            self.ledger.hold(boot, line.stream, line.seq);
        }
        if disk.lines.is_empty() {
            node.restore_feed(disk.tail);
        }
        let mut bad = 0;
        let mut rows: Vec<Row> = Vec::new();
        for ((table, key), value) in &disk.rows {
            match table {
                Table::Names => bad += usize::from(!node.restore_name(now, value)),
                _ => rows.push((*table, key.clone(), Some(value.clone()))),
            }
        }
        let (n, n_rows) = (disk.lines.len(), disk.rows.len());
        self.ledger.heard_before(now, boot, &disk.ever);
        self.ledger.boots[boot].names = disk.names().collect();
        bad += node.restore_rows(now, &rows);
        node.keep(now, disk.head());
        if n > 0 {
            self.judge.mark("a server read its journal");
        }
        if n_rows > 0 {
            self.judge.mark("a server read its rows");
        }
        self.tell(|| format!("server {h} finds {n} lines and {n_rows} rows"));
        if bad > 0 {
            self.violate("a server understands what it wrote", format!("server {h}: {bad} rows"));
        }
    }

    /// Appends what was said to the journal. It comes before anybody is written to.
    pub(super) fn append(&mut self, node: &mut Node, h: usize) {
        let now = self.now();
        let (retention, segment) = self.swarm.retention;
        let disk = &mut self.hosts[h].disk;
        if disk.append_from > now {
            return;
        }
        let Some((from, runs, bytes)) = node.unwritten() else { return };
        if disk.is_full {
            disk.append_from = now + JOURNAL_RETRY;
            disk.failing_since.get_or_insert(now);
            self.judge.mark("an append failed");
            return node.written(None);
        }
        disk.failing_since = None;
        let bytes = [bytes[0], bytes[1]].concat();
        let is_gap = from > disk.tail;
        if is_gap {
            disk.drop_below(now, Offset::MAX);
            disk.segments = [from].into();
            disk.synced = from;
        } else if from - disk.segments.back().expect("there is one") >= segment {
            disk.segments.push_back(from);
        }
        let mut names =
            runs.iter().flat_map(|run| (0..u64::from(run.count)).map(|i| (run.stream, run.first + i)));
        let mut at = from;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let Some((stream, seq)) = names.next() else { break };
            disk.lines.push_back(Line { offset: at, stream, seq, at: now, bytes: line.into() });
            disk.ever.extend(stamp(line));
            at += line.len() as u64;
        }
        let is_named = names.next().is_none() && at == from + bytes.len() as u64;
        disk.tail = at;
        let before = disk.segments.len();
        while disk.segments.len() > 1 && disk.tail - disk.segments[1] >= retention {
            disk.segments.pop_front();
        }
        let is_dropped = disk.segments.len() < before;
        if is_dropped {
            let head = disk.head();
            disk.drop_below(now, head);
        }
        disk.sync_at.get_or_insert(now + FSYNC_INTERVAL);
        node.written(Some(disk.head()));
        if is_gap {
            self.judge.mark("a gap in a journal");
            let boot = self.hosts[h].boot;
            let held = self.ledger.accepted().filter(|(_, _, accepted)| self.ledger.holds(boot, accepted));
            let lost: Vec<MessageId> =
                held.map(|(id, _, _)| id).filter(|id| !self.hosts[h].disk.ever.contains(id)).collect();
            self.hosts[h].disk.dropped.extend(lost.into_iter().map(|id| (id, now)));
        }
        if is_dropped {
            self.judge.mark("what was too old left a journal");
        }
        if !is_named || from < self.hosts[h].disk.head() {
            self.violate("what is appended is named line by line", format!("server {h}, from {from}"));
        }
    }

    /// When the disk has something to do though nothing happens.
    pub(super) fn disk_deadline(&self, h: usize) -> Option<Time> {
        self.hosts[h].disk.sync_at
    }

    /// Has what is due done.
    pub(super) fn turn_of_disk(&mut self, h: usize) {
        let now = self.now();
        if self.hosts[h].disk.sync_at.take_if(|at| *at <= now).is_some() {
            let upto = self.hosts[h].disk.tail;
            self.give(h, Job::Sync(upto));
        }
    }

    /// The node wants a piece of the journal.
    pub(super) fn ask_read(&mut self, h: usize, offset: Offset, length: usize) {
        let disk = &self.hosts[h].disk;
        // A piece ends with its file.
        let next = disk.segments.iter().copied().find(|at| *at > offset).unwrap_or(disk.tail);
        let end = next.min(offset + length as u64);
        self.judge.mark("a piece of a journal was read");
        self.give(h, Job::Read { offset, end });
    }

    /// The node wants rows changed.
    pub(super) fn ask_commit(&mut self, h: usize, ticket: u64, rows: Vec<Row>) {
        let asked = self.now();
        self.give(h, Job::Commit { ticket, rows, asked });
    }

    /// Work for the worker, which does one thing after the other.
    fn give(&mut self, h: usize, job: Job) {
        let is_slow = self.has(Class::SlowDisk) && self.healed.is_none() && self.rng.chance(60);
        let wait = if is_slow { self.rng.between(100_000, 2_000_000) } else { self.rng.between(200, 10_000) };
        if is_slow {
            self.judge.mark(Class::SlowDisk.label());
        }
        let (now, boot) = (self.now(), self.hosts[h].boot);
        let disk = &mut self.hosts[h].disk;
        disk.busy_until = disk.busy_until.max(now) + us(wait);
        if disk.busy_until.since(now) > super::schedule::ms(200) && matches!(job, Job::Commit { .. }) {
            disk.was_late = Some(disk.busy_until);
        }
        disk.jobs.push_back(job);
        self.schedule.set(disk.busy_until, Event::Disk { host: h, boot });
    }

    /// The worker is done with the oldest of its jobs.
    pub(super) fn on_disk(&mut self, h: usize, boot: usize) {
        let now = self.now();
        if self.hosts[h].boot != boot {
            return;
        }
        let disk = &mut self.hosts[h].disk;
        let Some(job) = disk.jobs.pop_front() else { return };
        let answer = match job {
            Job::Sync(upto) => {
                if !disk.is_full {
                    disk.synced = disk.synced.max(upto);
                }
                return;
            }
            Job::Read { offset, end } => {
                let is_there = offset >= disk.head() && offset < end;
                let first = disk.lines.partition_point(|line| line.end() <= offset);
                let mut bytes = Vec::new();
                for line in disk.lines.range(first..).take_while(|line| line.offset < end) {
                    let from = offset.saturating_sub(line.offset) as usize;
                    let to = (end - line.offset).min(line.bytes.len() as u64) as usize;
                    bytes.extend_from_slice(&line.bytes[from..to]);
                }
                Input::Chunk { offset, bytes: is_there.then(|| bytes.into()) }
            }
            Job::Commit { ticket, rows, asked } => {
                let good = !disk.is_full;
                if good {
                    disk.apply(rows, asked);
                } else {
                    disk.was_late = Some(now);
                    self.judge.mark("a commit failed");
                }
                Input::Committed { ticket, good }
            }
        };
        self.hosts[h].inbox.push(Notice::Input(answer));
        self.wake(h);
    }
}
