//! Bytes → [`ClientMessage`]: simd-json's tape over a padded copy of the line, then one walk over it.
//!
//! Nothing is allocated once the buffers have grown to the longest line. The activity is found again in
//! the client's own bytes: simd-json unescapes strings in place, so a key's address in the copy is its
//! offset in the line, and a value lies between its key and the next one.

use std::mem;

use simd_json::{Buffers, ErrorType, INPUT_PADDING, Node, StaticNode, Tape, fill_tape_padded};

use super::message::{Activity, ClientMessage, Refusal, shorten};
use crate::base::limits::JSON_DEPTH;

/// Turns lines into messages. Keep one and use it for every line: its buffers are the reason.
pub struct Decoder {
    /// The line's padded copy; simd-json writes unescaped strings into it.
    copy: Vec<u8>,
    /// The same for a line that came as Windows-1252, and that line as UTF-8.
    other: Vec<u8>,
    text: Vec<u8>,
    /// simd-json's own.
    buffers: Buffers,
    tape: Tape<'static>,
    /// Positions of keys on the tape, to find repeated ones when there are many.
    keys: Vec<u32>,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder {
            copy: Vec::new(),
            other: Vec::new(),
            text: Vec::new(),
            buffers: Buffers::with_max_depth(1024, JSON_DEPTH),
            tape: Tape::null().reset(),
            keys: Vec::new(),
        }
    }
}

impl Decoder {
    /// Reads one line, without its line end. A line that is not UTF-8 is read as Windows-1252.
    pub fn decode<'a>(&'a mut self, line: &'a [u8]) -> Result<ClientMessage<'a>, Refusal> {
        let Decoder { copy, other, text, buffers, tape, keys } = self;
        let mut filled: Tape<'a> = mem::replace(tape, Tape(Vec::new())).reset();
        let mut source = (line, pad(copy, line));
        let mut parsed = fill_tape_padded(copy, line.len(), buffers, &mut filled);
        // simd-json sees whether it is UTF-8 on its way, so it costs nothing to ask only then.
        if let Err(error) = &parsed
            && matches!(error.error(), ErrorType::InvalidUtf8)
            && std::str::from_utf8(line).is_err()
        {
            windows_1252(line, text);
            source = (text, pad(other, text));
            filled = filled.reset();
            parsed = fill_tape_padded(other, text.len(), buffers, &mut filled);
        }
        let message = match parsed {
            Ok(()) => Source { line: source.0, base: source.1, nodes: &filled.0 }.message(keys),
            Err(error) => Err(refusal(error.error())),
        };
        *tape = filled.reset();
        message
    }
}

/// Makes `copy` a copy of `line` as simd-json wants it. Returns where it begins in memory.
fn pad(copy: &mut Vec<u8>, line: &[u8]) -> usize {
    copy.clear();
    copy.reserve(line.len() + INPUT_PADDING);
    copy.extend_from_slice(line);
    copy.resize(line.len() + INPUT_PADDING, 0);
    copy.as_ptr() as usize
}

fn refusal(error: &ErrorType) -> Refusal {
    match error {
        ErrorType::DepthLimitExceeded => Refusal::TooDeep,
        ErrorType::InvalidNumber | ErrorType::InvalidExponent | ErrorType::Overflow => Refusal::Number,
        // The line is UTF-8 by now, so what is not is a surrogate that an escape spells.
        ErrorType::InvalidUtf8 | ErrorType::InvalidUnicodeCodepoint | ErrorType::InvalidUnicodeEscape => {
            Refusal::Escape
        }
        _ => Refusal::NotJson,
    }
}

/// Windows-1252 → UTF-8. The five bytes it leaves undefined become the control characters of the same
/// number, as browsers have it.
fn windows_1252(line: &[u8], out: &mut Vec<u8>) {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', //
        '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    out.clear();
    for &byte in line {
        let c = match byte {
            0x80..=0x9f => HIGH[usize::from(byte) - 0x80],
            _ => char::from(byte),
        };
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// A parsed line: its bytes, where their unescaped copy begins in memory, and the tape.
struct Source<'t, 'a> {
    line: &'a [u8],
    base: usize,
    nodes: &'t [Node<'a>],
}

/// One member of an object: the key, where its first quote is in the line, and the value on the tape.
#[derive(Clone, Copy)]
struct Member<'a> {
    key: &'a str,
    quote: usize,
    value: usize,
}

