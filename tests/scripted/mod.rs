//! A server that does what a test says, and a client that runs against it. Every wait ends with an
//! error after [`PATIENCE`].
#![allow(dead_code, reason = "each test uses its part")]

use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use activitystreamer::client::{Exit, Options, run};
use serde_json::{Value, json};
use socket2::{Domain, SockRef, Socket, Type};

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const LOGGED_IN: &str = r#"{"command":"LOGIN_SUCCESS","info":"logged in"}"#;

/// A server that does what the test says.
pub struct Server(TcpListener);

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        // On a listener this bounds the wait in accept.
        SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).expect("a listener");
        Server(listener)
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().expect("bound").port()
    }

    pub fn options(&self) -> Options {
        Options { host: "localhost".to_owned(), port: self.port(), ..Options::default() }
    }

    pub fn bob(&self) -> Options {
        Options { name: Some("bob".to_owned()), secret: Some("sek".to_owned()), ..self.options() }
    }

    pub fn accept(&self) -> Peer {
        let (socket, _) = self.0.accept().expect("a client connects");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        socket.set_write_timeout(Some(PATIENCE)).expect("a socket");
        socket.set_nodelay(true).expect("a socket");
        Peer(BufReader::new(socket))
    }

    /// Accepts a client and takes its LOGIN.
    pub fn accept_login(&self) -> Peer {
        let mut peer = self.accept();
        assert_eq!(peer.hear()["command"], "LOGIN");
        peer.tell(LOGGED_IN);
        peer
    }
}

/// A port on which nobody listens, reserved as long as its socket.
pub fn unused_port() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("bound").as_socket().expect("an IP address");
    (socket, address.port())
}

/// The server's end of a connection.
pub struct Peer(BufReader<TcpStream>);

impl Peer {
    pub fn tell_bytes(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("the client reads");
    }

    pub fn tell(&mut self, line: &str) {
        self.tell_bytes(format!("{line}\n").as_bytes());
    }

    pub fn broadcast(&mut self, activity: &Value) {
        self.tell(&json!({ "command": "ACTIVITY_BROADCAST", "activity": activity }).to_string());
    }

    pub fn redirect(&mut self, to: &Server) {
        self.tell(&json!({ "command": "REDIRECT", "hostname": "127.0.0.1", "port": to.port() }).to_string());
    }

    pub fn hear_line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the client writes");
        line
    }

    pub fn hear(&mut self) -> Value {
        let line = self.hear_line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    pub fn hear_activity(&mut self) -> Value {
        let mut message = self.hear();
        assert_eq!(message["command"], "ACTIVITY_MESSAGE");
        message["activity"].take()
    }

    pub fn hear_eof(&mut self) {
        assert_eq!(self.hear_line(), "");
    }

    /// Takes the LOGOUT and closes as a server does.
    pub fn log_out(mut self) {
        assert_eq!(self.hear()["command"], "LOGOUT");
        self.half_close();
        self.hear_eof();
    }

    pub fn client_port(&self) -> u16 {
        self.0.get_ref().peer_addr().expect("connected").port()
    }

    pub fn half_close(&mut self) {
        self.0.get_ref().shutdown(Shutdown::Write).expect("still connected");
    }

    /// Closes with a reset.
    pub fn break_off(self) {
        SockRef::from(self.0.get_ref()).set_linger(Some(Duration::ZERO)).expect("a socket");
    }
}

/// A running client.
pub struct Run(Receiver<(Exit, Vec<u8>)>);

impl Run {
    pub fn start(options: Options, input: impl Read + Send + 'static) -> Run {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut output = Vec::new();
            let exit = run(&options, input, &mut output);
            sender.send((exit, output))
        });
        Run(receiver)
    }

    pub fn end(self) -> (Exit, String) {
        let (exit, output) = self.0.recv_timeout(PATIENCE).expect("the client ends");
        (exit, String::from_utf8(output).expect("UTF-8"))
    }
}

/// A pipe, for an input that stays open as long as its writer.
pub fn open_pipe() -> (PipeReader, PipeWriter) {
    io::pipe().expect("a pipe")
}
