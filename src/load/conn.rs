//! One client: the machine that speaks for it, and the socket of the connection it has.

use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::limits::SLOW_KERNEL_BYTES;
use crate::client::Client;
use crate::server::sys::{choose_port_late, number};

/// A client of a run.
pub struct Conn {
    pub client: Client,
    /// None between two connections, before the first and after the last.
    pub socket: Option<TcpStream>,
    /// The connection stands.
    pub stands: bool,
    /// The server where it is, or goes.
    pub address: SocketAddr,
    /// Where a REDIRECT sends it.
    pub target: Option<SocketAddr>,
    /// The beginning of a line that has not ended.
    pub rest: Vec<u8>,
    /// Its number as a talker.
    pub talker: Option<u32>,
    /// Messages it said, and those of them that it heard.
    pub said: u32,
    pub echoed: u32,
    pub is_slow: bool,
    pub is_online: bool,
    /// It has logged in once.
    pub is_known: bool,
    /// Nothing more is expected of it, and why if that is wrong.
    pub is_gone: bool,
    pub refused: Option<String>,
    /// It has told the server that it says no more on this connection.
    pub is_shut: bool,
    /// The server has ended its side.
    pub is_read: bool,
    /// Connections that broke.
    pub breaks: u32,
    /// When the connection, or after a registration the login, began: ns.
    pub begun: u64,
}

impl Conn {
    pub fn new(client: Client, address: SocketAddr, talker: Option<u32>, is_slow: bool) -> Conn {
        Conn {
            client,
            socket: None,
            stands: false,
            address,
            target: None,
            rest: Vec::new(),
            talker,
            said: 0,
            echoed: 0,
            is_slow,
            is_online: false,
            is_known: false,
            is_gone: false,
            refused: None,
            is_shut: false,
            is_read: false,
            breaks: 0,
            begun: 0,
        }
    }

    /// Begins to connect; `source` is for servers on loopback.
    pub fn connect(&mut self, source: Ipv4Addr, now: u64) -> io::Result<&mut TcpStream> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if self.is_slow {
            socket.set_recv_buffer_size(SLOW_KERNEL_BYTES / 2)?;
        }
        if let SocketAddr::V4(to) = self.address
            && to.ip().is_loopback()
        {
            choose_port_late(number(&socket));
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        self.begun = now;
        self.target = None;
        (self.stands, self.is_shut, self.is_read) = (false, false, false);
        Ok(self.socket.insert(TcpStream::from_std(socket.into())))
    }

    /// The connection stands, or not, and why.
    pub fn stand(&mut self) -> io::Result<()> {
        if let Some(socket) = self.socket.as_ref().filter(|_| !self.stands) {
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            match socket.peer_addr() {
                Ok(_) => {
                    self.stands = true;
                    self.client.connected();
                }
                Err(error) if error.kind() == ErrorKind::NotConnected => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what the socket takes. An error is left to be told to who reads.
    pub fn flush(&mut self) {
        let Some(socket) = self.socket.as_mut().filter(|_| self.stands) else { return };
        loop {
            let bytes = self.client.transmit();
            if bytes.is_empty() {
                break;
            }
            match socket.write(bytes) {
                Ok(count) => self.client.sent(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        if self.client.moving() && !self.is_shut {
            self.is_shut = true;
            // The server need not wait for more. Fails only if its own end was faster.
            let _ = socket.shutdown(Shutdown::Write);
        }
    }

    /// Messages that it said and has not heard.
    pub fn in_flight(&self) -> u32 {
        self.said - self.echoed
    }
}
