//! A server that keeps its promises, but for one.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::{Value, json};

/// What goes wrong, once, with one client that did not say it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    /// A broadcast does not come.
    Drops,
    /// A broadcast comes twice.
    Repeats,
    /// Two broadcasts come in the wrong order.
    Swaps,
    /// The connection is cut.
    Cuts,
    /// Nothing, but all lines are spelled in another way.
    Respells,
}

/// The message with which it happens.
const WHEN: usize = 10;

pub struct Fake {
    pub address: SocketAddr,
    crowd: Arc<Mutex<Crowd>>,
}

struct Crowd {
    fault: Fault,
    clients: Vec<TcpStream>,
    sources: Vec<SocketAddr>,
    said: usize,
    /// Not sent yet: the first of two that are swapped.
    held: Option<String>,
}

impl Fake {
    pub fn start(fault: Fault) -> Fake {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (clients, sources) = (Vec::new(), Vec::new());
        let crowd = Arc::new(Mutex::new(Crowd { fault, clients, sources, said: 0, held: None }));
        let fake = Fake { address, crowd: crowd.clone() };
        thread::spawn(move || {
            while let Ok((socket, source)) = listener.accept() {
                let crowd = crowd.clone();
                thread::spawn(move || serve(&socket, source, &crowd));
            }
        });
        fake
    }

    /// Where its clients came from.
    pub fn sources(&self) -> Vec<SocketAddr> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner).sources.clone()
    }
}

fn serve(socket: &TcpStream, source: SocketAddr, crowd: &Mutex<Crowd>) {
    let mut me = None;
    for line in BufReader::new(socket).lines().map_while(Result::ok) {
        let message: Value = serde_json::from_str(&line).expect("a client sends JSON");
        let mut crowd = crowd.lock().unwrap_or_else(PoisonError::into_inner);
        match message["command"].as_str() {
            Some("LOGIN") => {
                me = Some(crowd.clients.len());
                let answer = json!({ "command": "LOGIN_SUCCESS", "info": "logged in" });
                writeln!(&mut &*socket, "{answer}").expect("the client is there");
                crowd.clients.push(socket.try_clone().expect("a descriptor"));
                crowd.sources.push(source);
            }
            Some("ACTIVITY_MESSAGE") => crowd.broadcast(&line, me.expect("it has logged in")),
            _ => break,
        }
    }
    let _ = socket.shutdown(Shutdown::Both);
}

impl Crowd {
    fn broadcast(&mut self, line: &str, speaker: usize) {
        let at = line.find(r#""activity":"#).expect("it says something") + r#""activity":"#.len();
        let inside = &line[at + 1..line.len() - 2];
        let line = match self.fault {
            Fault::Respells => format!(
                r#"{{ "activity": {{"authenticated_user":"anonymous",{inside}}}, "command": "ACTIVITY_BROADCAST" }}"#
            ),
            _ => format!(
                r#"{{"command":"ACTIVITY_BROADCAST","activity":{{{inside},"authenticated_user":"anonymous"}}}}"#
            ),
        } + "\n";
        let victim = usize::from(speaker == 0);
        self.said += 1;
        let mut held = self.held.take();
        for (i, mut client) in self.clients.iter().enumerate() {
            let mut text = line.clone();
            if i == victim {
                match self.fault {
                    Fault::Drops if self.said == WHEN => text.clear(),
                    Fault::Repeats if self.said == WHEN => text += &line,
                    Fault::Swaps if self.said == WHEN => self.held = Some(std::mem::take(&mut text)),
                    Fault::Cuts if self.said == WHEN => drop(client.shutdown(Shutdown::Both)),
                    _ => text += &held.take().unwrap_or_default(),
                }
            }
            // One that was cut, or has left, takes nothing more.
            let _ = client.write_all(text.as_bytes());
        }
    }
}
