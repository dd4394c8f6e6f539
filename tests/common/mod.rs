//! What several tests share: how odd bytes are written in their files, and what a client may be sent.
#![allow(dead_code, reason = "each test uses its part")]

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

/// A line to a client, without its line end, as JSON. An error if no client should ever be sent it.
pub fn check_line(line: &str) -> Result<Value, String> {
    if let Some(byte) = line.bytes().find(|byte| !(0x20..0x80).contains(byte)) {
        return Err(format!("the byte {byte:#04x} in the line {line:?}"));
    }
    let value: Value = serde_json::from_str(line).map_err(|error| format!("{error} in the line {line:?}"))?;
    let text = |field: &str| value[field].as_str().is_some_and(|text| !text.is_empty());
    let right = match value["command"].as_str() {
        Some(
            "REGISTER_SUCCESS"
            | "REGISTER_FAILED"
            | "LOGIN_SUCCESS"
            | "LOGIN_FAILED"
            | "INVALID_MESSAGE"
            | "AUTHENTICATION_FAIL",
        ) => text("info"),
        Some("NEXT") => value["ids"].is_array(),
        Some("MESSAGE_ACK") => value["cseq"].is_u64(),
        Some("REDIRECT") => text("hostname") && value["port"].is_u64(),
        Some("ACTIVITY_BROADCAST") => value["activity"]["authenticated_user"].is_string(),
        _ => false,
    };
    if right { Ok(value) } else { Err(format!("no client understands the line {line:?}")) }
}

/// The command of a line that [`check_line`] let pass.
pub fn command(line: &Value) -> &str {
    line["command"].as_str().unwrap_or_default()
}
