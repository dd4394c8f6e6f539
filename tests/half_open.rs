//! A client whose path is gone without a word, between two network namespaces that the test makes itself.
//! Where the machine does not allow that, it says so and passes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_activitystreamer");

/// Two namespaces with a cable between them, 10.99.0.1 (the server's) and 10.99.0.2.
struct Net {
    server: String,
    client: String,
}

impl Net {
    fn new() -> Result<Net, String> {
        let id = std::process::id();
        let net = Net { server: format!("as-s{id}"), client: format!("as-c{id}") };
        let (s, c) = (&net.server, &net.client);
        ip(&format!("netns add {s}"))?;
        ip(&format!("netns add {c}"))?;
        ip(&format!("-n {s} link add cable type veth peer name cable netns {c}"))?;
        for (ns, address) in [(s, "10.99.0.1"), (c, "10.99.0.2")] {
            ip(&format!("-n {ns} addr add {address}/24 dev cable"))?;
            ip(&format!("-n {ns} link set cable up"))?;
            ip(&format!("-n {ns} link set lo up"))?;
        }
        Ok(net)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = ip(&format!("netns del {}", self.server));
        let _ = ip(&format!("netns del {}", self.client));
    }
}

fn ip(words: &str) -> Result<(), String> {
    let run = Command::new("ip").args(words.split(' ')).output().map_err(|e| format!("ip: {e}"))?;
    if run.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&run.stderr).into_owned()) }
}

/// One process in a namespace, killed when dropped.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(namespace: &str, words: &str) -> Process {
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace, BINARY])
            .args(words.split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Process { child, input, output }
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("its output is text");
        line.trim_end().to_owned()
    }

    fn say(&mut self, text: &str) {
        writeln!(self.input, "{text}").expect("it reads its input");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said(text: &str, name: &str) -> String {
    format!(r#"{{"message":"{text}","authenticated_user":"{name}"}}"#)
}

#[test]
fn what_hangs_in_a_path_that_is_gone_is_delivered_at_the_next_login() {
    let net = match Net::new() {
        Ok(net) => net,
        Err(why) => return println!("skipped: this machine makes no network namespaces: {}", why.trim()),
    };
    let mut server = Process::start(&net.server, "server -lp 0 -lh 10.99.0.1 --hash-kib 8 --hash-passes 1");
    let listening = server.hear();
    let port = listening.rsplit(':').next().expect("an address ends in a port").to_owned();
    let mut talker = Process::start(&net.server, &format!("client -rh 127.0.0.1 -rp {port}"));
    talker.say("hello");
    assert_eq!(talker.hear(), said("hello", "anonymous"));
    let mut hal = register(&net.client, &port);
    assert_eq!(talker.hear(), said("here", "hal"));
    talker.say("one");
    assert_eq!((talker.hear(), hal.hear()), (said("one", "anonymous"), said("one", "anonymous")));

    ip(&format!("-n {} link set cable down", net.server)).expect("the cable is cut");
    for word in ["two", "three"] {
        talker.say(word);
        assert_eq!(talker.hear(), said(word, "anonymous"));
    }
    let mut again = Process::start(&net.server, &format!("client -rh 127.0.0.1 -rp {port} -u hal -s sek"));
    assert_eq!(again.hear(), said("two", "anonymous"), "the old session hangs with it");
    assert_eq!(again.hear(), said("three", "anonymous"));

    ip(&format!("-n {} link set cable up", net.server)).expect("the cable is mended");
    assert_eq!(hal.hear(), said("two", "anonymous"), "a session that only hung goes on");
    assert_eq!(hal.hear(), said("three", "anonymous"));
}

/// Registers hal with the secret `sek`, which the client would choose itself, and returns a client of that name that is logged in.
fn register(namespace: &str, port: &str) -> Process {
    let script = format!(
        r#"exec 3<>/dev/tcp/10.99.0.1/{port}; echo '{{"command":"REGISTER","username":"hal","secret":"sek"}}' >&3; head -1 <&3; echo '{{"command":"LOGOUT"}}' >&3; cat <&3"#
    );
    let run = Command::new("ip")
        .args(["netns", "exec", namespace, "timeout", "60", "bash", "-c", &script])
        .output()
        .expect("bash speaks the protocol");
    let answer = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(answer.contains("REGISTER_SUCCESS"), "{answer}");
    let mut hal = Process::start(namespace, &format!("client -rh 10.99.0.1 -rp {port} -u hal -s sek"));
    hal.say("here");
    assert_eq!(hal.hear(), said("here", "hal"));
    hal
}
