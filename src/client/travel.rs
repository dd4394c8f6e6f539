//! The thread that connects, reads, and tells what it hears, until the journey is over.
//!
//! Invariant: a connection is read to its end, or for as long as the machine allows, before the next
//! one is made; so what one sender said is told in the order of saying.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::desk::Desk;
use super::journey::{News, Over, Step};
use super::lines::{LINE_BYTES_MAX, Lines};
use super::link;
use super::machine::{Closed, DRAIN};

/// Who is told.
pub(super) trait Listener {
    /// Why it wants to hear no more.
    type Stop;

    /// Takes a piece of news. While it does not return, nothing is read.
    fn hear(&mut self, news: News<'_>) -> Result<(), Self::Stop>;

    /// There may be a while until the next.
    fn pause(&mut self) -> Result<(), Self::Stop> {
        Ok(())
    }

    /// From when on nobody waits for what is still to come.
    fn enough(&self) -> Option<Duration> {
        None
    }
}

/// How the reading of one connection ended.
enum End {
    /// The server closed it.
    Eof,
    /// It broke.
    Broken(io::Error),
    /// Its last word was told.
    Told,
    /// Nobody waits for what is still to come.
    Enough,
}

/// Goes where the journey goes, until it is over; none if it was left before.
///
/// # Errors
/// That of the listener, which ends it at once.
pub(super) fn travel<L: Listener>(
    desk: &Desk,
    local_port: Option<u16>,
    listener: &mut L,
) -> Result<Option<Over>, L::Stop> {
    while !desk.left() {
        let now = desk.now();
        let step = desk.lock().journey.step(now);
        match step {
            Step::Connect { host, port } => match link::dial(&host, port, local_port) {
                Ok(socket) => {
                    let socket = Arc::new(socket);
                    if desk.open(&socket) {
                        let end = visit(desk, &socket, listener, News::Connected { host, port })?;
                        if end == Closed::LoggedOut && listener.enough().is_some() {
                            return Ok(Some(Over::LoggedOut));
                        }
                    }
                }
                Err(why) => {
                    desk.lock().journey.failed(desk.now(), why.clone());
                    listener.hear(News::Lost { why })?;
                }
            },
            Step::Wait { until, host, port } => {
                listener.hear(News::Waiting { pause: until.saturating_sub(now), host, port })?;
                listener.pause()?;
                desk.wait(until);
            }
            Step::Over(over) => return Ok(Some(over)),
            Step::Talk | Step::Close => unreachable!("a visit ends with its connection"),
        }
    }
    Ok(None)
}

/// Lives through one connection.
fn visit<L: Listener>(
    desk: &Desk,
    socket: &TcpStream,
    listener: &mut L,
    first: News<'_>,
) -> Result<Closed, L::Stop> {
    let end = thread::scope(|scope| {
        scope.spawn(|| desk.write_link(socket));
        let end = listener.hear(first).and_then(|()| read_link(desk, socket, listener));
        if let Ok(End::Eof | End::Broken(_)) = end {
            let until = desk.lock().journey.timeout().unwrap_or_else(|| desk.now() + DRAIN);
            desk.settle(until.saturating_sub(desk.now()));
        }
        desk.close();
        end
    })?;
    let (why, broken) = match &end {
        End::Broken(error) => (format!("the connection broke ({error})"), true),
        _ => ("the server closed the connection".to_owned(), false),
    };
    let closed = desk.lock().journey.closed(desk.now(), &why, broken);
    match (end, closed) {
        (End::Enough, _) => Ok(Closed::LoggedOut),
        (_, Closed::Lost) if listener.enough().is_some() => Ok(Closed::LoggedOut),
        (End::Told, _) => Ok(closed),
        (_, Closed::Lost) => listener.hear(News::Lost { why }).map(|()| closed),
        _ => Ok(closed),
    }
}

fn read_link<L: Listener>(desk: &Desk, mut socket: &TcpStream, listener: &mut L) -> Result<End, L::Stop> {
    let mut lines = Lines::new(LINE_BYTES_MAX);
    loop {
        let now = desk.now();
        while let Some(line) = lines.take() {
            let mut held = desk.lock();
            let news = held.journey.handle(now, line);
            let told = held.journey.step(now) == Step::Close;
            drop(held);
            // Anything but a broadcast may have given the writing thread something to do.
            if !matches!(news, News::Broadcast { .. }) {
                desk.changed();
            }
            if !matches!(news, News::Quiet) {
                listener.hear(news)?;
            }
            // What is told counts as heard.
            if let Err(error) = desk.keep() {
                log::error!("the memory takes nothing: {error}");
            }
            if told {
                return Ok(End::Told);
            }
        }
        listener.pause()?;
        let deadline = || listener.enough().or_else(|| desk.lock().journey.timeout());
        if let Some(deadline) = deadline() {
            let left = deadline.saturating_sub(desk.now());
            if left.is_zero() {
                return Ok(if listener.enough().is_some() { End::Enough } else { End::Eof });
            }
            if let Err(error) = socket.set_read_timeout(Some(left)) {
                return Ok(End::Broken(error));
            }
        }
        match lines.fill(&mut socket) {
            Ok(0) => return Ok(End::Eof),
            Ok(_) => {}
            // The next turn sees that the deadline is over.
            Err(error) if is_timeout(&error) && deadline().is_some() => {}
            Err(error) => return Ok(End::Broken(error)),
        }
    }
}

/// What an expired read timeout looks like, which differs by system.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
