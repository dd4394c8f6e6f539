//! The cluster secret: where it comes from, and the keys made of it.
//!
//! Whoever has it is a server of the network, so it is never logged and never on the wire. All keys follow
//! from it alone: servers with the same secret have the same keys.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Where data is kept unless another folder is asked for.
pub const DATA_DIR: &str = "activitystreamer-data";
/// The secret's file in it.
const FILE: &str = "cluster.secret";
/// Bytes of a secret that is made here, before they are written as digits.
const MADE_BYTES: usize = 32;
/// Bytes a secret file may have. Nobody has a longer secret; a wrong file may be endless.
const FILE_BYTES_MAX: u64 = 4096;

/// Cost of the one hash at start: 19 MiB and two passes, the usual floor for Argon2id.
const KIB: u32 = 19_456;
const PASSES: u32 = 2;
/// The same for all networks, since servers have nothing in common but the secret.
const SALT: &[u8] = b"activitystreamer cluster secret 1";

/// Where a server has its cluster secret from.
#[derive(Clone)]
pub enum Source {
    /// From the command line.
    Given(Zeroizing<String>),
    /// From this file.
    File(PathBuf),
    /// From this folder; it is made there if there is none.
    Kept(PathBuf),
    /// From this folder if there is one, else it is made and forgotten at the end.
    Ephemeral(PathBuf),
    /// Made and forgotten at the end: this server is alone.
    Alone,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Given(_) => write!(f, "Given(..)"),
            Source::File(path) => f.debug_tuple("File").field(path).finish(),
            Source::Kept(dir) => f.debug_tuple("Kept").field(dir).finish(),
            Source::Ephemeral(dir) => f.debug_tuple("Ephemeral").field(dir).finish(),
            Source::Alone => write!(f, "Alone"),
        }
    }
}

/// What all servers of a network have in common.
pub struct Keys {
    /// The pre-shared key that links are proven with.
    pub links: Zeroizing<[u8; 32]>,
    /// Key of the fast checks of users' secrets.
    pub verifiers: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// The keys of this secret. Takes some tens of milliseconds, on purpose.
    ///
    /// # Errors
    /// The machine has no memory for the hash.
    pub fn derive(secret: &[u8]) -> Result<Keys, String> {
        let params = Params::new(KIB, PASSES, 1, Some(32)).expect("these are good parameters");
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut root = Zeroizing::new([0; 32]);
        argon2
            .hash_password_into(secret, SALT, &mut *root)
            .map_err(|error| format!("cannot hash the cluster secret: {error}"))?;
        let key = |label: &[u8]| {
            let mut mac = Hmac::<Sha256>::new_from_slice(&*root).expect("any key is good");
            mac.update(label);
            Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()))
        };
        Ok(Keys { links: key(b"links"), verifiers: key(b"verifiers") })
    }
}

impl Source {
    /// Reads the secret, or makes it. `joins`: the server was told to join a network.
    ///
    /// # Errors
    /// There is none to be had; the text says why and what to do.
    pub fn obtain(&self, joins: bool) -> Result<Zeroizing<Vec<u8>>, String> {
        match self {
            Source::Given(secret) if secret.is_empty() => {
                Err("-s needs a secret that is not empty".to_owned())
            }
            Source::Given(secret) => Ok(Zeroizing::new(secret.as_bytes().to_vec())),
            Source::File(path) => read(path)
                .map_err(|why| format!("cannot read the cluster secret in {}: {why}", path.display())),
            Source::Kept(dir) => keep(dir).map_err(|why| {
                format!(
                    "cannot keep a cluster secret in {}: {why}; --data-dir chooses another folder, -s or \
                     --secret-file gives the secret",
                    dir.display()
                )
            }),
            Source::Ephemeral(dir) => match read(&dir.join(FILE)) {
                Ok(secret) => {
                    log::info!("the cluster secret is that in {}", dir.join(FILE).display());
                    Ok(secret)
                }
                Err(why) if why.kind() == ErrorKind::NotFound => {
                    if joins {
                        log::warn!(
                            "no server has this one's cluster secret, so none will let it join: give both the \
                             same by -s, --secret-file or --data-dir"
                        );
                    } else {
                        log::info!(
                            "the cluster secret is in memory only: servers that are to join need the same by \
                             -s, --secret-file or --data-dir"
                        );
                    }
                    make().map_err(|why| why.to_string())
                }
                Err(why) => Err(format!("cannot read the cluster secret in {}: {why}", dir.display())),
            },
            Source::Alone => make().map_err(|why| why.to_string()),
        }
    }
}

