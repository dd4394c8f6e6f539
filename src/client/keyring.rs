//! Secrets made here, remembered for the next time: one line of JSON a name, in the user's own folder.
//!
//! Invariant: the file is replaced as a whole, by one process at a time, and only its owner can read it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{env, io};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The file's name in its folder.
const FILE: &str = "secrets";

/// A line of the file.
#[derive(Deserialize, Serialize)]
struct Line {
    host: String,
    port: u16,
    name: String,
    secret: Zeroizing<String>,
}

/// Where secrets are remembered.
#[derive(Clone, Debug)]
pub struct Keyring {
    folder: PathBuf,
}

impl Keyring {
    /// In `$XDG_CONFIG_HOME/activitystreamer`, or `~/.config/activitystreamer`; nowhere if there is neither.
    pub fn of_the_user() -> Option<Keyring> {
        let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
        Some(Keyring::at(&config.join("activitystreamer")))
    }

    /// In that folder, which is made when something is to be remembered.
    pub fn at(folder: &Path) -> Keyring {
        Keyring { folder: folder.to_owned() }
    }

    /// The file.
    pub fn file(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// The secret of a name that was registered at that server or, if none was, at another of that host.
    ///
    /// # Errors
    /// A sentence with the file's name, if it is there and cannot be read.
    pub fn find(&self, host: &str, port: u16, name: &str) -> Result<Option<Zeroizing<String>>, String> {
        let text = self.text().map_err(|error| format!("cannot read {}: {error}", self.file().display()))?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let fits = |line: &Line| line.name == name && line.host.eq_ignore_ascii_case(host);
        let best = lines.filter(fits).max_by_key(|line| line.port == port);
        Ok(best.map(|line| line.secret))
    }

    /// Remembers a secret in place of an earlier one of that name at that server.
    ///
    /// # Errors
    /// A sentence with the file's name. What was remembered before still is.
    pub fn keep(&self, host: &str, port: u16, name: &str, secret: &str) -> Result<(), String> {
        let line = Line {
            host: host.to_owned(),
            port,
            name: name.to_owned(),
            secret: Zeroizing::new(secret.to_owned()),
        };
        self.write(&line).map_err(|error| format!("cannot write {}: {error}", self.file().display()))
    }

    fn write(&self, new: &Line) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        fs::set_permissions(&self.folder, Permissions::from_mode(0o700))?;
        let lock = private(OpenOptions::new().append(true), &self.folder.join("lock"))?;
        lock.lock()?;
        let mut out = Zeroizing::new(String::new());
        for line in self.text()?.lines() {
            // What cannot be read is somebody else's, and stays.
            let is_old = serde_json::from_str::<Line>(line).is_ok_and(|old| {
                old.name == new.name && old.port == new.port && old.host.eq_ignore_ascii_case(&new.host)
            });
            if !is_old {
                out.push_str(line);
                out.push('\n');
            }
        }
        out.push_str(&Zeroizing::new(serde_json::to_string(new)?));
        out.push('\n');
        let next = self.folder.join("secrets.new");
        let mut file = private(OpenOptions::new().write(true).truncate(true), &next)?;
        file.write_all(out.as_bytes())?;
        file.sync_all()?;
        fs::rename(next, self.file())
    }

    fn text(&self) -> io::Result<Zeroizing<String>> {
        match fs::read_to_string(self.file()) {
            Ok(text) => Ok(Zeroizing::new(text)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Ok(Zeroizing::default())
            }
            Err(error) => Err(error),
        }
    }
}

/// Opens a file, made if need be, that only its owner can read.
pub(super) fn private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.create(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_and_is_its_owners_alone() {
        let folder = env::temp_dir().join(format!("activitystreamer-keyring-{}", std::process::id()));
        let keys = Keyring::at(&folder.join("made"));
        let find = |host: &str, port, name: &str| {
            keys.find(host, port, name).expect("readable").map(|secret| secret.to_string())
        };
        assert_eq!(find("localhost", 1, "bob"), None);
        keys.keep("localhost", 1, "bob", "one").expect("a folder");
        fs::write(keys.file(), fs::read_to_string(keys.file()).expect("text") + "strange\n").expect("a file");
        keys.keep("localhost", 2, "bob", "two").expect("a folder");
        keys.keep("Localhost", 1, "bob", "three").expect("a folder");
        assert_eq!(find("localhost", 1, "bob").as_deref(), Some("three"));
        assert_eq!(find("localhost", 2, "bob").as_deref(), Some("two"));
        assert!(find("localhost", 3, "bob").is_some(), "another server of the network");
        assert_eq!((find("elsewhere", 1, "bob"), find("localhost", 1, "ann")), (None, None));
        assert!(fs::read_to_string(keys.file()).expect("text").contains("strange\n"));
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&keys.file()), mode(&folder.join("made"))), (0o600, 0o700));
        fs::remove_dir_all(folder).expect("it was made here");
    }

    #[test]
    fn a_folder_that_cannot_be_had_is_told_with_its_name() {
        let keys = Keyring::at(Path::new("/dev/null/here"));
        let why = keys.keep("localhost", 1, "bob", "sek").expect_err("no folder");
        assert!(why.contains("/dev/null/here/secrets"), "{why}");
        assert_eq!(keys.find("localhost", 1, "bob"), Ok(None));
    }
}
