//! The few calls that change the disk. The tests have a disk of their own, which is full, broken or slow.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What the journal asks of a disk. Each call is one system call, and fails as that does.
pub trait Disk: Clone + Send + 'static {
    /// Opens a file to append to it, and makes it if it is not there. What is beyond `length` is cut off.
    fn open(&mut self, path: &Path, length: u64) -> io::Result<File>;
    /// Appends some of `parts`, and says how many bytes.
    fn write(&mut self, file: &File, parts: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Cuts the file to `length` bytes.
    fn cut(&mut self, file: &File, length: u64) -> io::Result<()>;
    /// Returns when the file's bytes have reached the disk.
    fn sync(&mut self, file: &File) -> io::Result<()>;
}

/// The disk there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&mut self, path: &Path, length: u64) -> io::Result<File> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        file.set_len(length)?;
        Ok(file)
    }

    fn write(&mut self, mut file: &File, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        file.write_vectored(parts)
    }

    fn cut(&mut self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}