impl<'t, 'a> Source<'t, 'a> {
    fn message(&self, keys: &mut Vec<u32>) -> Result<ClientMessage<'a>, Refusal> {
        let Some(Node::Object { .. }) = self.nodes.first() else { return Err(Refusal::NotAnObject) };
        let beyond = |n: &Node| match n {
            Node::Static(StaticNode::U64(n)) => i64::try_from(*n).is_err(),
            Node::Static(StaticNode::F64(n)) => !n.is_finite(),
            _ => false,
        };
        if self.nodes.iter().any(beyond) {
            return Err(Refusal::Number);
        }
        self.refuse_repeats(0, keys)?;
        let [mut command, mut username, mut secret, mut info] = [None; 4];
        let [mut activity, mut ext, mut cseq] = [None; 3];
        for member in self.members(0) {
            match member.key {
                "command" => command = Some(member),
                "username" => username = Some(member),
                "secret" => secret = Some(member),
                "info" => info = Some(member),
                "activity" => activity = Some(member),
                "ext" => ext = Some(member),
                "cseq" => cseq = Some(member),
                _ => {}
            }
        }
        let command = self.text(command).ok_or(Refusal::NoCommand)?;
        match command {
            "LOGOUT" => return Ok(ClientMessage::Logout),
            "INVALID_MESSAGE" => return Ok(ClientMessage::Invalid { info: self.text(info).unwrap_or("") }),
            _ => {}
        }
        let Some(named) = ["LOGIN", "REGISTER", "ACTIVITY_MESSAGE"].into_iter().find(|c| *c == command)
        else {
            return Err(Refusal::UnknownCommand(shorten(command)));
        };
        let username = self.text(username).ok_or(Refusal::NeedsString(named, "username"))?;
        let secret = match secret.map(|m| &self.nodes[m.value]) {
            None | Some(Node::Static(StaticNode::Null)) => "",
            Some(Node::String(secret)) => secret,
            Some(_) => return Err(Refusal::NeedsString(named, "secret")),
        };
        match named {
            "LOGIN" => Ok(ClientMessage::Login { username, secret, ext: self.ext(ext)? }),
            "REGISTER" => Ok(ClientMessage::Register { username, secret, ext: self.ext(ext)? }),
            _ => {
                let activity = self.activity(activity.ok_or(Refusal::NeedsActivity)?, keys)?;
                let cseq = cseq.and_then(|cseq| self.number(cseq.value)).filter(|cseq| *cseq > 0);
                Ok(ClientMessage::Activity { username, secret, activity, cseq })
            }
        }
    }

    /// The members of the activity. It lies between its key and the next one, or the brace that closes
    /// the line.
    fn activity(&self, member: Member<'a>, keys: &mut Vec<u32>) -> Result<Activity<'a>, Refusal> {
        let Node::Object { len, .. } = self.nodes[member.value] else { return Err(Refusal::NeedsActivity) };
        self.refuse_repeats(member.value, keys)?;
        let line_end = self.line.trim_ascii_end().len() - 1;
        let end = self.behind(0, member).map_or(line_end, |next| next.quote);
        let (from, to) = self.inside(self.key_end(member.quote), end);
        let Some(cut) = self.members(member.value).find(|m| m.key == "authenticated_user") else {
            return Ok(Activity { front: &self.line[from..to], back: b"", is_empty: len == 0 });
        };
        let front = &self.line[from..cut.quote];
        let (front, back) = match self.behind(member.value, cut) {
            Some(next) => (front, &self.line[next.quote..to]),
            None => {
                let front = front.trim_ascii_end();
                (front.strip_suffix(b",").unwrap_or(front), &b""[..])
            }
        };
        Ok(Activity { front, back, is_empty: len == 1 })
    }

    /// The member behind `member` in the object at `at` on the tape.
    fn behind(&self, at: usize, member: Member<'a>) -> Option<Member<'a>> {
        self.members(at).find(|m| m.value > member.value)
    }

    /// What is between the braces of the object that lies between `from` and `to` in the line, with
    /// nothing else but a colon before it and a comma behind.
    fn inside(&self, from: usize, to: usize) -> (usize, usize) {
        let open = self.line[from..to].iter().position(|b| *b == b'{');
        let close = self.line[from..to].iter().rposition(|b| *b == b'}');
        let (open, close) = (open.expect("the tape says an object"), close.expect("the tape says an object"));
        (from + open + 1, from + close)
    }

    /// The offset behind the closing quote of the key that opens at `quote`.
    fn key_end(&self, quote: usize) -> usize {
        let mut at = quote + 1;
        while self.line[at] != b'"' {
            at += if self.line[at] == b'\\' { 2 } else { 1 };
        }
        at + 1
    }

    fn string(&self, at: usize) -> Option<&'a str> {
        match self.nodes[at] {
            Node::String(s) => Some(s),
            _ => None,
        }
    }

    fn text(&self, member: Option<Member<'a>>) -> Option<&'a str> {
        self.string(member?.value)
    }

    /// The members of the object at `at` on the tape.
    fn members(&self, at: usize) -> impl Iterator<Item = Member<'a>> + use<'_, 't, 'a> {
        let (n, mut next) = match self.nodes[at] {
            Node::Object { len, .. } => (len, at + 1),
            _ => (0, at),
        };
        (0..n).map(move |_| {
            let Node::String(key) = self.nodes[next] else { unreachable!("a tape's object has string keys") };
            let value = next + 1;
            next = value + self.size(value);
            Member { key, quote: key.as_ptr() as usize - self.base - 1, value }
        })
    }

    /// Where the elements of the array at `at` are on the tape.
    fn elements(&self, at: usize) -> impl Iterator<Item = usize> + use<'_, 't, 'a> {
        let (n, mut next) = match self.nodes[at] {
            Node::Array { len, .. } => (len, at + 1),
            _ => (0, at),
        };
        (0..n).map(move |_| {
            let element = next;
            next += self.size(element);
            element
        })
    }

    /// How many nodes the value at `at` takes on the tape.
    fn size(&self, at: usize) -> usize {
        match self.nodes[at] {
            Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
            _ => 1,
        }
    }

    /// Refuses an object in which one key is there twice, compared as decoded.
    fn refuse_repeats(&self, at: usize, keys: &mut Vec<u32>) -> Result<(), Refusal> {
        keys.clear();
        keys.extend(self.members(at).map(|m| m.value as u32 - 1));
        let key = |at: &u32| self.string(*at as usize).unwrap_or("");
        let twice = if keys.len() <= 16 {
            let earlier = |(i, k): (usize, &u32)| keys[..i].iter().any(|e| key(e) == key(k)).then_some(*k);
            keys.iter().enumerate().find_map(earlier)
        } else {
            keys.sort_unstable_by(|a, b| key(a).cmp(key(b)));
            keys.windows(2).find(|w| key(&w[0]) == key(&w[1])).map(|w| w[0])
        };
        match twice {
            None => Ok(()),
            Some(at) => Err(Refusal::RepeatedKey(shorten(key(&at)))),
        }
    }
}

mod ext;
#[cfg(test)]
mod tests;
