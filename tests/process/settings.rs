//! Settings from a file, the environment and flags, and what a service manager and a signal have to do with it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::kept::Folder;
use crate::stage::{BINARY, CHEAP, PATIENCE, Process, Server};

fn server() -> Command {
    let mut command = Command::new(BINARY);
    command.arg("server");
    command
}

/// What it prints, and how it ends.
fn run(command: &mut Command) -> (i32, String) {
    let mut process = Process::start(command);
    let text = process.output.rest() + &process.errors.rest();
    (process.end().code().unwrap_or(-1), text)
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let folder = Folder::new("settings");
    let file = folder.path("as.toml");
    fs::write(&file, "away = \"1m\"\ndrain = 5\nfeed-bytes = \"32M\"\nephemeral = true\nlog = \"debug\"\n")
        .expect("a file");
    let mut command = server();
    command.args(["--config", &file, "--print-config", "--away", "3m", "--ephemeral=false"]);
    let (code, text) = run(command.env("AS_AWAY", "2m").env("AS_DRAIN", "6s").env("AS_SECRET", "s3cr3t"));
    assert_eq!(code, 0, "{text}");
    let line = |key: &str| text.lines().find(|line| line.contains(key)).unwrap_or_default();
    assert_eq!(line("away"), "away = \"3m\"  # flag");
    assert_eq!(line("drain"), "drain = \"6s\"  # AS_DRAIN");
    assert_eq!(line("feed-bytes"), format!("feed-bytes = \"32M\"  # {file}:3"));
    assert_eq!(line("ephemeral"), "ephemeral = false  # flag");
    assert_eq!(line("hash-passes"), "hash-passes = 2  # default");
    assert!(!text.contains("s3cr3t") && line("secret").contains("AS_SECRET"), "{text}");

    // What is printed is a file that says the same.
    let again = folder.path("again.toml");
    fs::write(&again, &text).expect("a file");
    let (code, printed) = run(server().args(["--config", &again, "--print-config"]));
    let plain = |text: &str| -> Vec<String> {
        let settings = text.lines().filter(|line| !line.starts_with('#'));
        settings.map(|line| line.split("  #").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!((code, plain(&printed)), (0, plain(&text)));
    // The file may be named by the environment, too.
    let (code, text) = run(server().arg("--check-config").env("AS_CONFIG", &again));
    assert_eq!((code, &*text), (0, "the settings are good\n"));
}

#[test]
fn what_is_wrong_is_refused_with_its_place_and_what_was_meant() {
    let folder = Folder::new("wrong");
    let file = folder.path("as.toml");
    for (text, hint) in [
        ("\nfeed-byte = 1\n", ":2: there is no setting `feed-byte`; the nearest is `feed-bytes`"),
        ("away = \"soon\"\n", ":1: invalid value 'soon'"),
        ("away = 1\naway = 2\n", ":2: duplicate key"),
        ("away = [1]\n", ":1: `away` is a text, a number, or true or false"),
        ("[limits]\naway = 1\n", ":1: there is no setting `limits`"),
        ("away = \n", ":1: "),
        ("line-bytes = 1\n", "from 4096"),
        ("remote-port = 4\n", "--remote-host"),
        ("secret = \"a\"\nsecret-file = \"b\"\n", "cannot be used with"),
        ("secret-file = \"/does/not/exist\"\n", "/does/not/exist"),
        ("config = \"other\"\n", "no setting `config`"),
    ] {
        fs::write(&file, text).expect("a file");
        let (code, told) = run(server().args(["--config", &file, "--check-config"]));
        assert!(code == 2 && told.contains(hint), "{text:?} is refused with {hint:?}, not {told}");
    }
    let (code, told) = run(server().arg("--check-config").env("AS_FEED_BYTE", "1"));
    assert!(code == 2 && told.contains("`AS_FEED_BYTE`; the nearest is `AS_FEED_BYTES`"), "{told}");
    let (code, told) = run(server().arg("--check-config").env("AS_AWAY", "soon"));
    assert!(code == 2 && told.contains("AS_AWAY: invalid value 'soon'"), "{told}");
    let (code, told) = run(server().args(["--config", "/does/not/exist"]));
    assert!(code == 2 && told.contains("/does/not/exist cannot be read"), "{told}");
    // A flag takes the place of the other way to say the same.
    fs::write(&file, "secret-file = \"/does/not/exist\"\n").expect("a file");
    let (code, told) = run(server().args(["--config", &file, "--check-config", "-s", "sek"]));
    assert_eq!(code, 0, "{told}");
}

#[test]
fn a_hangup_reads_limits_and_log_level_anew_and_says_what_needs_a_restart() {
    let folder = Folder::new("hangup");
    let file = folder.path("as.toml");
    fs::write(&file, "failed-logins = 100\nlog = \"info\"\n").expect("a file");
    let mut server = Server::run(Command::new(BINARY).arg("server").args(CHEAP).args(["--config", &file]));
    let errors = |words: &str| server.process.errors.line_with(words);
    fs::write(&file, "failed-logins = 1\nfeed-bytes = \"32M\"\nlog = \"debug\"\n").expect("a file");
    server.process.signal("HUP");
    let told = errors("settings read anew");
    assert!(told.contains("changed: failed-logins, log;") && told.ends_with("restart: feed-bytes"), "{told}");
    let mut ann = server.register("ann");
    errors("registered");
    let wrong = r#"{"command":"LOGIN","username":"ann","secret":"wrong"}"#;
    let told = [0, 1].map(|_| {
        let mut eve = server.connect();
        eve.tell(wrong);
        eve.hear_command("LOGIN_FAILED")
    });
    assert!(told[1] != told[0], "the second try of a minute is one too many now: {told:?}");
    // A mistake changes nothing.
    fs::write(&file, "failed-logins = 1\nlog = \"loud\"\n").expect("a file");
    server.process.signal("HUP");
    let told = errors("the settings stay as they are");
    assert!(told.contains("as.toml:2:"), "{told}");
    ann.say(serde_json::json!({ "n": 1 }));
    ann.hear_numbers([1]);
    server.process.signal("TERM");
    ann.hear_end();
    server.process.end_with(0);
}

#[test]
fn a_service_manager_is_told_when_it_is_ready_and_when_it_stops() {
    let folder = Folder::new("notify");
    let path = folder.path("socket");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    let told = || {
        let mut bytes = [0; 64];
        let n = socket.recv(&mut bytes).expect("it is told");
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    };
    let mut command = Command::new(BINARY);
    let mut server = Server::run(command.arg("server").args(CHEAP).env("NOTIFY_SOCKET", &path));
    assert_eq!(told(), "READY=1");
    server.login("anonymous");
    server.process.signal("TERM");
    assert_eq!(told(), "STOPPING=1");
    server.process.end_with(0);
    // One that is not there stops nothing.
    let mut command = Command::new(BINARY);
    let server = Server::run(command.arg("server").args(CHEAP).env("NOTIFY_SOCKET", "@nobody"));
    server.process.errors.line_with("cannot be told");
    server.login("anonymous");
}

#[test]
fn the_manual_and_completions_name_every_flag() {
    let folder = Folder::new("man");
    let (code, told) = run(Command::new(BINARY).args(["man", &folder.path("pages")]));
    assert_eq!(code, 0, "{told}");
    let page = fs::read_to_string(folder.path("pages/activitystreamer-server.1")).expect("a page for server");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, text) = run(Command::new(BINARY).args(["completions", shell]));
        assert!(code == 0 && text.contains("feed-bytes") && text.contains("watch"), "{shell}: {text:.300}");
    }
    for flag in ["feed\\-bytes", "http", "print\\-config"] {
        assert!(page.contains(&format!("\\-\\-{flag}")), "{flag}");
    }
    for command in ["client", "status", "sim", "bench", "demo"] {
        assert!(
            fs::exists(folder.path(&format!("pages/activitystreamer-{command}.1"))).expect("it can be seen"),
            "{command}"
        );
    }
}