/// A new secret, as text that a person can copy.
fn make() -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new([0; MADE_BYTES]);
    getrandom::fill(&mut *bytes).map_err(io::Error::other)?;
    // All of it at once: a buffer that grows would leave pieces behind.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * MADE_BYTES));
    let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
    bytes.iter().for_each(|byte| text.extend([digit(byte >> 4), digit(byte & 15)]));
    Ok(text)
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        log::warn!("others may read the cluster secret; better: chmod 600 {}", path.display());
    }
    let mut secret = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut secret)?;
    if secret.len() as u64 > FILE_BYTES_MAX {
        let why = format!("it has more than {FILE_BYTES_MAX} bytes, so it is no secret");
        return Err(io::Error::new(ErrorKind::InvalidData, why));
    }
    while secret.last().is_some_and(|byte| b"\r\n".contains(byte)) {
        secret.pop();
    }
    if secret.is_empty() {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is empty; write a secret into it"));
    }
    Ok(secret)
}

/// The secret of this folder, which is made if there is none. Of servers that start at once the first
/// makes it and all have it.
fn keep(dir: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let path = dir.join(FILE);
    match read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        result => return result,
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let draft = dir.join(format!("{FILE}.{}.{:016x}", std::process::id(), draw()?));
    let written = write(&draft, &make()?).and_then(|()| match fs::hard_link(&draft, &path) {
        // Another was first: its secret is the network's.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        result => result,
    });
    let removed = fs::remove_file(&draft);
    written?;
    removed?;
    File::open(dir)?.sync_all()?;
    let secret = read(&path)?;
    log::info!("the cluster secret is in {}; servers that are to join need the same", path.display());
    Ok(secret)
}

fn write(path: &Path, secret: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(secret)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// 64 random bits.
pub(super) fn draw() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of the test's own that is gone afterwards.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Folder {
            let name = format!("activitystreamer-{}-{:x}", std::process::id(), draw().unwrap());
            Folder(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn servers_that_start_at_once_in_one_folder_agree() {
        let folder = Folder::new();
        let dir = folder.0.join("deep");
        let start = || {
            std::thread::spawn({
                let source = Source::Kept(dir.clone());
                move || source.obtain(false).unwrap().to_vec()
            })
        };
        let threads: Vec<_> = (0..8).map(|_| start()).collect();
        let mut secrets: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        secrets.dedup();
        assert_eq!((secrets.len(), secrets[0].len()), (1, 64));
        let files: Vec<_> = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files, [dir.join(FILE)], "no draft is left");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&files[0])), (0o700, 0o600));
        let ephemeral = Source::Ephemeral(dir.clone()).obtain(true).unwrap();
        assert_eq!(*ephemeral, secrets[0]);
    }

    #[test]
    fn a_secret_ends_with_its_line_and_must_be_one() {
        let folder = Folder::new();
        fs::create_dir(&folder.0).unwrap();
        let path = folder.0.join("secret");
        let source = Source::File(path.clone());
        assert!(source.obtain(false).unwrap_err().contains("secret"));
        for (text, wanted) in [("a b\r\n", Ok("a b")), ("x", Ok("x")), ("\n", Err("empty"))] {
            fs::write(&path, text).unwrap();
            match (source.obtain(false), wanted) {
                (Ok(secret), Ok(wanted)) => assert_eq!(*secret, wanted.as_bytes()),
                (Err(why), Err(wanted)) => assert!(why.contains(wanted), "{why}"),
                (result, _) => panic!("{text:?}: {result:?}"),
            }
        }
        fs::write(&path, vec![b'x'; 5000]).unwrap();
        assert!(source.obtain(false).unwrap_err().contains("4096"));
        assert!(Source::Given(Zeroizing::new(String::new())).obtain(false).is_err());
    }

    #[test]
    fn an_ephemeral_secret_leaves_no_trace() {
        let folder = Folder::new();
        let source = Source::Ephemeral(folder.0.clone());
        assert_ne!(*source.obtain(false).unwrap(), *source.obtain(true).unwrap());
        assert!(!folder.0.exists());
    }

    #[test]
    fn keys_follow_from_the_secret_and_tell_nothing_of_it() {
        let [one, same, other] =
            ["sek", "sek", "sek2"].map(|secret| Keys::derive(secret.as_bytes()).unwrap());
        assert_eq!((*one.links, *one.verifiers), (*same.links, *same.verifiers));
        assert!(*one.links != *other.links && *one.links != *one.verifiers);
        let shown = format!("{:?}", Source::Given(Zeroizing::new("sek".to_owned())));
        assert!(!shown.contains("sek"));
    }
}
