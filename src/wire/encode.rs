//! Messages → bytes: what clients are sent is one line of pure ASCII, no byte below 0x20 inside.

use std::io::Write;

use super::ids;
use super::message::{Activity, Refusal};
use crate::base::id::{ClientId, ServerId};

/// Appends an ACTIVITY_BROADCAST of `activity`, said by `name`, as one finished line.
///
/// The client's own bytes go out as they are where that is safe: only bytes below 0x20 (white space
/// between tokens, where JSON allows it) are dropped and characters beyond ASCII written as `\uXXXX`,
/// so numbers, escapes and the order of keys stay as they were said.
/// On error (`limit` is in bytes, without the line end) `out` is as it was.
pub fn broadcast(out: &mut Vec<u8>, activity: &Activity, name: &str, limit: usize) -> Result<(), Refusal> {
    broadcast_of(out, activity, name, limit, None)
}

/// The same with the id and the number of a client that has them.
pub fn broadcast_of(
    out: &mut Vec<u8>,
    activity: &Activity,
    name: &str,
    limit: usize,
    id: Option<(ClientId, u64)>,
) -> Result<(), Refusal> {
    let start = out.len();
    match id {
        None => out.extend_from_slice(b"{\"command\":\"ACTIVITY_BROADCAST\","),
        Some((client, cseq)) => ids::begin(out, client, cseq),
    }
    out.extend_from_slice(b"\"activity\":{");
    ascii(out, activity.front);
    ascii(out, activity.back);
    out.extend_from_slice(if activity.is_empty {
        b"\"authenticated_user\":\""
    } else {
        b",\"authenticated_user\":\""
    });
    text(out, name);
    out.extend_from_slice(b"\"}}\n");
    if out.len() - start > limit + 1 {
        out.truncate(start);
        return Err(Refusal::BroadcastTooLong(limit));
    }
    Ok(())
}

/// How the line begins that makes a connection a server's.
pub const HELLO: &[u8] = b"{\"command\":\"SERVER_HELLO\",\"version\":1,\"id\":\"";

/// The line that makes a connection a server's.
pub fn hello(id: ServerId) -> Vec<u8> {
    let mut line = HELLO.to_vec();
    writeln!(line, "{id}\"}}").expect("a Vec takes every write");
    line
}

/// Appends a REDIRECT to another server.
pub fn redirect(out: &mut Vec<u8>, hostname: &str, port: u16) {
    out.extend_from_slice(b"{\"command\":\"REDIRECT\",\"hostname\":\"");
    text(out, hostname);
    writeln!(out, "\",\"port\":{port}}}").expect("a Vec takes every write");
}

/// The name at the end of a broadcast line, as it is written there, escapes and all. It tells names apart
/// without the line being parsed.
pub fn said_by(line: &[u8]) -> &[u8] {
    const KEY: &[u8] = b"\"authenticated_user\":\"";
    let text = line.strip_suffix(b"\"}}\n").unwrap_or_default();
    memchr::memmem::rfind(text, KEY).map_or(&[], |at| &text[at + KEY.len()..])
}

/// Appends a line with `command` and `info`, as all answers but REDIRECT are.
pub fn answer(out: &mut Vec<u8>, command: &str, info: &str) {
    out.extend_from_slice(b"{\"command\":\"");
    out.extend_from_slice(command.as_bytes());
    out.extend_from_slice(b"\",\"info\":\"");
    text(out, info);
    out.extend_from_slice(b"\"}\n");
}

/// Appends valid JSON with every character beyond ASCII escaped and every byte below 0x20 dropped.
/// In valid JSON the former stand only inside strings and the latter only between tokens.
fn ascii(out: &mut Vec<u8>, json: &[u8]) {
    if is_plain(json) {
        out.extend_from_slice(json);
        return;
    }
    for chunk in json.utf8_chunks() {
        for c in chunk.valid().chars().filter(|c| *c >= ' ') {
            push(out, c);
        }
    }
}

/// True when no byte needs another form: all in 0x20..=0x7f. Without a branch a byte, so it is a few
/// vector instructions for a usual activity.
fn is_plain(bytes: &[u8]) -> bool {
    let odd = |chunk: &[u8]| chunk.iter().fold(false, |odd, b| odd | (b.wrapping_sub(0x20) >= 0x60));
    !bytes.chunks(256).any(odd)
}

/// Appends `text` as the inside of a JSON string.
pub fn text(out: &mut Vec<u8>, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            '\0'..='\x1f' => unicode(out, c as u16),
            _ => push(out, c),
        }
    }
}

fn push(out: &mut Vec<u8>, c: char) {
    if c.is_ascii() {
        out.push(c as u8);
    } else {
        c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| unicode(out, *unit));
    }
}

fn unicode(out: &mut Vec<u8>, unit: u16) {
    write!(out, "\\u{unit:04x}").expect("a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn activity(members: &str) -> Activity<'_> {
        Activity { front: members.as_bytes(), back: b"", is_empty: members.is_empty() }
    }

    fn said(members: &str, name: &str) -> String {
        let mut out = Vec::new();
        broadcast(&mut out, &activity(members), name, 1 << 20).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_plain_activity_goes_out_as_the_clients_own_bytes() {
        assert_eq!(
            said(r#""n":1.50,"u":"\u00E9\/""#, "bob"),
            "{\"command\":\"ACTIVITY_BROADCAST\",\"activity\":{\"n\":1.50,\"u\":\"\\u00E9\\/\",\"authenticated_user\":\"bob\"}}\n"
        );
        assert_eq!(
            said("", "a\"\\\u{1}é"),
            "{\"command\":\"ACTIVITY_BROADCAST\",\"activity\":{\"authenticated_user\":\"a\\\"\\\\\\u0001\\u00e9\"}}\n"
        );
    }

    #[test]
    fn no_byte_below_0x20_and_none_beyond_ascii_leaves() {
        let line = said("\"a\" :\r[1,\t\"é😀\u{7f}\"]\r", "x");
        assert!(line.trim_end_matches('\n').bytes().all(|b| (0x20..0x80).contains(&b)), "{line:?}");
        let activity = serde_json::from_str::<Value>(&line).unwrap()["activity"].clone();
        assert_eq!(activity["a"], serde_json::json!([1, "é😀\u{7f}"]));
    }

    #[test]
    fn a_broadcast_over_the_limit_leaves_nothing_behind() {
        let mut out = b"before".to_vec();
        let long = format!("\"a\":\"{}\"", "é".repeat(20));
        assert_eq!(broadcast(&mut out, &activity(&long), "x", 150), Err(Refusal::BroadcastTooLong(150)));
        assert_eq!(out, b"before");
        let exact = said("\"a\":1", "x").len() - 1;
        assert!(broadcast(&mut out, &activity("\"a\":1"), "x", exact).is_ok());
        assert!(broadcast(&mut out, &activity("\"a\":1"), "x", exact - 1).is_err());
    }

    proptest! {
        #[test]
        fn every_text_comes_back_from_an_answer(info in any::<String>()) {
            let mut out = Vec::new();
            answer(&mut out, "LOGIN_FAILED", &info);
            prop_assert_eq!(out.pop(), Some(b'\n'));
            prop_assert!(out.iter().all(|b| (0x20..0x80).contains(b)));
            let line: Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(&line["info"], &Value::from(info));
            prop_assert_eq!(&line["command"], &Value::from("LOGIN_FAILED"));
        }
    }
}
