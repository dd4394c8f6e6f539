//! A disk that fails on demand.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex};

use activitystreamer::store::{Disk, RealDisk};

/// What goes wrong, until it is changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Bytes that fit; above it a write is short, and the next says that the disk is full.
    pub room: Option<usize>,
    /// Every write fails like this.
    pub write: Option<io::ErrorKind>,
    pub open: Option<io::ErrorKind>,
    pub cut: Option<io::ErrorKind>,
    pub sync: Option<io::ErrorKind>,
    /// A write takes no more than this at once.
    pub piece: Option<usize>,
}

#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<Faults>>);

impl FaultyDisk {
    pub fn set(&self, faults: Faults) {
        *self.0.lock().unwrap() = faults;
    }

    fn check(&self, fault: impl Fn(&Faults) -> Option<io::ErrorKind>) -> io::Result<()> {
        fault(&self.0.lock().unwrap()).map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl Disk for FaultyDisk {
    fn open(&mut self, path: &Path, length: u64) -> io::Result<File> {
        self.check(|faults| faults.open)?;
        RealDisk.open(path, length)
    }

    fn write(&mut self, file: &File, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.check(|faults| faults.write)?;
        let mut faults = self.0.lock().unwrap();
        let most = faults.room.unwrap_or(usize::MAX).min(faults.piece.unwrap_or(usize::MAX));
        if most == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let all: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).take(most).collect();
        let n = RealDisk.write(file, &[IoSlice::new(&all)])?;
        if let Some(room) = &mut faults.room {
            *room -= n;
        }
        Ok(n)
    }

    fn cut(&mut self, file: &File, length: u64) -> io::Result<()> {
        self.check(|faults| faults.cut)?;
        RealDisk.cut(file, length)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        self.check(|faults| faults.sync)?;
        RealDisk.sync(file)
    }
}
