//! The server's disk: what was there is given to the node before anybody is served, and what happens is put
//! there: messages by the loop itself, once a turn, all else by the store's thread.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mio::Waker;

use super::Server;
use crate::base::limits::{JOURNAL_EXPIRY, JOURNAL_RETRY};
use crate::base::row::{Row, Table};
use crate::base::time::Time;
use crate::node::{Input, Node};
use crate::store::{Answer, Chunk, Contents, Found, Fsync, Request, Retention, Store};

/// What is kept, where, and how surely.
#[derive(Clone, Debug)]
pub struct Keep {
    /// The folder of this server alone.
    pub folder: PathBuf,
    /// How much of the conversation.
    pub retention: Retention,
    /// When messages are synced.
    pub fsync: Fsync,
}

/// The store, and what waits for it.
pub(super) struct Disk {
    store: Store,
    folder: PathBuf,
    fsync: Fsync,
    /// Requests that the store had no room for.
    waiting: VecDeque<Request>,
    /// Something was appended and its sync not asked for; then when it is to be.
    sync_at: Option<Time>,
    syncing: bool,
    sync_failed: bool,
    commits_failed: bool,
    /// The last append failed: then it is tried again, not before.
    append_at: Option<Time>,
    expire_at: Time,
}

/// What comes from the disk at the start.
struct Restoring<'a> {
    node: &'a mut Node,
    /// All but names.
    rows: Vec<Row>,
    /// Names that are not understood.
    bad: usize,
    has_lines: bool,
    lines: u64,
}

impl Restoring<'_> {
    fn take(&mut self, found: Found<'_>) {
        match found {
            Found::Row { table: Table::Names, value, .. } => {
                self.bad += usize::from(!self.node.restore_name(Time::START, value));
            }
            Found::Row { table, key, value } => self.rows.push((table, key.into(), Some(value.into()))),
            Found::ForgetRows => {
                self.rows.clear();
                self.bad = 0;
                self.node.forget_names();
            }
            Found::Line(line) => {
                if !std::mem::replace(&mut self.has_lines, true) {
                    self.node.restore_feed(line.offset);
                }
                self.node.restore_line(line.stream, line.seq, line.bytes);
                self.lines += 1;
            }
            Found::ForgetLines => (self.has_lines, self.lines) = (false, 0),
        }
    }
}

impl Disk {
    /// Opens the store and gives the node all that is in it.
    pub fn open(keep: &Keep, node: &mut Node, waker: Arc<Waker>) -> io::Result<Disk> {
        let mut restoring = Restoring { node, rows: Vec::new(), bad: 0, has_lines: false, lines: 0 };
        let wake = move || {
            // It fails only when the loop is gone.
            let _ = waker.wake();
        };
        restoring.node.set_wall(wall());
        let opened =
            Store::open(&keep.folder, keep.retention, wall(), wake, &mut |found| restoring.take(found));
        let (store, Contents { journal, damaged_records }) = opened?;
        let Restoring { node, rows, bad, has_lines, lines } = restoring;
        if !has_lines {
            node.restore_feed(journal.tail);
        }
        for cut in &journal.cuts {
            log::warn!("{}: {} bytes are not kept: {}", cut.file.display(), cut.bytes, cut.damage);
        }
        if let Some(path) = damaged_records {
            log::error!(
                "names and sessions were damaged, and begin anew; what was there is in {}",
                path.display()
            );
        }
        let bad = bad + node.restore_rows(Time::START, &rows);
        if bad > 0 {
            log::warn!("{bad} rows on disk are not understood, and left out");
        }
        node.keep(Time::START, journal.head);
        log::info!("{}: {} names, {lines} messages", keep.folder.display(), node.names());
        Ok(Disk {
            store,
            folder: keep.folder.clone(),
            fsync: keep.fsync,
            waiting: VecDeque::new(),
            sync_at: None,
            syncing: false,
            sync_failed: false,
            commits_failed: false,
            append_at: None,
            expire_at: Time::START + JOURNAL_EXPIRY,
        })
    }

    fn ask(&mut self, request: Request) {
        // They stay in order.
        if !self.waiting.is_empty() {
            self.waiting.push_back(request);
        } else if let Err(request) = self.store.ask(request) {
            self.waiting.push_back(request);
        }
    }

    /// Messages cannot be synced, so the machine's end may cost them.
    pub fn is_unsynced(&self) -> bool {
        self.sync_failed
    }

    /// When it has something to do though nothing happens.
    pub fn deadline(&self) -> Time {
        let sync_at = self.sync_at.filter(|_| !self.syncing);
        [sync_at, self.append_at].into_iter().flatten().fold(self.expire_at, Time::min)
    }
}

