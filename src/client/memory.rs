//! A file in which a client with an id goes on after a restart: what it said and is not safe yet, and what it heard.
//!
//! ```text
//! record: length u32, CRC-32 u32 (both little-endian), one Change as JSON; the first is the state
//! ```
//!
//! Invariant: what [`Memory::write`] returned from outlives the program, and what was said outlives the machine. A
//! record that was cut off at a crash is left out: nobody was told of it. Only the file's owner can read it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::ids::{Change, Ids};
use super::keyring::private;

/// Bytes above which the file is written anew, with the state alone, if that is a quarter of it at most.
const REWRITE_BYTES: u64 = 1 << 20;
/// Bytes of a record's length and checksum.
const HEAD: usize = 8;

/// The file, which nobody else uses meanwhile.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    file: File,
    bytes: u64,
    state_bytes: u64,
    /// Its lock ends with it.
    _lock: File,
}

impl Memory {
    /// Opens the file, or makes one for a client that is drawn now.
    ///
    /// # Errors
    /// What is wrong, and what to do about it: another client uses it, it cannot be used, or is damaged at its begin.
    pub fn open(path: &Path) -> Result<(Memory, Ids), String> {
        let name = path.display();
        let cannot = |error: io::Error| format!("cannot use the memory {name}: {error}");
        let lock = private(OpenOptions::new().append(true), &beside(path, "lock")).map_err(cannot)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!("another client uses the memory {name}; end it, or take another file"));
            }
            Err(TryLockError::Error(error)) => return Err(cannot(error)),
        }
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(cannot(error)),
        };
        let (changes, good) = read(&bytes);
        let ids = if bytes.is_empty() {
            let mut client = [0; 16];
            getrandom::fill(&mut client).map_err(|error| format!("cannot draw an id: {error}"))?;
            Ids::new(client)
        } else {
            Ids::restore(changes).ok_or_else(|| {
                format!("the memory {name} is no client's, or damaged; remove it to begin as a new client")
            })?
        };
        if good < bytes.len() {
            log::warn!("{} bytes at the end of the memory {name} were cut off", bytes.len() - good);
        }
        let mut ids = ids;
        ids.keep_changes();
        let (file, state_bytes) = rewrite(path, &ids).map_err(cannot)?;
        let memory = Memory { path: path.to_owned(), file, bytes: state_bytes, state_bytes, _lock: lock };
        Ok((memory, ids))
    }

    /// Writes down what changed. If something was said, it is on disk when this returns.
    ///
    /// # Errors
    /// Those of the disk. Then the file may lack what changed, and is written anew the next time.
    pub fn write(&mut self, ids: &mut Ids) -> io::Result<()> {
        let changes = ids.changes();
        if changes.is_empty() && self.bytes <= u64::MAX / 2 {
            return Ok(());
        }
        if self.bytes > REWRITE_BYTES.max(4 * self.state_bytes) {
            let (file, bytes) = rewrite(&self.path, ids)?;
            (self.file, self.bytes, self.state_bytes) = (file, bytes, bytes);
            return Ok(());
        }
        let mut out = Vec::new();
        changes.iter().for_each(|change| put(&mut out, change));
        let was_said = changes.iter().any(|change| matches!(change, Change::Said(_)));
        let written = self.file.write_all(&out).and_then(|()| match was_said {
            true => self.file.sync_data(),
            false => Ok(()),
        });
        // A part of it may be there: nothing is written behind that.
        self.bytes = if written.is_ok() { self.bytes + out.len() as u64 } else { u64::MAX };
        written
    }
}

/// Writes the file anew and puts it in the place of the old one. Returns it, ready to append to, and its bytes.
fn rewrite(path: &Path, ids: &Ids) -> io::Result<(File, u64)> {
    let new = beside(path, "new");
    let mut bytes = Vec::new();
    put(&mut bytes, &ids.state());
    // Who reads it can speak as this client.
    let mut file = private(OpenOptions::new().write(true).truncate(true), &new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok((file, bytes.len() as u64))
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    PathBuf::from(name)
}

fn put(out: &mut Vec<u8>, change: &Change) {
    let text = serde_json::to_vec(change).expect("it has no map whose keys are no text");
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&text).to_le_bytes());
    out.extend_from_slice(&text);
}

/// The records up to the first that is not whole, and where they end.
fn read(bytes: &[u8]) -> (Vec<Change>, usize) {
    let (mut changes, mut at) = (Vec::new(), 0);
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    while let (Some(length), Some(sum)) = (word(at), word(at + 4)) {
        let Some(text) = bytes.get(at + HEAD..).and_then(|rest| rest.get(..length as usize)) else { break };
        let change = (crc32fast::hash(text) == sum).then(|| serde_json::from_slice(text).ok()).flatten();
        let Some(change) = change else { break };
        changes.push(change);
        at += HEAD + length as usize;
    }
    (changes, at)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("activitystreamer-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).unwrap();
        path.join("memory")
    }

    #[test]
    fn a_torn_file_goes_on_with_what_is_whole() {
        let path = folder("torn");
        let (mut memory, mut ids) = Memory::open(&path).unwrap();
        let state = ids.state();
        for n in 0..3 {
            ids.say(&format!("{{\"n\":{n}}}"));
            memory.write(&mut ids).unwrap();
        }
        drop(memory);
        let whole = fs::read(&path).unwrap();
        let (changes, _) = read(&whole);
        assert_eq!(changes.len(), 4);
        for cut in 0..whole.len() {
            let (changes, good) = read(&whole[..cut]);
            assert!(good <= cut && changes.len() < 4);
            fs::write(&path, &whole[..cut]).unwrap();
            match Memory::open(&path) {
                Ok((_, again)) if cut > 0 => assert_eq!(again.said(), changes.len() as u64 - 1),
                Ok((_, new)) => assert_ne!(new.state(), state),
                Err(why) => assert!(changes.is_empty() && why.contains("remove it"), "{why}"),
            }
        }
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(read(&flipped).0.len(), 3);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn two_living_clients_do_not_share_a_file_and_it_stays_small_and_its_owners_alone() {
        let path = folder("shared");
        fs::write(&path, "").unwrap();
        let (mut memory, mut ids) = Memory::open(&path).unwrap();
        assert!(Memory::open(&path).unwrap_err().contains("another client uses"));
        for file in [&path, &beside(&path, "lock")] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        }
        for n in 1..=2_000 {
            ids.say(&format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(2_000)));
            ids.ack(n);
            if n % 100 == 0 {
                memory.write(&mut ids).unwrap();
            }
        }
        memory.write(&mut ids).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 6 << 20);
        let state = ids.state();
        drop(memory);
        assert_eq!(Memory::open(&path).unwrap().1.state(), state);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
