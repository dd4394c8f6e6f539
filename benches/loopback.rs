//! Deliveries through real sockets: the server beside its floor, a thread that writes the same bytes to as
//! many sockets and does nothing else. Only their ratio in one run means anything.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use activitystreamer::server::{Options, Server};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const LOGIN: &[u8] = b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n";

/// Starts the server in a thread that ends with the process.
fn server() -> SocketAddr {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let options = Options::default();
        let server = Server::new(&options).expect("a free port");
        tell.send(server.addresses().next().expect("it listens")).expect("the bench waits");
        server.run()
    });
    told.recv().expect("the server has started")
}

/// Starts the floor for so many clients: whatever the first of them says, `frame` goes to all, once a line.
fn floor(clients: usize, frame: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let mut all: Vec<TcpStream> = listener.incoming().take(clients).map(Result::unwrap).collect();
        all.iter().for_each(|stream| stream.set_nodelay(true).unwrap());
        let mut buffer = vec![0; 64 << 10];
        let mut out = Vec::new();
        loop {
            let n = all[0].read(&mut buffer).unwrap_or(0);
            if n == 0 {
                return;
            }
            let lines = buffer[..n].iter().filter(|b| **b == b'\n').count();
            out.clear();
            (0..lines).for_each(|_| out.extend_from_slice(&frame));
            all.iter_mut().for_each(|stream| stream.write_all(&out).unwrap());
        }
    });
    address
}

fn connect(address: SocketAddr, clients: usize) -> Vec<TcpStream> {
    let client = |_| {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        stream
    };
    (0..clients).map(client).collect()
}

/// Says `lines` and waits until everybody has `bytes`.
fn round(clients: &mut [TcpStream], lines: &[u8], bytes: usize, buffer: &mut [u8]) {
    clients[0].write_all(lines).expect("the connection holds");
    clients.iter_mut().for_each(|client| client.read_exact(&mut buffer[..bytes]).expect("it holds"));
}

fn loopback(c: &mut Criterion) {
    let line = common::activity_message(176) + "\n";
    let server = server();
    let mut buffer = vec![0; 64 << 10];
    let mut group = c.benchmark_group("loopback");
    for n in [100, 1_000] {
        let mut ours = connect(server, n);
        for client in &mut ours {
            client.write_all(LOGIN).expect("the connection holds");
            let mut answer = String::new();
            BufReader::with_capacity(64, &*client).read_line(&mut answer).expect("an answer");
            assert!(answer.contains("LOGIN_SUCCESS"), "{answer}");
        }
        // The first message tells how long a broadcast is.
        ours[0].write_all(line.as_bytes()).expect("the connection holds");
        let mut frame = Vec::new();
        BufReader::new(&ours[0]).read_until(b'\n', &mut frame).expect("a broadcast");
        let bytes = frame.len();
        ours[1..].iter_mut().for_each(|client| client.read_exact(&mut buffer[..bytes]).expect("it holds"));
        let mut bare = connect(floor(n, frame), n);
        for messages in [1, 64] {
            let lines = line.repeat(messages);
            let bytes = bytes * messages;
            group.throughput(Throughput::Elements((n * messages) as u64));
            for (name, clients) in [("server", &mut ours), ("bare_writes", &mut bare)] {
                let id = BenchmarkId::new(format!("{name}/{messages}_in_flight"), n);
                group.bench_function(id, |b| {
                    b.iter(|| round(clients, lines.as_bytes(), bytes, &mut buffer));
                });
            }
        }
    }
}

criterion_group! { name = benches; config = common::criterion(); targets = loopback }
criterion_main!(benches);
