//! The `client` subcommand against the server.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::kept::{Folder, Place};
use crate::stage::{BINARY, Process, Server};

fn client(server: &Server, flags: &[&str]) -> Process {
    let port = server.port.to_string();
    let mut command = Command::new(BINARY);
    command.args(["client", "-rh", "127.0.0.1", "-rp", &port]).args(flags);
    // No secret is kept for the next test.
    command.env("XDG_CONFIG_HOME", "/dev/null");
    Process::start(command.env("RUST_LOG", "trace").stdin(Stdio::piped()))
}

fn say(client: &mut Process, line: &str) {
    let input = client.input().as_mut().expect("it is piped");
    writeln!(input, "{line}").expect("the client reads its input");
}

/// The client's input ends: it logs out and is done.
fn finish(mut client: Process) -> String {
    drop(client.input().take());
    let rest = client.output.rest();
    client.end_with(0);
    rest
}

fn hear(client: &Process) -> Value {
    let line = client.output.line();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn two_clients_on_pipes_hear_each_other_word_for_word() {
    let server = Server::start(&[]);
    let mut ann = client(&server, &["-u", "ann"]);
    say(&mut ann, "I am in");
    assert_eq!(hear(&ann), json!({ "message": "I am in", "authenticated_user": "ann" }));
    let mut bob = client(&server, &["-u", "bob"]);
    say(&mut bob, "so am I");
    for client in [&bob, &ann] {
        assert_eq!(hear(client), json!({ "message": "so am I", "authenticated_user": "bob" }));
    }
    let object =
        r#"{"type":"Note","n":1.50,"to":["a", "b"],"é":"\u00e9","deep":{"authenticated_user":"eve"}}"#;
    say(&mut ann, object);
    say(&mut ann, "plain \"text\" é");
    say(&mut ann, "[1,2]");
    for client in [&ann, &bob] {
        let mut wanted: Value = serde_json::from_str(object).expect("it is JSON");
        wanted["authenticated_user"] = json!("ann");
        assert_eq!(hear(client), wanted);
        assert_eq!(hear(client), json!({ "message": "plain \"text\" é", "authenticated_user": "ann" }));
        assert_eq!(hear(client), json!({ "message": "[1,2]", "authenticated_user": "ann" }));
    }
    assert_eq!(finish(ann), "");
    say(&mut bob, "alone");
    assert_eq!(finish(bob), "{\"message\":\"alone\",\"authenticated_user\":\"bob\"}\n");
}

#[test]
fn a_name_alone_registers_and_its_secret_is_told_once_and_logs_in() {
    let server = Server::start(&[]);
    let mut ann = client(&server, &["-u", "ann"]);
    say(&mut ann, "hi");
    assert_eq!(hear(&ann)["authenticated_user"], "ann");
    drop(ann.input().take());
    let errors = ann.errors.rest();
    ann.end_with(0);
    let secret = errors.split(" -s ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let secret = secret.unwrap_or_else(|| panic!("the secret is told, not {errors}"));
    assert_eq!(secret.len(), 26, "{errors}");
    let told = errors.lines().filter(|line| line.contains(secret)).count();
    assert_eq!(told, 1, "in one line, and in no log:\n{errors}");

    let mut ann = client(&server, &["-u", "ann", "-s", secret]);
    say(&mut ann, "again");
    assert_eq!(hear(&ann), json!({ "message": "again", "authenticated_user": "ann" }));
    drop(ann.input().take());
    let errors = ann.errors.rest();
    assert!(!errors.contains(secret), "a secret that was given is not told:\n{errors}");
    ann.end_with(0);
}

#[test]
fn a_secret_made_here_is_remembered_for_its_host_and_name() {
    let folder = Folder::new("client-secret");
    let server = Server::start(&[]);
    let run = |name: &str| {
        let mut command = Command::new(BINARY);
        command.args(["client", "-rp", &server.port.to_string(), "-u", name]).stdin(Stdio::null());
        let mut client = Process::start(command.env("XDG_CONFIG_HOME", folder.here()));
        let errors = client.errors.rest();
        (client.end().code(), errors)
    };
    let (code, errors) = run("ann");
    let file = folder.here().join("activitystreamer/secrets");
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains(&format!("{} has it", file.display())), "{errors}");
    let (code, errors) = run("ann");
    assert_eq!(code, Some(0), "{errors}");
    assert!(!errors.contains("registered"), "{errors}");
    let text = std::fs::read_to_string(&file).expect("it is there");
    std::fs::write(&file, text.replace("\"secret\":\"", "\"secret\":\"X")).expect("a file");
    let (code, errors) = run("ann");
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("take its line out there"), "{errors}");
}

#[test]
fn refusals_and_a_missing_server_have_their_exit_codes() {
    let mut server = Server::start(&[]);
    let _ann = server.register("ann");
    let mut wrong = client(&server, &["-u", "ann", "-s", "wrong"]);
    assert!(wrong.errors.rest().contains("wrong username or secret"));
    wrong.end_with(3);
    let mut taken = client(&server, &["-u", "ann"]);
    assert!(taken.errors.rest().contains("already registered"));
    taken.end_with(3);
    let mut nobody = client(&server, &["-s", "sek"]);
    assert!(nobody.errors.rest().contains("--username"));
    nobody.end_with(2);
    server.process.signal("TERM");
    drop(_ann);
    server.process.end_with(0);
    let mut lost = client(&server, &[]);
    assert!(lost.errors.rest().contains("cannot connect"));
    lost.end_with(1);
}

#[test]
fn a_client_with_a_memory_goes_on_over_its_own_death_and_its_servers() {
    let folder = Folder::new("memory");
    let secret = ["-s", "sek"];
    let first = Place::new(folder.path("first"));
    let one = first.start(&secret);
    let two = Server::start(&[&secret[..], &["-rh", "localhost", "-rp", &first.port.to_string()]].concat());
    two.joined_by(1);
    let mut ear = two.login("anonymous");
    let (memory, also) = (folder.path("bob"), format!("127.0.0.1:{}", two.port));
    let flags = ["-u", "bob", "-s", "hush", "--memory", &memory, "--also", &also];
    let said = |client: &mut Process, numbers: std::ops::Range<u64>| {
        numbers.clone().for_each(|n| say(client, &json!({ "n": n }).to_string()));
        let mut heard = hear(client)["n"].as_u64().expect("a number");
        if numbers.start > 0 && heard == numbers.start - 1 {
            // It was killed when it had just printed this, and had not written that down.
            heard = hear(client)["n"].as_u64().expect("a number");
        }
        assert_eq!(heard, numbers.start);
        for n in numbers.skip(1) {
            assert_eq!(hear(client), json!({ "n": n, "authenticated_user": "bob" }));
        }
    };
    let mut registrar = one.connect();
    registrar.tell(r#"{"command":"REGISTER","username":"bob","secret":"hush"}"#);
    registrar.hear_command("REGISTER_SUCCESS");
    registrar.half_close();

    let mut bob = client(&one, &flags);
    said(&mut bob, 0..50);
    bob.kill();
    bob.end();
    // What was said goes on being said once, and what was heard is not printed again.
    let mut bob = client(&one, &flags);
    said(&mut bob, 50..100);
    // Whoever else has the file is refused.
    let mut other = client(&one, &flags);
    let errors = other.errors.rest();
    assert!(errors.contains("another client uses the memory"), "{errors}");
    other.end_with(4);
    one.crash();
    bob.errors.line_with("trying again");
    said(&mut bob, 100..150);
    assert_eq!(finish(bob), "");
    ear.hear_numbers(0..150);
}
