use super::*;
use crate::wire::encode;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn decode(line: &str) -> Result<String, Refusal> {
    bytes(line.as_bytes())
}

fn bytes(line: &[u8]) -> Result<String, Refusal> {
    Decoder::default().decode(line).map(|m| format!("{m:?}"))
}

/// The broadcast a line would make, as a value.
fn broadcast(line: &[u8]) -> Value {
    let mut decoder = Decoder::default();
    let Ok(ClientMessage::Activity { activity, .. }) = decoder.decode(line) else {
        panic!("no activity in {}", String::from_utf8_lossy(line))
    };
    let mut out = Vec::new();
    encode::broadcast(&mut out, &activity, "bob", 1 << 20).unwrap();
    assert_eq!(out.iter().position(|b| *b == b'\n'), Some(out.len() - 1));
    assert!(out[..out.len() - 1].iter().all(|b| (0x20..0x80).contains(b)));
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn every_command_is_read_with_keys_in_any_order() {
    assert_eq!(
        decode(r#" {"secret" :"s","x":[1],"username":"bob","command":"LOGIN"} "#).unwrap(),
        r#"Login { username: "bob", secret: "s", ext: None }"#
    );
    assert_eq!(
        decode(r#"{"command":"REGISTER","username":"b\u00e9","secret":"s"}"#).unwrap(),
        r#"Register { username: "bé", secret: "s", ext: None }"#
    );
    assert_eq!(decode(r#"{"command":"LOGOUT"}"#).unwrap(), "Logout");
    assert_eq!(decode(r#"{"command":"INVALID_MESSAGE"}"#).unwrap(), r#"Invalid { info: "" }"#);
    for secret in ["", r#","secret":"""#, r#","secret":null"#] {
        let line = format!(r#"{{"command":"LOGIN","username":"anonymous"{secret}}}"#);
        assert_eq!(decode(&line).unwrap(), r#"Login { username: "anonymous", secret: "", ext: None }"#);
    }
}

#[test]
fn refusals_say_what_was_wrong() {
    let cases: &[(&str, Refusal)] = &[
        ("", Refusal::NotJson),
        ("hello", Refusal::NotJson),
        ("[]", Refusal::NotAnObject),
        ("7", Refusal::NotAnObject),
        ("\"x\"", Refusal::NotAnObject),
        ("{}", Refusal::NoCommand),
        (r#"{"command":7}"#, Refusal::NoCommand),
        (r#"{"command":"LOGOUT"}x"#, Refusal::NotJson),
        (r#"{"command":"LOGOUT"}{}"#, Refusal::NotJson),
        (r#"{"command":"LOGOUT",}"#, Refusal::NotJson),
        (r#"{"command":"JUMP"}"#, Refusal::UnknownCommand("JUMP".into())),
        (r#"{"command":"LOGIN"}"#, Refusal::NeedsString("LOGIN", "username")),
        (r#"{"command":"LOGIN","username":1}"#, Refusal::NeedsString("LOGIN", "username")),
        (r#"{"command":"LOGIN","username":"a","secret":1}"#, Refusal::NeedsString("LOGIN", "secret")),
        (r#"{"command":"ACTIVITY_MESSAGE","username":"a"}"#, Refusal::NeedsActivity),
        (r#"{"command":"ACTIVITY_MESSAGE","username":"a","activity":[]}"#, Refusal::NeedsActivity),
        (r#"{"command":"LOGOUT","command":"LOGOUT"}"#, Refusal::RepeatedKey("command".into())),
        (r#"{"command":"LOGOUT","c\u006fmmand":"LOGOUT"}"#, Refusal::RepeatedKey("command".into())),
        (r#"{"command":"LOGOUT","x":9223372036854775808}"#, Refusal::Number),
        (r#"{"command":"LOGOUT","x":99999999999999999999}"#, Refusal::Number),
        (r#"{"command":"LOGOUT","x":-9223372036854775809}"#, Refusal::Number),
        (r#"{"command":"LOGOUT","x":1e999}"#, Refusal::Number),
        (r#"{"command":"LOGOUT","x":01}"#, Refusal::Number),
        (r#"{"command":"LOGOUT","x":"\ud800"}"#, Refusal::Escape),
        (r#"{"command":"LOGOUT","x":"\udc00"}"#, Refusal::Escape),
        (r#"{"command":"LOGOUT","x":"\ud800\u0041"}"#, Refusal::Escape),
        (r#"{"command":"LOGOUT","\ud800":1}"#, Refusal::Escape),
        (r#"{"command":"LOGOUT","x":"\u12"}"#, Refusal::Escape),
        ("{\"command\":\"LOGOUT\",\"x\":\"a\rb\"}", Refusal::NotJson),
    ];
    for (line, refusal) in cases {
        assert_eq!(decode(line).as_ref(), Err(refusal), "{line}");
        assert!(!refusal.to_string().is_empty());
    }
}

#[test]
fn the_depth_limit_counts_the_lines_own_object() {
    let nested = |n: usize| format!(r#"{{"command":"LOGOUT","x":{}{}}}"#, "[".repeat(n), "]".repeat(n));
    assert_eq!(decode(&nested(JSON_DEPTH - 1)).unwrap(), "Logout");
    assert_eq!(decode(&nested(JSON_DEPTH)), Err(Refusal::TooDeep));
    assert_eq!(decode(&"[".repeat(30_000)), Err(Refusal::TooDeep));
}

#[test]
fn numbers_at_the_edge_of_their_range_pass_unchanged() {
    let line = r#"{"command":"ACTIVITY_MESSAGE","username":"a","activity":{"n":[9223372036854775807,-9223372036854775808,1.50,1e308,-0]}}"#;
    let mut decoder = Decoder::default();
    let Ok(ClientMessage::Activity { activity, .. }) = decoder.decode(line.as_bytes()) else { panic!() };
    assert_eq!(activity.front, br#""n":[9223372036854775807,-9223372036854775808,1.50,1e308,-0]"#);
}

#[test]
fn a_line_that_is_not_utf8_is_read_as_windows_1252() {
    let line = b"{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"a\",\"activity\":{\"x\":\"caf\xe9 \x80\"}}";
    assert_eq!(broadcast(line)["activity"]["x"], "café €");
    assert_eq!(
        bytes(b"{\"command\":\"LOGIN\",\"username\":\"\xe9\"}").unwrap(),
        r#"Login { username: "é", secret: "", ext: None }"#
    );
}

#[test]
fn an_authenticated_user_of_the_clients_own_is_cut_out_in_any_spelling() {
    for own in [r#""authenticated_user":"eve""#, r#""authenticated\u005fuser" : {"a":[1,"}"]}"#] {
        let before = [("", "a"), (r#""b":1,"#, "b"), (r#" "b" : "}" , "#, "b")];
        for (front, _) in before {
            for back in ["", r#","c":{"authenticated_user":"deep"}"#, r#" , "\u0063" : 2 "#] {
                let line = format!(
                    r#"{{"activity" : {{{front}{own}{back}}} ,"command":"ACTIVITY_MESSAGE","username":"a"}}"#
                );
                let mut want: Map<String, Value> =
                    serde_json::from_str::<Value>(&line).unwrap()["activity"].as_object().unwrap().clone();
                want.insert("authenticated_user".into(), json!("bob"));
                assert_eq!(broadcast(line.as_bytes())["activity"], Value::Object(want), "{line}");
            }
        }
    }
}

#[test]
fn a_hundred_thousand_keys_are_compared_in_no_time() {
    let keys: String = (0..100_000).map(|i| format!(r#""k{i}":0,"#)).collect();
    assert_eq!(decode(&format!(r#"{{{keys}"command":"LOGOUT"}}"#)).unwrap(), "Logout");
    assert_eq!(
        decode(&format!(r#"{{{keys}"k777":1,"command":"LOGOUT"}}"#)),
        Err(Refusal::RepeatedKey("k777".into()))
    );
}

fn some_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no such number", |x| x.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key(), inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        Just("authenticated_user".into()),
        Just("a\"\\b".into()),
        Just(String::new())
    ]
}

/// Writes a string so that every character may be escaped, as clients may.
fn escaped(text: &str, how: &mut impl Iterator<Item = bool>) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        if how.next().unwrap() || c < ' ' || c == '"' || c == '\\' {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|u| out += &format!("\\u{u:04X}"));
        } else {
            out.push(c);
        }
    }
    out + "\""
}

fn written(value: &Value, how: &mut impl Iterator<Item = bool>) -> String {
    let blank = |how: &mut dyn Iterator<Item = bool>| if how.next().unwrap() { "\t " } else { "" };
    match value {
        Value::String(s) => escaped(s, how),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|v| written(v, how) + blank(how)).collect();
            format!("[{}{}]", blank(how), items.join(","))
        }
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(k, v)| {
                    format!(
                        "{}{}{}:{}{}",
                        blank(how),
                        escaped(k, how),
                        blank(how),
                        blank(how),
                        written(v, how)
                    )
                })
                .collect();
            format!("{{{}{}}}", members.join(","), blank(how))
        }
        other => other.to_string(),
    }
}

proptest! {
    #[test]
    fn decoding_agrees_with_serde_json(
        mut activity in prop::collection::btree_map(key(), some_json(), 0..6),
        username in "[^\u{0}]{0,9}",
        extra in prop::collection::btree_map("[a-zé\"]{1,12}", some_json(), 0..3),
        how in prop::collection::vec(any::<bool>(), 1..60),
    ) {
        let mut line: Map<String, Value> = extra.into_iter().collect();
        line.insert("activity".into(), Value::Object(activity.clone().into_iter().collect()));
        line.insert("command".into(), "ACTIVITY_MESSAGE".into());
        line.insert("username".into(), username.clone().into());
        let line = written(&Value::Object(line), &mut how.into_iter().cycle());
        let mut decoder = Decoder::default();
        match decoder.decode(line.as_bytes()) {
            Ok(ClientMessage::Activity { username: name, .. }) => prop_assert_eq!(name, username),
            other => prop_assert!(false, "{:?}", other),
        }
        activity.insert("authenticated_user".into(), "bob".into());
        prop_assert_eq!(&broadcast(line.as_bytes())["activity"], &Value::Object(activity.into_iter().collect()));
    }

    #[test]
    fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = bytes(&line);
    }
}
