//! Tells the service manager how far the server is, where one asked for it (systemd's `Type=notify`).

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends `state` to the socket that `NOTIFY_SOCKET` names, if it is set. That nobody takes it stops nothing.
pub fn tell(state: &str) {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(e) = send(name.as_bytes(), state.as_bytes()) {
        log::warn!("the service manager cannot be told {state:?}: {e}");
    }
}

/// The name is a path, or an abstract one that begins with an at sign.
fn send(name: &[u8], state: &[u8]) -> io::Result<()> {
    let address = match name.strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state, &address).map(drop)
}
