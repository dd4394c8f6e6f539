//! The lines of clients with ids: what their broadcasts begin with, and what they are told beside.

use std::io::Write;

use sha2::{Digest, Sha256};

use super::encode;
use crate::base::id::{ClientId, StreamId};

/// How the broadcast of a client with an id begins: 32 digits, a dash, its number and a quote follow.
const BEGIN: &[u8] = b"{\"command\":\"ACTIVITY_BROADCAST\",\"id\":\"";
const DIGITS: usize = 32;

/// The id that everybody sees of a client. Nobody can speak in its place who only knows this.
pub fn client_id(name: &str, client: [u8; 16]) -> ClientId {
    let digest = Sha256::new().chain_update(client).chain_update(name).finalize();
    ClientId(std::array::from_fn(|i| digest[i]))
}

/// Appends the begin of a client's broadcast, up to its activity.
pub(super) fn begin(out: &mut Vec<u8>, client: ClientId, cseq: u64) {
    out.extend_from_slice(BEGIN);
    write!(out, "{client}-{cseq}\",").expect("a Vec takes every write");
}

/// Whose a broadcast line is and its number there; none if its client has no id.
#[inline]
pub fn said_with(line: &[u8]) -> Option<(ClientId, u64)> {
    let rest = line.strip_prefix(BEGIN)?;
    let (client, rest) = rest.split_at_checked(DIGITS)?;
    let client = crate::base::id::hex(std::str::from_utf8(client).ok()?)?;
    let rest = rest.strip_prefix(b"-")?;
    let cseq = &rest[..rest.iter().position(|b| *b == b'"')?];
    let cseq = std::str::from_utf8(cseq).ok()?.parse().ok()?;
    Some((ClientId(client), cseq))
}

/// What a client with an id is told when it is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Welcome {
    /// What everybody sees of it.
    pub id: Option<ClientId>,
    /// The highest of its messages that this server knows.
    pub cseq: u64,
    /// Where what it is sent begins.
    pub at: Vec<(StreamId, u64)>,
    /// Broadcasts behind the position it gave that are not there any more.
    pub lost: u64,
    /// Other servers.
    pub servers: Vec<(String, u16)>,
}

/// Appends LOGIN_SUCCESS or REGISTER_SUCCESS to a client with an id.
pub fn success(out: &mut Vec<u8>, command: &str, info: &str, welcome: &Welcome) {
    encode::answer(out, command, info);
    out.truncate(out.len() - 2);
    out.extend_from_slice(b",\"ext\":{");
    if let Some(id) = welcome.id {
        write!(out, "\"id\":\"{id}\",").expect("a Vec takes every write");
    }
    write!(out, "\"cseq\":{},\"lost\":{},\"at\":{{", welcome.cseq, welcome.lost)
        .expect("a Vec takes every write");
    for (i, (stream, seq)) in welcome.at.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        write!(out, "{comma}\"{stream:?}\":{seq}").expect("a Vec takes every write");
    }
    out.extend_from_slice(b"},\"servers\":[");
    for (i, (hostname, port)) in welcome.servers.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",{\"hostname\":\"" } else { b"{\"hostname\":\"" });
        encode::text(out, hostname);
        write!(out, "\",\"port\":{port}}}").expect("a Vec takes every write");
    }
    out.extend_from_slice(b"]}}\n");
}

/// Appends a NEXT: which broadcasts follow.
pub fn next(out: &mut Vec<u8>, runs: &[(StreamId, u64, u32)]) {
    out.extend_from_slice(b"{\"command\":\"NEXT\",\"ids\":[");
    for (i, (stream, first, count)) in runs.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        write!(out, "{comma}[\"{stream:?}\",{first},{count}]").expect("a Vec takes every write");
    }
    out.extend_from_slice(b"]}\n");
}

/// Appends a MESSAGE_ACK of all up to `cseq`.
pub fn ack(out: &mut Vec<u8>, cseq: u64) {
    writeln!(out, "{{\"command\":\"MESSAGE_ACK\",\"cseq\":{cseq}}}").expect("a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_line_is_is_read_back_and_nothing_else_is_taken_for_one() {
        let client = client_id("bob", [7; 16]);
        let mut line = Vec::new();
        begin(&mut line, client, 42);
        assert_eq!(said_with(&line), Some((client, 42)));
        let text = String::from_utf8(line).unwrap();
        for odd in [
            text.replace("-42", "-"),
            text.replace("-42", "-4 2"),
            text.replace("-42", "-99999999999999999999999"),
            text.replace("\"id\":\"", "\"id\":\"g"),
            text.replace("\",", ""),
            "{\"command\":\"ACTIVITY_BROADCAST\",\"activity\":{".to_owned(),
        ] {
            assert_eq!(said_with(odd.as_bytes()), None, "{odd}");
        }
        assert_ne!(client_id("bob", [8; 16]), client);
        assert_ne!(client_id("eve", [7; 16]), client);
    }

    #[test]
    fn what_a_client_is_told_is_one_line_of_json() {
        let welcome = Welcome {
            id: Some(client_id("bob", [7; 16])),
            cseq: 5,
            at: vec![(StreamId(0xa1), 7), (StreamId(u64::MAX), 1)],
            lost: 2,
            servers: vec![("h\"ost".into(), 3780), ("b".into(), 1)],
        };
        let mut out = Vec::new();
        success(&mut out, "LOGIN_SUCCESS", "logged in as user bob", &welcome);
        assert_eq!(out.pop(), Some(b'\n'));
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let ext = serde_json::json!({
            "id": welcome.id.unwrap().to_string(), "cseq": 5, "lost": 2,
            "at": {"00000000000000a1": 7, "ffffffffffffffff": 1},
            "servers": [{"hostname": "h\"ost", "port": 3780}, {"hostname": "b", "port": 1}],
        });
        assert_eq!((&line["command"], &line["ext"]), (&"LOGIN_SUCCESS".into(), &ext));
        let mut out = Vec::new();
        next(&mut out, &[(StreamId(0xa1), 7, 3), (StreamId(2), 1, 1)]);
        ack(&mut out, 9);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"command\":\"NEXT\",\"ids\":[[\"00000000000000a1\",7,3],[\"0000000000000002\",1,1]]}\n\
             {\"command\":\"MESSAGE_ACK\",\"cseq\":9}\n"
        );
    }
}
