//! What becomes of a line that is said, compared with what serde_json makes of it.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// The activity that saying `line` sends, `None` if it sends nothing.
fn activity(line: &str) -> Option<String> {
    let mut client = Client::new(Mode::Anonymous);
    client.connected();
    send_line(&mut client);
    client.handle(Duration::ZERO, br#"{"command":"LOGIN_SUCCESS","info":"x"}"#);
    client.say(line);
    if client.transmit().is_empty() {
        return None;
    }
    let sent = send_line(&mut client);
    assert_eq!(client.transmit(), b"", "one line a line");
    let activity = sent.split_once(r#","activity":"#).expect("an activity").1;
    Some(activity.strip_suffix('}').expect("the end of the message").to_owned())
}

#[test]
fn objects_are_sent_byte_for_byte() {
    for line in [
        "{}",
        r#"{"z":1,"a":2,"z":3}"#,
        r#"{"n":1.0,"m":-0.0,"o":1E400,"p":123456789012345678901234567890}"#,
        r#"{"s":"\u00e9\/é\ud800","deep":[[[[{}]]]]}"#,
        "{\"a\" :\t1 }",
    ] {
        assert_eq!(activity(line).as_deref(), Some(line));
        assert_eq!(activity(&format!("  {line} \r")).as_deref(), Some(line));
    }
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(activity(&deep), Some(deep.clone()));
    assert_eq!(activity("{\n\"a\":\r\n1}\n").as_deref(), Some("{ \"a\":\r 1}"));
}

#[test]
fn text_is_sent_as_a_message() {
    for (line, expected) in [
        ("hi", r#"{"message":"hi"}"#),
        ("hi\r", r#"{"message":"hi"}"#),
        ("  hi \t", r#"{"message":"  hi \t"}"#),
        ("[1]", r#"{"message":"[1]"}"#),
        ("17", r#"{"message":"17"}"#),
        ("{", r#"{"message":"{"}"#),
        (r#"{"a":1} {"b":2}"#, r#"{"message":"{\"a\":1} {\"b\":2}"}"#),
        (r#"{"a":01}"#, r#"{"message":"{\"a\":01}"}"#),
        ("two\nlines", r#"{"message":"two\nlines"}"#),
    ] {
        assert_eq!(activity(line).as_deref(), Some(expected));
    }
    for blank in ["", " ", "\r", "\t \r\n"] {
        assert_eq!(activity(blank), None);
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|fields| fields.into_iter().collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_said_serde_reads_back(value in any_value()) {
        let line = value.to_string();
        let said: Value = serde_json::from_str(&activity(&line).expect("not blank")).expect("JSON");
        // Compared with what the line says: not every float survives being spelled.
        let meant: Value = serde_json::from_str(&line).expect("JSON");
        if meant.is_object() {
            prop_assert_eq!(said, meant);
        } else {
            prop_assert_eq!(&said["message"], &Value::from(line));
        }
    }

    #[test]
    fn no_text_breaks_the_line_it_is_sent_in(text in any::<String>()) {
        if let Some(sent) = activity(&text) {
            let said: Value = serde_json::from_str(&sent).expect("JSON");
            let meant = serde_json::from_str::<Value>(&text).ok().filter(Value::is_object);
            let text = text.trim_end_matches(['\r', '\n']);
            prop_assert_eq!(&said, &meant.unwrap_or_else(|| serde_json::json!({ "message": text })));
        }
    }
}
