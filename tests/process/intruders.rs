//! Who has no secret and speaks to a server like a server.

use serde_json::json;

use crate::hostile::Bystanders;
use crate::proxy::Proxy;
use crate::stage::Server;

#[test]
fn a_client_that_speaks_like_a_server_is_refused_and_changes_nothing() {
    let server = Server::start(&["-s", "sek"]);
    let mut bystanders = Bystanders::of(&server);
    for line in [
        r#"{"command":"SERVER_ANNOUNCE","id":"x","load":0,"hostname":"evil","port":1}"#,
        r#"{"command":"ACTIVITY_BROADCAST","activity":{"n":99,"authenticated_user":"ann"}}"#,
        r#"{"command":"AUTHENTICATE","secret":"sek"}"#,
        r#"{"command":"NEW_REGISTER_ANNOUNCEMENT","username":"eve","secret":"x"}"#,
        r#"{"command":"SERVER_AUTH_KEY_ANNOUNCEMENT","body":[]}"#,
        r#"{"command":"SESSION_CLAIM","body":{}}"#,
    ] {
        for first in [None, Some("anonymous")] {
            let mut eve = server.connect();
            if let Some(name) = first {
                eve.login(name);
            }
            eve.tell(line);
            eve.hear_command("INVALID_MESSAGE");
            eve.hear_end();
            bystanders.talk();
        }
    }
    // A session cannot become a server's link.
    let mut eve = server.login("anonymous");
    eve.tell(&hello(1));
    eve.hear_command("INVALID_MESSAGE");
    eve.hear_end();
    bystanders.talk();
}

#[test]
fn what_follows_a_servers_first_line_must_prove_it() {
    let server = Server::start(&["-s", "sek"]);
    let mut bystanders = Bystanders::of(&server);
    let broadcast = br#"{"command":"ACTIVITY_BROADCAST","activity":{"n":99,"authenticated_user":"ann"}}"#;
    let message = [&[0, 48][..], &[9; 48]].concat();
    for bytes in [&broadcast[..], &[255; 4000], &[0; 4000], &message, &message[..20]] {
        let mut eve = server.connect();
        // In one piece, so that some of it is read with the line.
        eve.tell_bytes(&[hello(1).as_bytes(), b"\n", bytes].concat());
        if bytes.len() == 20 {
            eve.half_close();
        }
        assert_eq!(eve.hear_any_end(), b"");
        bystanders.talk();
    }
    let mut eve = server.connect();
    eve.tell(&hello(1).replace("00", "zz"));
    assert_eq!(eve.hear_any_end(), b"");
    let mut eve = server.connect();
    eve.tell(&hello(2));
    eve.hear_command("INVALID_MESSAGE");
    eve.hear_end();
    bystanders.talk();
    // Those who begin a proof and never end it push out each other, and nobody else.
    let eves: Vec<_> = (0..300)
        .map(|_| {
            let mut eve = server.connect();
            eve.tell(&hello(1));
            eve
        })
        .collect();
    bystanders.talk();
    let other = Server::start(&["-s", "sek", "-rh", "localhost", "-rp", &server.port.to_string()]);
    other.joined_by(1);
    let mut at_other = other.login("anonymous");
    at_other.say(json!({ "n": 0 }));
    at_other.hear_numbers([0]);
    drop(eves);
}

#[test]
fn a_recorded_link_that_is_played_again_opens_nothing() {
    let a = Server::start(&["-s", "sek"]);
    let proxy = Proxy::new();
    let b = Server::start(&["-s", "sek", "-rh", "127.0.0.1", "-rp", &proxy.port()]);
    proxy.lead_to(a.address());
    [&a, &b].iter().for_each(|server| server.joined_by(1));
    let (mut ann, mut bob) = (a.register("ann"), b.register("bob"));
    bob.say(json!({ "n": 1 }));
    ann.hear_numbers([1]);
    bob.hear_numbers([1]);
    let mut said = proxy.said();
    said.retain(|said| said.len() > 1000);
    assert!(!said.is_empty(), "the link went through here");
    for recorded in &said {
        for server in [&a, &b] {
            let mut eve = server.connect();
            // Once the server has closed it may refuse the rest.
            let _ = std::io::Write::write_all(&mut eve.socket(), recorded);
            let heard = eve.hear_any_end();
            assert!(heard.len() <= 98, "no more than the answer to the first message: {heard:?}");
            server.process.errors.line_with("is not let in");
        }
    }
    ann.say(json!({ "n": 2 }));
    bob.hear_numbers([2]);
    ann.hear_numbers([2]);
}

/// The first line of a server with some id.
fn hello(version: u32) -> String {
    let id = "00".repeat(16);
    format!(r#"{{"command":"SERVER_HELLO","version":{version},"id":"{id}"}}"#)
}
