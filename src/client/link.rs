//! One TCP connection to a server.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// How long one address of a host may take to answer before the next one is tried.
const CONNECT: Duration = Duration::from_secs(10);
/// Silence after which the kernel asks whether the server is still there, time between such questions,
/// and how many stay unanswered before the connection is broken: a listener sends nothing by itself
/// and would never notice.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);

/// Connects to the first address of `host` that answers.
///
/// # Errors
/// A sentence that names each address with its error.
pub(super) fn dial(host: &str, port: u16, local_port: Option<u16>) -> Result<TcpStream, String> {
    let addresses =
        (host, port).to_socket_addrs().map_err(|error| format!("cannot find the host {host}: {error}"))?;
    let mut failed = Vec::new();
    for address in addresses {
        match open(address, local_port) {
            Ok(socket) => {
                log::info!("connected to {address}");
                return Ok(socket);
            }
            Err(error) => failed.push(format!("{address}: {error}")),
        }
    }
    Err(format!("cannot connect to {host} port {port}: {}", failed.join("; ")))
}

fn open(address: SocketAddr, local_port: Option<u16>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(port) = local_port {
        // The port may still be in the books of an earlier connection, to a server that sent us on.
        socket.set_reuse_address(true)?;
        let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        socket.bind(&SocketAddr::new(any, port).into()).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot use the local port {port} (-lp): {error}"))
        })?;
    }
    socket.connect_timeout(&address.into(), CONNECT)?;
    let socket = TcpStream::from(socket);
    socket.set_nodelay(true)?;
    let (idle, interval, retries) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(retries);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    Ok(socket)
}
