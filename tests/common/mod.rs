//! What several tests share: how odd bytes are written in their files, and what a client may be sent.
#![allow(dead_code, reason = "each test uses its part")]

pub use activitystreamer::sim::check_line;
use serde_json::Value;

/// The bytes a line of a test's file stands for: `\xNN` is one byte, `\*N(text)` is `text` N times over.
/// JSON has no such escapes, so everything else is as it is written.
pub fn unescape(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find("\\x").into_iter().chain(rest.find("\\*")).min() {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at..];
        let (bytes, behind) =
            special(escape).unwrap_or_else(|| panic!("neither \\xNN nor \\*N(text): {escape}"));
        out.extend(bytes);
        rest = behind;
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// The bytes of the escape at the front, and what is behind it.
fn special(escape: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(digits) = escape.strip_prefix("\\x") {
        let byte = u8::from_str_radix(digits.get(..2)?, 16).ok()?;
        return Some((vec![byte], &digits[2..]));
    }
    let (times, text) = escape.strip_prefix("\\*")?.split_once('(')?;
    let (text, behind) = text.split_once(')')?;
    Some((unescape(text).repeat(times.parse().ok()?), behind))
}

/// The command of a line that [`check_line`] let pass.
pub fn command(line: &Value) -> &str {
    line["command"].as_str().unwrap_or_default()
}
