//! Lines as real sockets bring them to a server: in one go, and longer than one read.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use activitystreamer::base::limits::Limits;
use activitystreamer::server::{Options, Server};

const PATIENCE: Duration = Duration::from_secs(20);

fn server() -> SocketAddr {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let limits = Limits { hash_kib: 8, hash_passes: 1, ..Limits::default() };
        let server = Server::new(&Options { limits, ..Options::default() }).expect("a port on loopback");
        tell.send(server.addresses().next().expect("an address")).expect("the test waits");
        server.run().expect("the loop runs");
    });
    told.recv_timeout(PATIENCE).expect("the server starts")
}

#[test]
fn a_line_behind_a_login_may_be_as_long_as_a_sessions() {
    let address = server();
    let long = "x".repeat(200_000);
    let pair = r#""username":"bob","secret":"sek""#;
    let said = format!("{{\"command\":\"ACTIVITY_MESSAGE\",{pair},\"activity\":{{\"long\":\"{long}\"}}}}\n");
    let mut open = Vec::new();
    // A registration waits for a hash, the logins after it for the sessions before them.
    for command in ["REGISTER", "LOGIN", "LOGIN"] {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        stream
            .write_all(format!("{{\"command\":\"{command}\",{pair}}}\n{said}").as_bytes())
            .expect("it takes two lines");
        let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
        let mut hear = || lines.next().expect("another line").expect("text");
        assert!(hear().contains(&format!("{command}_SUCCESS")));
        let mut heard = hear();
        while heard.contains("LOGIN_SUCCESS") {
            heard = hear();
        }
        assert!(heard.contains(&long), "{command}: {heard:.200}");
        open.push(stream);
    }
}
