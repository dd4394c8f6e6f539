//! The floor: an event loop that reads lines and writes what they say to all, in one buffer a turn. It checks
//! nothing, keeps nothing and knows nobody's name; no server of this protocol can be faster on this machine. A
//! second one is a client of the first, and writes to its own clients what it hears there.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use memchr::{memchr, memmem};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use socket2::{Domain, Socket, Type};

const LISTENER: Token = Token(usize::MAX);
/// The first connection of a second one: to the first.
const UPSTREAM: usize = 0;

const LOGIN: &[u8] = b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n";

struct Conn {
    socket: TcpStream,
    /// The beginning of a line.
    line: Vec<u8>,
    /// What the kernel did not take yet, and whether it says when it takes more.
    left: Vec<u8>,
    waits: bool,
}

/// Serves until the process is killed; prints where. It is a second one if it is told the port of the first.
pub fn run(beside: Option<u16>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_tcp_nodelay(true).expect("a TCP socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    socket.listen(4096).expect("it is bound");
    socket.set_nonblocking(true).expect("a socket");
    let mut listener = TcpListener::from_std(socket.into());
    println!("listening on {}", listener.local_addr().expect("it is bound"));
    let mut poll = Poll::new().expect("an epoll instance");
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("it can be watched");
    let (mut all, mut events) = (Slab::<Conn>::new(), Events::with_capacity(1024));
    let (mut buffer, mut said) = (vec![0; 64 << 10], Vec::new());
    if let Some(port) = beside {
        let mut upstream =
            std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the first is there");
        upstream.write_all(LOGIN).expect("it takes a line");
        upstream.set_nonblocking(true).expect("a socket");
        let mut socket = TcpStream::from_std(upstream);
        poll.registry()
            .register(&mut socket, Token(UPSTREAM), Interest::READABLE)
            .expect("it can be watched");
        assert_eq!(all.insert(Conn { socket, line: Vec::new(), left: Vec::new(), waits: false }), UPSTREAM);
    }
    loop {
        poll.poll(&mut events, None).expect("the loop goes on");
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut socket, _)) = listener.accept() {
                    let entry = all.vacant_entry();
                    poll.registry()
                        .register(&mut socket, Token(entry.key()), Interest::READABLE)
                        .expect("it can be watched");
                    entry.insert(Conn { socket, line: Vec::new(), left: Vec::new(), waits: false });
                }
                continue;
            }
            let key = event.token().0;
            let hear = if beside.is_some() && key == UPSTREAM { pass_on } else { hear };
            if all.get_mut(key).is_some_and(|conn| !is_served(conn, &mut buffer, &mut said, hear)) {
                all.remove(key);
            }
        }
        if !said.is_empty() {
            let clients = |key: usize| beside.is_none() || key != UPSTREAM;
            for (key, conn) in all.iter_mut().filter(|(key, _)| clients(*key)) {
                write(conn, &said);
                if !conn.left.is_empty() && !std::mem::replace(&mut conn.waits, true) {
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry()
                        .reregister(&mut conn.socket, Token(key), interest)
                        .expect("it can be watched");
                }
            }
            said.clear();
        }
    }
}

/// Reads what is there; false at the end of the connection.
fn is_served(
    conn: &mut Conn,
    buffer: &mut [u8],
    said: &mut Vec<u8>,
    hear: fn(&mut Conn, &[u8], &mut Vec<u8>),
) -> bool {
    if !conn.left.is_empty() {
        let left = std::mem::take(&mut conn.left);
        write(conn, &left);
    }
    loop {
        let mut bytes = match conn.socket.read(buffer) {
            Ok(0) => return false,
            Ok(n) => &buffer[..n],
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        while let Some(end) = memchr(b'\n', bytes) {
            let line = std::mem::take(&mut conn.line);
            if line.is_empty() {
                hear(conn, &bytes[..end], said);
            } else {
                hear(conn, &[&line, &bytes[..end]].concat(), said);
            }
            bytes = &bytes[end + 1..];
        }
        conn.line.extend_from_slice(bytes);
    }
}

/// What the first one said to all.
fn pass_on(_: &mut Conn, line: &[u8], said: &mut Vec<u8>) {
    if memmem::find(line, b"ACTIVITY_BROADCAST").is_some() {
        said.extend_from_slice(line);
        said.push(b'\n');
    }
}

fn hear(conn: &mut Conn, line: &[u8], said: &mut Vec<u8>) {
    const ACTIVITY: &[u8] = b"\"activity\":";
    match memmem::find(line, ACTIVITY) {
        Some(at) => {
            said.extend_from_slice(b"{\"command\":\"ACTIVITY_BROADCAST\",\"activity\":");
            said.extend_from_slice(
                line[at + ACTIVITY.len()..].trim_ascii_end().strip_suffix(b"}}").unwrap_or(b"{"),
            );
            said.extend_from_slice(b",\"authenticated_user\":\"anonymous\"}}\n");
        }
        None if memmem::find(line, b"LOGIN").is_some() => {
            write(conn, b"{\"command\":\"LOGIN_SUCCESS\",\"info\":\"logged in as user anonymous\"}\n");
        }
        None => {
            let _ = conn.socket.shutdown(std::net::Shutdown::Write);
        }
    }
}

fn write(conn: &mut Conn, mut bytes: &[u8]) {
    while !bytes.is_empty() && conn.left.is_empty() {
        match conn.socket.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return,
        }
    }
    conn.left.extend_from_slice(bytes);
}
