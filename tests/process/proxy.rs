//! A place between two servers: carries bytes to where it is told, and keeps what the dialler said.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Takes connections from its begin on; they go nowhere until it is told where.
pub struct Proxy {
    listener: TcpListener,
    said: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Proxy {
    pub fn new() -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        Proxy { listener, said: Arc::default() }
    }

    pub fn port(&self) -> String {
        self.listener.local_addr().expect("it is bound").port().to_string()
    }

    /// Carries every connection, also those that wait, to `target`.
    pub fn lead_to(&self, target: SocketAddr) {
        let listener = self.listener.try_clone().expect("a descriptor");
        let said = Arc::clone(&self.said);
        thread::spawn(move || {
            for dialler in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(target) else { return };
                let place = {
                    let mut all = said.lock().expect("nobody panics with it");
                    all.push(Vec::new());
                    all.len() - 1
                };
                let said = Arc::clone(&said);
                carry(dialler.try_clone(), server.try_clone(), move |bytes| {
                    said.lock().expect("nobody panics with it")[place].extend_from_slice(bytes);
                });
                carry(Ok(server), Ok(dialler), |_| {});
            }
        });
    }

    /// What the dialler of each connection has said so far.
    pub fn said(&self) -> Vec<Vec<u8>> {
        self.said.lock().expect("nobody panics with it").clone()
    }
}

fn carry(
    from: std::io::Result<TcpStream>,
    to: std::io::Result<TcpStream>,
    mut note: impl FnMut(&[u8]) + Send + 'static,
) {
    let (mut from, mut to) = (from.expect("a descriptor"), to.expect("a descriptor"));
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            note(&buffer[..n]);
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
