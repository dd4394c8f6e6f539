//! What bench puts into an activity, so that each delivery says who said it, as which, and when it should have.
//!
//! ```text
//! {"bench":"RRRRRRRR-SSSSSSSS-NNNNNNNN-TTTTTTTTTTTTTTTT","pad":"xxx…"}
//!           run      sender   number   intended time, ns of the machine's clock
//! ```
//!
//! Digits are the sixteen characters from `@` to `O`, so that eight of them are read with a few instructions.
//! Invariant: [`scan`] takes a line only if it stands exactly as written here; whatever stands otherwise is for
//! a parser.

use std::fmt::Write;

use serde::Deserialize;
use std::borrow::Cow;

/// How a broadcast of it begins on the wire.
const HEAD: &[u8] = br#"{"command":"ACTIVITY_BROADCAST","activity":{"bench":""#;
const KEY: &str = r#"{"bench":""#;
const PAD: &str = r#"","pad":""#;
const END: &str = r#""}"#;
/// Bytes of the four numbers and the lines between them.
const STAMP: usize = 8 + 1 + 8 + 1 + 8 + 1 + 16;

/// Bytes of the smallest activity.
pub const SIZE_MIN: usize = KEY.len() + STAMP + PAD.len() + END.len();

/// One message of one sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The run it belongs to.
    pub run: u32,
    /// Who said it: a talker's number.
    pub by: u32,
    /// The sender's own count, from 0.
    pub n: u32,
    /// When it should have been said: ns of the machine's clock.
    pub at: u64,
}

impl Stamp {
    /// Writes an activity of `size` bytes, or of [`SIZE_MIN`] if that is more.
    pub fn activity(&self, text: &mut String, size: usize) {
        text.clear();
        text.push_str(KEY);
        for (number, digits) in
            [(self.run.into(), 8), (self.by.into(), 8), (self.n.into(), 8), (self.at, 16_u32)]
        {
            if text.len() > KEY.len() {
                text.push('-');
            }
            let digit = |i: u32| char::from(b'@' | (number >> (4 * i) & 15) as u8);
            text.extend((0..digits).rev().map(digit));
        }
        let pad = size.saturating_sub(SIZE_MIN);
        write!(text, "{PAD}{:x<pad$}{END}", "").expect("a String takes every write");
    }

    fn read(text: &[u8]) -> Option<Stamp> {
        let text: &[u8; STAMP] = text.first_chunk()?;
        let number = |at: usize| eight(text[at..].first_chunk().expect("eight more"));
        let is_parted = text[8] == b'-' && text[17] == b'-' && text[26] == b'-';
        let (high, low) = (number(27)?, number(35)?);
        is_parted.then_some(Stamp {
            run: number(0)?,
            by: number(9)?,
            n: number(18)?,
            at: u64::from(high) << 32 | u64::from(low),
        })
    }
}

/// Eight digits, the highest first.
fn eight(text: &[u8; 8]) -> Option<u32> {
    let digits = u64::from_be_bytes(*text) ^ 0x4040_4040_4040_4040;
    let pairs = (digits | digits >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    (digits & 0xf0f0_f0f0_f0f0_f0f0 == 0).then_some((fours | fours >> 16) as u32)
}

/// The stamp of a broadcast line that stands as servers write it.
pub fn scan(line: &[u8]) -> Option<Stamp> {
    let text = line.strip_prefix(HEAD).filter(|_| line.ends_with(b"}}"))?;
    Stamp::read(text).filter(|_| text.get(STAMP) == Some(&b'"'))
}

/// The stamp of an activity, however it is spelled.
pub fn parse(activity: &str) -> Option<Stamp> {
    #[derive(Deserialize)]
    struct Fields<'a> {
        #[serde(borrow)]
        bench: Cow<'a, str>,
    }
    let fields: Fields<'_> = serde_json::from_str(activity).ok()?;
    Stamp::read(fields.bench.as_bytes()).filter(|_| fields.bench.len() == STAMP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;
    use crate::wire::message::Activity;
    use proptest::prelude::*;

    fn broadcast(activity: &str) -> Vec<u8> {
        let (mut line, inside) = (Vec::new(), &activity[1..activity.len() - 1]);
        let activity = Activity { front: inside.as_bytes(), back: b"", is_empty: false };
        encode::broadcast(&mut line, &activity, "bob", 1 << 20).expect("it is short");
        line.pop();
        line
    }

    proptest! {
        #[test]
        fn what_is_said_is_found_again_both_ways(run: u32, by: u32, n: u32, at: u64, size in 0..300_usize) {
            let (stamp, mut text) = (Stamp { run, by, n, at }, String::new());
            stamp.activity(&mut text, size);
            prop_assert_eq!(text.len(), size.max(SIZE_MIN));
            prop_assert_eq!(scan(&broadcast(&text)), Some(stamp));
            prop_assert_eq!(parse(&text), Some(stamp));
            prop_assert_eq!(parse(&text.replace("@", "\\u0040")), Some(stamp));
        }

        #[test]
        fn a_line_that_stands_otherwise_is_left_to_the_parser(at in 0..60_usize, to: u8) {
            let (stamp, mut text) = (Stamp { run: 1, by: 2, n: 3, at: 4 }, String::new());
            stamp.activity(&mut text, 0);
            let mut line = broadcast(&text);
            line[at] = to;
            // What was not touched, or became another digit, is a stamp; nothing else is.
            let is_digit = at >= HEAD.len() && (0x40..0x50).contains(&to);
            prop_assert!(scan(&line).is_none() || is_digit || scan(&line) == Some(stamp));
            prop_assert_eq!(scan(&line[..at]), None);
        }
    }

    #[test]
    fn what_others_say_has_no_stamp() {
        for activity in ["{}", r#"{"bench":1}"#, r#"{"bench":"x"}"#, r#"{"note":"bench"}"#, "[]", "x"] {
            assert_eq!(parse(activity), None);
        }
    }
}
