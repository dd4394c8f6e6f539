//! Where clients connect and servers are dialled: addresses and socket options.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::Server;
use super::conn::Conn;
use crate::base::limits::{
    ACCEPT_RETRY, BACKLOG, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KERNEL_PEER_ASK, KERNEL_SEND_ASK,
    TURN_ACCEPTS, USER_TIMEOUT,
};
use crate::node::Input;

/// Which addresses to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// This machine only: 127.0.0.1, and ::1 where there is one.
    Loopback,
    /// Every interface, IPv6 and IPv4.
    Everywhere,
    /// This address only.
    Only(IpAddr),
}

/// Opens the listeners. With port 0 the system chooses one, the same for all of them. `shared`: others may listen
/// on the port, too.
pub fn open(bind: Bind, port: u16, shared: bool) -> io::Result<Vec<TcpListener>> {
    let listener = |address, port| listener(address, port, shared);
    let (first, second) = match bind {
        Bind::Loopback => (Ipv4Addr::LOCALHOST.into(), Some(Ipv6Addr::LOCALHOST.into())),
        Bind::Everywhere => (Ipv6Addr::UNSPECIFIED.into(), None),
        Bind::Only(address) => (address, None),
    };
    let one = match (listener(first, port), bind) {
        // A machine without IPv6 has no [::].
        (Err(e), Bind::Everywhere) if e.kind() != io::ErrorKind::AddrInUse => {
            listener(Ipv4Addr::UNSPECIFIED.into(), port)?
        }
        (result, _) => result?,
    };
    let port = one.local_addr()?.port();
    let mut all = vec![one];
    match second.map(|address| listener(address, port)) {
        Some(Ok(listener)) => all.push(listener),
        Some(Err(e)) => log::info!("not listening on [::1]:{port}: {e}"),
        None => {}
    }
    Ok(all)
}

/// Linux gives accepted sockets their listener's options, so a connection costs no call for them.
fn listener(address: IpAddr, port: u16, shared: bool) -> io::Result<TcpListener> {
    let address = SocketAddr::new(address, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_send_buffer_size(KERNEL_SEND_ASK)?;
    patience(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// What every connection has: nothing waits to be sent, and a path that is gone is noticed.
fn patience(socket: &Socket) -> io::Result<()> {
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(3);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// Begins to connect to another server.
pub fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    patience(&SockRef::from(&stream))?;
    widen(&stream);
    Ok(stream)
}

/// Gives a link between servers larger buffers than a client has: many speak through it.
pub fn widen(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let widened = socket
        .set_send_buffer_size(KERNEL_PEER_ASK)
        .and_then(|()| socket.set_recv_buffer_size(KERNEL_PEER_ASK));
    if let Err(e) = widened {
        log::debug!("a server's link keeps its buffers as they are: {e}");
    }
}

impl Server {
    /// Accepts what waits, as long as there are descriptors and this turn lasts. At the limit the rest stays
    /// in the kernel's queue until somebody leaves.
    pub(super) fn accept(&mut self) {
        if self.now < self.accept_from {
            return;
        }
        for _ in 0..TURN_ACCEPTS {
            if self.open >= self.open_max {
                return;
            }
            let Some(listener) = self.listeners.iter_mut().find(|listener| listener.knocking) else { return };
            match listener.socket.accept() {
                Ok((stream, address)) => self.welcome(stream, address.ip()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => listener.knocking = false,
                Err(e) if [ErrorKind::ConnectionAborted, ErrorKind::Interrupted].contains(&e.kind()) => {}
                Err(e) => {
                    self.node.counters_mut().accepts_failed += 1;
                    if self.peers.may_log(self.now, "accept", "") {
                        log::warn!(
                            "accepting a connection failed: {e}; it is tried again every {ACCEPT_RETRY:?}"
                        );
                    }
                    self.accept_from = self.now + ACCEPT_RETRY;
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, mut stream: TcpStream, address: IpAddr) {
        let link = self.node.connect(self.now, address);
        let token = Token(link.pack() as usize);
        if let Err(e) = self.poll.registry().register(&mut stream, token, Interest::READABLE) {
            log::warn!("link {link}: cannot be watched: {e}");
            self.node.handle(self.now, Input::Closed { link, unacknowledged: 0 });
            return;
        }
        self.put_conn(link, Conn::new(link.generation, stream));
        self.open += 1;
    }
}