impl Server {
    /// Removes what this server alone kept, if it retired in good order: the others have it all, and none will start
    /// in this folder again.
    pub(super) fn leave_nothing(&mut self) {
        let Some(disk) = self.disk.take_if(|_| self.retires && self.node.links() == 0 && self.node.is_kept())
        else {
            return;
        };
        let folder = disk.folder.clone();
        drop(disk);
        match std::fs::remove_dir_all(&folder) {
            Ok(()) => log::info!("{} is removed", folder.display()),
            Err(error) => log::warn!("{} cannot be removed: {error}", folder.display()),
        }
    }

    /// Appends what was said in this turn to the journal. It comes before anybody is written to.
    pub(super) fn append(&mut self) {
        let now = self.now;
        let is_due = |disk: &&mut Disk| disk.append_at.is_none_or(|at| at <= now);
        let Some(disk) = self.disk.as_mut().filter(is_due) else { return };
        disk.append_at = None;
        let Some((from, runs, bytes)) = self.node.unwritten() else { return };
        match disk.store.append(from, wall(), runs, bytes) {
            Ok(()) => {
                if let Some(wait) = disk.fsync.wait() {
                    disk.sync_at.get_or_insert(self.now + wait);
                }
                let kept = disk.store.journal().head();
                self.node.written(Some(kept));
            }
            // The journal has said why.
            Err(_) => {
                disk.append_at = Some(self.now + JOURNAL_RETRY);
                self.node.written(None);
            }
        }
    }

    /// Asks the store's thread for something.
    pub(super) fn ask_disk(&mut self, request: Request) {
        if let Some(disk) = self.disk.as_mut() {
            disk.ask(request);
        }
    }

    /// Has what is due done, and takes the thread's answers.
    pub(super) fn turn_of_disk(&mut self) {
        let Some(disk) = self.disk.as_mut() else { return };
        while let Some(request) = disk.waiting.pop_front() {
            if let Err(request) = disk.store.ask(request) {
                disk.waiting.push_front(request);
                break;
            }
        }
        if !disk.syncing && disk.sync_at.is_some_and(|at| at <= self.now) {
            disk.sync_at = None;
            disk.syncing = true;
            disk.ask(Request::Sync);
        }
        if disk.expire_at <= self.now {
            disk.expire_at = self.now + JOURNAL_EXPIRY;
            disk.store.expire(wall());
            self.node.dropped(disk.store.journal().head());
        }
        while let Some(answer) = self.disk.as_mut().and_then(|disk| disk.store.answer()) {
            self.on_answer(answer);
        }
    }

    fn on_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Synced { result, .. } => {
                let Some(disk) = self.disk.as_mut() else { return };
                disk.syncing = false;
                self.node.counters_mut().syncs_failed += u64::from(result.is_err());
                if disk.sync_failed != result.is_err() {
                    disk.sync_failed = result.is_err();
                    match result {
                        Err(error) => log::error!("degraded: messages cannot be synced: {error}"),
                        Ok(()) => log::warn!("messages are synced again"),
                    }
                }
            }
            Answer::Chunk { offset, result, .. } => {
                let bytes = match result {
                    Ok(Chunk::Bytes(bytes)) => Some(bytes.into_boxed_slice()),
                    Ok(Chunk::Gone) => None,
                    Err(error) => {
                        log::error!("the journal cannot be read at {offset}: {error}");
                        None
                    }
                };
                if let Some(disk) = &self.disk {
                    self.node.dropped(disk.store.journal().head());
                }
                self.node.handle(self.now, Input::Chunk { offset, bytes });
            }
            Answer::Committed { ticket, result } => {
                if let Some(disk) = self.disk.as_mut()
                    && std::mem::replace(&mut disk.commits_failed, result.is_err()) != result.is_err()
                    && let Err(error) = &result
                {
                    log::error!("names and sessions cannot be kept: {error}");
                }
                self.node.handle(self.now, Input::Committed { ticket, good: result.is_ok() });
            }
        }
    }
}

/// Milliseconds since 1970. Nothing waits by it.
pub(super) fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::server::Options;
    use crate::server::pages::Figures;

    #[test]
    fn a_sync_that_fails_is_counted_and_seen_until_one_succeeds() {
        let folder = std::env::temp_dir().join(format!("activitystreamer-keep-{}", std::process::id()));
        let keep = Keep {
            folder: folder.clone(),
            retention: Retention { bytes: 1 << 20, age: Duration::MAX },
            fsync: Fsync::Interval,
        };
        let mut server = Server::new(&Options { keep: Some(keep), ..Options::default() }).unwrap();
        let failed = || Err(io::Error::other("no"));
        for (result, storage) in [(failed(), "degraded"), (failed(), "degraded"), (Ok(()), "good")] {
            server.figures = Figures::default();
            server.on_answer(Answer::Synced { upto: 0, result });
            let page = server.page("/metrics").expect("few are counted at once").body;
            assert!(page.contains(&format!("storage{{state=\"{storage}\"}} 1\n")), "{page}");
        }
        assert_eq!(server.node.counters().syncs_failed, 2);
        drop(server);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
