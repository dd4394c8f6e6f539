//! Records: rows of bytes in a small database, for all that is not the feed.
//!
//! The database is [redb](https://docs.rs/redb): one file, copy on write, so a crash leaves the last durable
//! commit whole. Each start checks every page's checksum before a row is believed. A file that fails that is
//! set aside under another name, and a fresh one begun.
//!
//! The database may panic over a file it finds damaged later on. Such a panic ends here, as an error; a
//! failed commit closes the file, and the next one opens it again.

use std::any::Any;
use std::fmt::{self, Display};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::Found;
use crate::base::limits::RECORDS_CACHE_BYTES;

pub use crate::base::row::{Row, Table};

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(match table {
        Table::Meta => "meta",
        Table::Names => "names",
        Table::Sessions => "sessions",
    })
}

/// The database, or the reason why there is none at the moment.
pub struct Records {
    path: PathBuf,
    open: Option<Database>,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({}, open: {})", self.path.display(), self.open.is_some())
    }
}

impl Records {
    /// Opens the database at `path`, or makes it. All rows go to `found`, by table and key. A damaged file
    /// is renamed with the time (`wall_s`, since 1970), which is said once in the log; its new name is
    /// handed back. An error says that the system does not let it be opened.
    pub fn open(
        path: &Path,
        wall_s: u64,
        found: &mut dyn FnMut(Found<'_>),
    ) -> io::Result<(Records, Option<PathBuf>)> {
        let (open, aside) = match attempt(path, found) {
            Ok(open) => (open, None),
            Err(failure @ Failure::Io(_)) => return Err(said(path, &failure)),
            Err(Failure::Damaged(why)) => {
                found(Found::ForgetRows);
                let aside = path.with_extension(format!("redb.damaged-{wall_s}"));
                fs::rename(path, &aside)?;
                log::error!(
                    "records: {} is damaged ({why}); it is set aside as {} and a new one begun",
                    path.display(),
                    aside.display()
                );
                let open = attempt(path, found).map_err(|failure| said(path, &failure))?;
                (open, Some(aside))
            }
        };
        Ok((Records { path: path.to_owned(), open: Some(open) }, aside))
    }

    /// Commits rows in order, all of them or none, and returns when they are on disk; of two for one key the
    /// later counts. On an error it is not certain which, but the file is whole; the next commit opens it
    /// again.
    pub fn commit<'a>(&mut self, rows: impl Iterator<Item = &'a Row>) -> io::Result<()> {
        let open = match self.open.take() {
            Some(open) => open,
            None => database(&self.path).map_err(|failure| said(&self.path, &failure))?,
        };
        match guarded(|| write(&open, rows)) {
            Ok(()) => {
                self.open = Some(open);
                Ok(())
            }
            Err(failure) => {
                close(open);
                Err(said(&self.path, &failure))
            }
        }
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        let open = self.open.take();
        if let Err(e) = guarded(move || open.map_or(Ok(()), |open| open.close().map_err(Failure::from))) {
            log::error!("records: closing {}: {e}", self.path.display());
        }
    }
}

/// Why the database does not do what it was asked to.
#[derive(Debug)]
enum Failure {
    /// Its bytes are not such that it could.
    Damaged(String),
    /// The system refuses.
    Io(io::Error),
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Damaged(why) => f.write_str(why),
            Failure::Io(e) => e.fmt(f),
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        match error.into() {
            redb::Error::Io(e) if !matches!(e.kind(), InvalidData | UnexpectedEof) => Failure::Io(e),
            e @ (redb::Error::DatabaseAlreadyOpen
            | redb::Error::LockProtocolMismatch
            | redb::Error::PreviousIo
            | redb::Error::DatabaseClosed
            | redb::Error::LockPoisoned(_)
            | redb::Error::Unsupported) => Failure::Io(io::Error::other(e)),
            other => Failure::Damaged(other.to_string()),
        }
    }
}

fn said(path: &Path, why: &Failure) -> io::Error {
    let kind = match why {
        Failure::Io(e) => e.kind(),
        Failure::Damaged(_) => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, format!("{}: {why}", path.display()))
}

/// Runs what may panic over a damaged file. Nothing it touched is used again after it did.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Failure::Damaged(words(&*panic))))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the database panicked: {}", text.unwrap_or("for no reason it gives"))
}

/// Opens the file, checked, and walks all rows.
fn attempt(path: &Path, found: &mut dyn FnMut(Found<'_>)) -> Result<Database, Failure> {
    let open = database(path)?;
    match walk(&open, found) {
        Ok(()) => Ok(open),
        Err(failure) => {
            close(open);
            Err(failure)
        }
    }
}

fn walk(open: &Database, found: &mut dyn FnMut(Found<'_>)) -> Result<(), Failure> {
    let read = guarded(|| Ok(open.begin_read()?))?;
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for table in Table::ALL {
        let rows = guarded(|| Ok(read.open_table(definition(table))?))?;
        let mut rows = guarded(|| Ok(rows.iter()?))?;
        let mut next = |key: &mut Vec<u8>, value: &mut Vec<u8>| {
            let Some(row) = rows.next() else { return Ok(false) };
            let row = row?;
            key.clear();
            key.extend_from_slice(row.0.value());
            value.clear();
            value.extend_from_slice(row.1.value());
            Ok(true)
        };
        while guarded(|| next(&mut key, &mut value))? {
            found(Found::Row { table, key: &key, value: &value });
        }
    }
    Ok(())
}

/// Closes a database that is given up.
fn close(open: Database) {
    let closed = guarded(move || Ok(open.close()?));
    log::debug!("records: given up: {closed:?}");
}

/// Opens the file, checks it, and makes what is not there.
fn database(path: &Path) -> Result<Database, Failure> {
    guarded(|| {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        drop(file.map_err(Failure::Io)?);
        let mut builder = Database::builder();
        builder.set_cache_size(RECORDS_CACHE_BYTES).set_check_integrity_on_open(true);
        let open = builder.create(path)?;
        let read = open.begin_read()?;
        let names: Vec<_> = read.list_tables()?.collect();
        drop(read);
        if names.len() < Table::ALL.len() {
            write(&open, [].iter())?;
        }
        Ok(open)
    })
}

fn write<'a>(open: &Database, rows: impl Iterator<Item = &'a Row>) -> Result<(), Failure> {
    let transaction = open.begin_write()?;
    {
        let [meta, names, sessions] = Table::ALL.map(|table| transaction.open_table(definition(table)));
        let mut tables = [meta?, names?, sessions?];
        for (table, key, value) in rows {
            let table = &mut tables[*table as usize];
            match value {
                Some(value) => drop(table.insert(&**key, &**value)?),
                None => drop(table.remove(&**key)?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}
