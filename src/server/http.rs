//! The status pages' own small server, on the same loop: one request a connection, without a body.
//!
//! It cannot harm the talk: [`HTTP_CONNECTIONS`] at once of which the oldest gives way, [`HTTP_HEAD_BYTES`]
//! each, [`HTTP_TIME`] to ask and as long to take the answer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use httparse::{EMPTY_HEADER, Error, Request, Status};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};

use super::{HTTP, LISTENER, Server};
use crate::base::limits::{ACCEPT_RETRY, HTTP_CONNECTIONS, HTTP_FIELDS, HTTP_HEAD_BYTES, HTTP_TIME};
use crate::base::time::Time;

/// A page: what it says, and as what.
pub(super) struct Page {
    pub code: &'static str,
    pub kind: &'static str,
    pub body: String,
}

impl Page {
    pub fn text(code: &'static str, body: impl Into<String>) -> Page {
        Page { code, kind: "text/plain; charset=utf-8", body: body.into() + "\n" }
    }

    /// The page as it goes over the wire.
    fn answer(&self, with_body: bool) -> Vec<u8> {
        let Page { code, kind, body } = self;
        let allow = if code.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let length = body.len();
        let body = if with_body { body } else { "" };
        format!(
            "HTTP/1.1 {code}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// What the bytes that came so far ask for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// The head is not complete.
    Partly,
    Page {
        path: String,
        with_body: bool,
    },
    /// Nothing that is answered: what to say.
    Bad(&'static str, &'static str),
}

fn asked(head: &[u8]) -> Asked {
    let mut fields = [EMPTY_HEADER; HTTP_FIELDS];
    let mut request = Request::new(&mut fields);
    match request.parse(head) {
        Ok(Status::Partial) if head.len() < HTTP_HEAD_BYTES => Asked::Partly,
        Ok(Status::Partial) => Asked::Bad(TOO_LARGE, "the head of a request has 8 KiB at most"),
        Ok(Status::Complete(length)) => {
            let is_get = request.method == Some("GET");
            if !is_get && request.method != Some("HEAD") {
                return Asked::Bad("405 Method Not Allowed", "only GET and HEAD are answered here");
            }
            if length < head.len() {
                return Asked::Bad(
                    BAD,
                    "one request a connection, and nothing behind its head: no body, no pipelining",
                );
            }
            let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
            Asked::Page { path: path.to_owned(), with_body: is_get }
        }
        Err(Error::TooManyHeaders) => Asked::Bad(TOO_LARGE, "a request has 64 header fields at most"),
        Err(_) => Asked::Bad(BAD, "this is no HTTP/1 request; the status pages are HTTP"),
    }
}

const BAD: &str = "400 Bad Request";
const TOO_LARGE: &str = "431 Request Header Fields Too Large";

/// One connection. It reads its head, writes its answer, then reads to the other's end: closing a socket with
/// unread bytes would reset it, and a reset can destroy the answer on its way.
struct Exchange {
    stream: TcpStream,
    until: Time,
    head: Vec<u8>,
    answer: Option<Vec<u8>>,
    written: usize,
}

/// The listener and its connections, each at its token.
pub(super) struct Http {
    listener: TcpListener,
    /// Somebody waits to be accepted; not before then, because the machine is out of something.
    knocking: bool,
    accept_from: Time,
    all: Vec<Option<Exchange>>,
}

const _: () = assert!(HTTP_CONNECTIONS < 1 << 16);

impl Http {
    /// Listens there.
    pub fn open(at: SocketAddr, registry: &mio::Registry) -> io::Result<Http> {
        let mut listener = TcpListener::bind(at)?;
        registry.register(&mut listener, Token(HTTP), Interest::READABLE)?;
        Ok(Http {
            listener,
            knocking: false,
            accept_from: Time::START,
            all: (0..HTTP_CONNECTIONS).map(|_| None).collect(),
        })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// When some connection has had its time.
    pub fn deadline(&self) -> Option<Time> {
        let accept = self.knocking.then_some(self.accept_from);
        self.all.iter().flatten().map(|exchange| exchange.until).chain(accept).min()
    }

    /// The place of the connection with this token, if it is one's.
    pub fn place(token: Token) -> Option<usize> {
        (HTTP - HTTP_CONNECTIONS..HTTP).contains(&token.0).then(|| HTTP - 1 - token.0)
    }
}

impl Server {
    /// The address of the status pages.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|http| http.address().ok())
    }

    /// Somebody may ask for a page.
    pub(super) fn on_http_knock(&mut self) {
        if let Some(http) = self.http.as_mut() {
            http.knocking = true;
        }
    }

    /// Accepts who asks for pages, answers who waits for a count, and lets go who took too long.
    pub(super) fn turn_of_http(&mut self) {
        let now = self.now;
        if self.count() {
            (0..HTTP_CONNECTIONS).for_each(|i| self.on_http(Token(HTTP - 1 - i)));
        }
        let Some(http) = self.http.as_mut() else { return };
        let late = |e: &Option<Exchange>| e.as_ref().is_some_and(|e| e.until <= now);
        let late: Vec<usize> = (0..http.all.len()).filter(|i| late(&http.all[*i])).collect();
        let why = "the request took longer than 5 s to come";
        late.into_iter().for_each(|i| self.let_go(i, "408 Request Timeout", why));
        for _ in 0..HTTP_CONNECTIONS {
            let Some(http) = self.http.as_mut().filter(|http| http.knocking && http.accept_from <= now)
            else {
                return;
            };
            match http.listener.accept() {
                Ok((stream, _)) => self.meet(stream),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => http.knocking = false,
                // Where clients are accepted the log says what the machine is out of.
                Err(_) => http.accept_from = now + ACCEPT_RETRY,
            }
        }
    }

    fn meet(&mut self, mut stream: TcpStream) {
        let Some(http) = self.http.as_mut() else { return };
        let free = http.all.iter().position(Option::is_none);
        let oldest = || (0..http.all.len()).min_by_key(|i| http.all[*i].as_ref().map(|e| e.until));
        let Some(i) = free.or_else(oldest) else { return };
        self.let_go(i, "503 Service Unavailable", "too many ask at once; this one is the oldest");
        let token = Token(HTTP - 1 - i);
        if let Err(e) =
            self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)
        {
            return log::warn!("a status request cannot be watched: {e}");
        }
        self.node.counters_mut().http_requests += 1;
        let exchange =
            Exchange { stream, until: self.now + HTTP_TIME, head: Vec::new(), answer: None, written: 0 };
        if let Some(http) = self.http.as_mut() {
            http.all[i] = Some(exchange);
        }
    }

    fn refuse(&mut self, code: &'static str, why: &str) -> Vec<u8> {
        self.node.counters_mut().http_refused += 1;
        Page::text(code, why).answer(true)
    }

    /// It has had its place for long enough. If it was not answered yet, it is told why.
    fn let_go(&mut self, i: usize, code: &'static str, why: &str) {
        let Some(exchange) = self.http.as_mut().and_then(|http| http.all[i].take()) else { return };
        match &exchange.answer {
            None => {
                let answer = self.refuse(code, why);
                say(exchange, &answer);
            }
            Some(answer) => {
                let is_cut = exchange.written < answer.len();
                self.node.counters_mut().http_refused += u64::from(is_cut);
            }
        }
    }

    /// Something happened to a connection.
    pub(super) fn on_http(&mut self, token: Token) {
        let Some(i) = Http::place(token) else { return };
        let Some(mut exchange) = self.http.as_mut().and_then(|http| http.all[i].take()) else { return };
        if self.advance(&mut exchange)
            && let Some(http) = self.http.as_mut()
        {
            http.all[i] = Some(exchange);
        }
    }

    /// Goes as far as its socket lets it. False when it is over.
    fn advance(&mut self, exchange: &mut Exchange) -> bool {
        while exchange.answer.is_none() {
            let answer = match asked(&exchange.head) {
                Asked::Partly => {
                    let mut piece = [0; 2048];
                    let room = (HTTP_HEAD_BYTES - exchange.head.len()).min(piece.len());
                    match exchange.stream.read(&mut piece[..room]) {
                        Ok(0) if exchange.head.is_empty() => return false,
                        Ok(0) => self.refuse(BAD, "the request ends too early"),
                        Ok(n) => {
                            exchange.head.extend_from_slice(&piece[..n]);
                            continue;
                        }
                        Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                        Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                        Err(_) => return false,
                    }
                }
                Asked::Page { path, with_body } => match self.page(&path) {
                    Some(page) => page.answer(with_body),
                    None => return true,
                },
                Asked::Bad(code, why) => self.refuse(code, why),
            };
            exchange.answer = Some(answer);
            exchange.until = self.now + HTTP_TIME;
        }
        let answer = exchange.answer.as_deref().unwrap_or_default();
        while exchange.written < answer.len() {
            match exchange.stream.write(&answer[exchange.written..]) {
                Ok(n) => exchange.written += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            if exchange.written == answer.len() {
                // An error means that the connection is gone, which reading says.
                let _ = exchange.stream.shutdown(Shutdown::Write);
            }
        }
        is_waiting(&mut exchange.stream)
    }
}

/// Reads and forgets what still comes, a little of it. True if the end was not among it.
fn is_waiting(stream: &mut TcpStream) -> bool {
    let mut piece = [0; 2048];
    for _ in 0..HTTP_HEAD_BYTES / piece.len() {
        match stream.read(&mut piece) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    // Who goes on talking behind its request is not waited for.
    false
}

/// Says a last page, as far as the socket takes it at once, and closes.
fn say(mut exchange: Exchange, answer: &[u8]) {
    let _ = exchange.stream.write(answer);
    let _ = exchange.stream.shutdown(Shutdown::Write);
    is_waiting(&mut exchange.stream);
}

const _: () = assert!(HTTP < LISTENER);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_understood_when_it_is_complete_and_not_before() {
        let request = b"GET /metrics?x=1 HTTP/1.1\r\nHost: h\r\n\r\n";
        for n in 0..request.len() {
            assert_eq!(asked(&request[..n]), Asked::Partly, "{n} bytes");
        }
        assert_eq!(asked(request), Asked::Page { path: "/metrics".into(), with_body: true });
        assert!(
            matches!(asked(&[b'G'; HTTP_HEAD_BYTES]), Asked::Bad(code, _) if code.starts_with("431") || code == BAD)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_refused_and_never_more_are_asked_for_than_there_may_be(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            fill in prop::sample::select(vec![b"a".to_vec(), b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![]]),
        ) {
            let mut head = [fill, bytes].concat();
            asked(&head);
            head.resize(HTTP_HEAD_BYTES, b'x');
            prop_assert_ne!(asked(&head), Asked::Partly);
        }
    }
}
