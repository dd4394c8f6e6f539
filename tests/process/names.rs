//! Names on several servers: each is registered once, and known wherever its user logs in.

use crate::stage::{Server, Talker, pair};

fn mesh() -> [Server; 3] {
    let a = Server::start(&["-s", "sek"]);
    let port = a.port.to_string();
    let others = [(); 2].map(|()| Server::start(&["-s", "sek", "-rh", "localhost", "-rp", &port]));
    let [b, c] = others;
    let servers = [a, b, c];
    servers.iter().for_each(|server| server.joined_by(2));
    servers
}

#[test]
fn a_name_is_one_users_on_all_servers_and_outlives_the_one_it_came_to() {
    let [a, b, c] = mesh();
    for round in 0..10 {
        let name = format!("user{round}");
        let mut all: Vec<Talker> = [&a, &b, &c].iter().map(|server| server.connect()).collect();
        for talker in &mut all {
            talker.tell(&format!(r#"{{"command":"REGISTER",{}}}"#, pair(&name)));
        }
        let heard: Vec<String> = all
            .iter_mut()
            .map(|talker| talker.hear()["command"].as_str().expect("a command").to_owned())
            .collect();
        assert_eq!(heard.iter().filter(|command| *command == "REGISTER_SUCCESS").count(), 1, "{heard:?}");
        assert_eq!(heard.iter().filter(|command| *command == "REGISTER_FAILED").count(), 2, "{heard:?}");
        for server in [&a, &b, &c] {
            server.login(&name);
        }
    }
    a.register("bob");
    let Server { mut process, .. } = a;
    process.signal("KILL");
    process.end();
    b.login("bob");
    c.login("bob");
    let mut late = b.connect();
    late.tell(&format!(r#"{{"command":"REGISTER",{}}}"#, pair("bob")));
    assert_eq!(late.hear_command("REGISTER_FAILED"), "bob is already registered with the system");
}
