//! A second opinion on lines: what serde_json makes of them, and the rules of the protocol once more,
//! written to be plain, not fast.
//!
//! Numbers stay text: so no parser's rounding can make two values equal or different.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::base::limits::JSON_DEPTH;
use crate::wire::message::Refusal;

/// One JSON value. Equal means equal to whoever reads it, numbers digit by digit.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// A number, `true`, `false` or `null`, as written.
    Plain(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// What is wrong with a line. A line may have several faults, and any one of them is a good refusal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    Grammar,
    Depth,
    Number,
    Escape,
}

/// An object's members in order, repeated ones too, the values not yet looked at.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(All)
    }
}

/// Reads JSON, and finds what of it no client may send.
pub fn read(text: &str) -> Result<Json, Vec<Fault>> {
    let mut faults = Vec::new();
    match serde_json::from_str::<&RawValue>(text) {
        Err(_) => faults.push(Fault::Grammar),
        Ok(raw) => {
            let json = value(raw, 1, &mut faults);
            if faults.is_empty() {
                return Ok(json);
            }
        }
    }
    Err(faults)
}

/// The grammar of `raw` is known to be right: what can be wrong is depth, numbers and escapes.
fn value(raw: &RawValue, depth: usize, faults: &mut Vec<Fault>) -> Json {
    let text = raw.get();
    match text.as_bytes()[0] {
        b'{' | b'[' if depth > JSON_DEPTH => {
            faults.push(Fault::Depth);
            Json::Plain(String::new())
        }
        b'{' => match serde_json::from_str::<Members>(text) {
            Ok(all) => {
                Json::Object(all.0.into_iter().map(|(k, v)| (k, value(v, depth + 1, faults))).collect())
            }
            Err(_) => {
                faults.push(Fault::Escape);
                Json::Plain(String::new())
            }
        },
        b'[' => {
            let all: Vec<&RawValue> = serde_json::from_str(text).expect("RawValue checked the grammar");
            Json::List(all.into_iter().map(|v| value(v, depth + 1, faults)).collect())
        }
        b'"' => Json::Text(serde_json::from_str(text).unwrap_or_else(|_| {
            faults.push(Fault::Escape);
            String::new()
        })),
        b'-' | b'0'..=b'9' => {
            let fits = if text.contains(['.', 'e', 'E']) {
                text.parse::<f64>().is_ok_and(f64::is_finite)
            } else {
                text.parse::<i64>().is_ok()
            };
            if !fits {
                faults.push(Fault::Number);
            }
            Json::Plain(text.to_owned())
        }
        _ => Json::Plain(text.to_owned()),
    }
}

/// A client's line as text: UTF-8, or else Windows-1252 with C1 where that has nothing.
pub fn text(line: &[u8]) -> Cow<'_, str> {
    const C1: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ";
    match std::str::from_utf8(line) {
        Ok(text) => text.into(),
        Err(_) => {
            let c1: Vec<char> = C1.chars().collect();
            let char = |b: &u8| (0x80..0xa0).contains(b).then(|| c1[usize::from(*b) - 0x80]);
            line.iter().map(|b| char(b).unwrap_or(char::from(*b))).collect::<String>().into()
        }
    }
}

/// One message, as [`crate::wire::message::ClientMessage`] has it but with the activity's values.
#[derive(Debug, PartialEq)]
pub enum Message {
    Register(String, String),
    Login(String, String),
    Logout,
    Activity(String, String, Vec<(String, Json)>),
    Invalid(String),
}

/// The protocol's rules for a line that is good JSON. A refusal is the one of several that is due; what it
/// quotes is left empty.
pub fn message(line: &Json) -> Result<Message, Refusal> {
    let Json::Object(members) = line else { return Err(Refusal::NotAnObject) };
    refuse_repeats(members)?;
    let get = |key: &str| members.iter().find(|(k, _)| k == key).map(|(_, v)| v);
    let text = |key| match get(key) {
        Some(Json::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let command = text("command").ok_or(Refusal::NoCommand)?;
    let command = match &*command {
        "LOGOUT" => return Ok(Message::Logout),
        "INVALID_MESSAGE" => return Ok(Message::Invalid(text("info").unwrap_or_default())),
        "LOGIN" => "LOGIN",
        "REGISTER" => "REGISTER",
        "ACTIVITY_MESSAGE" => "ACTIVITY_MESSAGE",
        _ => return Err(Refusal::UnknownCommand(String::new())),
    };
    let name = text("username").ok_or(Refusal::NeedsString(command, "username"))?;
    let secret = match get("secret") {
        None => String::new(),
        Some(Json::Plain(null)) if null == "null" => String::new(),
        Some(_) => text("secret").ok_or(Refusal::NeedsString(command, "secret"))?,
    };
    if command != "ACTIVITY_MESSAGE" && !get("ext").is_none_or(is_ext) {
        return Err(Refusal::Ext(""));
    }
    match command {
        "LOGIN" => Ok(Message::Login(name, secret)),
        "REGISTER" => Ok(Message::Register(name, secret)),
        _ => {
            let Some(Json::Object(activity)) = get("activity") else { return Err(Refusal::NeedsActivity) };
            refuse_repeats(activity)?;
            Ok(Message::Activity(name, secret, activity.clone()))
        }
    }
}

/// What a client with an id may say of itself.
fn is_ext(ext: &Json) -> bool {
    let digits = |text: &str, n: usize| text.len() == n && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = |json: &Json| match json {
        Json::Plain(text) => text.parse::<i64>().is_ok_and(|n| n >= 0).then_some(text != "0" && text != "-0"),
        _ => None,
    };
    let Json::Object(members) = ext else { return false };
    let is_right = |(key, value): &(String, Json)| match (key.as_str(), value) {
        ("from", from) => number(from) == Some(true),
        ("at", Json::Object(at)) => {
            at.len() <= 1024 && at.iter().all(|(stream, seq)| digits(stream, 16) && number(seq).is_some())
        }
        ("at", _) => false,
        _ => true,
    };
    let client = members.iter().rfind(|(key, _)| key == "client").map(|(_, value)| value);
    members.iter().all(is_right) && matches!(client, Some(Json::Text(text)) if digits(text, 32))
}

fn refuse_repeats(members: &[(String, Json)]) -> Result<(), Refusal> {
    let mut keys: Vec<&String> = members.iter().map(|(key, _)| key).collect();
    keys.sort();
    if keys.windows(2).any(|w| w[0] == w[1]) {
        return Err(Refusal::RepeatedKey(String::new()));
    }
    Ok(())
}
