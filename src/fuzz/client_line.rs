//! Any line through the decoder and the encoder, beside the [second opinion](super::reference).

use std::mem::discriminant;

use super::reference::{self, Fault, Json, Message};
use crate::wire::decode::Decoder;
use crate::wire::encode;
use crate::wire::message::{Activity, ClientMessage, Refusal};

/// A broadcast's limit that no input of a fuzzer reaches.
const NO_LIMIT: usize = 64 << 20;

/// Reads each line of `input` with one decoder, so that every line finds what the one before left in its
/// buffers; writes the broadcast of each activity. Both must be as the second opinion has them.
pub fn client_line(input: &[u8]) {
    let mut decoder = Decoder::default();
    for line in input.split(|b| *b == b'\n') {
        one(&mut decoder, line);
    }
    // An LF is white space to a parser. No shell gives one, but nothing may hang on that.
    one(&mut decoder, input);
}

fn one(decoder: &mut Decoder, line: &[u8]) {
    let text = reference::text(line);
    match (reference::read(&text), decoder.decode(line)) {
        (Err(faults), Err(refusal)) => {
            let no_object = refusal == Refusal::NotAnObject && !text.trim_start().starts_with('{');
            let is_right = no_object || faults.iter().any(|fault| is_answer(*fault, &refusal));
            assert!(is_right, "{faults:?}, not {refusal:?}");
        }
        (Ok(json), ours) => match (reference::message(&json), ours) {
            (Ok(want), Ok(message)) => same(&want, &message),
            (Err(want), Err(refusal)) => assert_eq!(discriminant(&want), discriminant(&refusal)),
            (want, ours) => panic!("{want:?}, but {ours:?}"),
        },
        (Err(faults), Ok(message)) => panic!("{faults:?}, but {message:?}"),
    }
}

/// A broken line stays broken whatever is found first in it; a fault of a line that is JSON has its name.
fn is_answer(fault: Fault, refusal: &Refusal) -> bool {
    match refusal {
        Refusal::NotJson => fault == Fault::Grammar,
        Refusal::TooDeep => matches!(fault, Fault::Grammar | Fault::Depth),
        Refusal::Number => matches!(fault, Fault::Grammar | Fault::Number),
        Refusal::Escape => matches!(fault, Fault::Grammar | Fault::Escape),
        _ => false,
    }
}

fn same(want: &Message, message: &ClientMessage) {
    match (want, message.clone()) {
        (Message::Logout, ClientMessage::Logout) => {}
        (Message::Invalid(want), ClientMessage::Invalid { info }) => assert_eq!(want, info),
        (Message::Login(name, key), ClientMessage::Login { username, secret, .. })
        | (Message::Register(name, key), ClientMessage::Register { username, secret, .. }) => {
            assert_eq!((&**name, &**key), (username, secret));
        }
        (
            Message::Activity(name, key, members),
            ClientMessage::Activity { username, secret, activity, .. },
        ) => {
            assert_eq!((&**name, &**key), (username, secret));
            said(members, username, &activity);
        }
        (want, message) => panic!("{want:?}, but {message:?}"),
    }
}

/// The broadcast is one line of printable ASCII, with the activity as it was said and its sender's name.
fn said(members: &[(String, Json)], name: &str, activity: &Activity) {
    const BEFORE: &[u8] = b"what was there\n";
    let mut out = BEFORE.to_vec();
    encode::broadcast(&mut out, activity, name, NO_LIMIT).expect("far below the limit");
    let frame = out[BEFORE.len()..].to_vec();
    assert_eq!(frame.iter().position(|b| *b == b'\n'), Some(frame.len() - 1), "one LF, at the end");
    let frame = std::str::from_utf8(&frame[..frame.len() - 1]).expect("ASCII");
    assert!(frame.bytes().all(|b| (0x20..0x80).contains(&b)), "{frame:?}");

    let mut want: Vec<_> = members.iter().filter(|(key, _)| key != "authenticated_user").cloned().collect();
    want.push(("authenticated_user".into(), Json::Text(name.into())));
    let command = ("command".to_owned(), Json::Text("ACTIVITY_BROADCAST".into()));
    let want = Json::Object(vec![command, ("activity".into(), Json::Object(want))]);
    assert_eq!(reference::read(frame), Ok(want), "{frame}");

    out.truncate(BEFORE.len());
    assert!(encode::broadcast(&mut out, activity, name, frame.len() - 1).is_err());
    assert_eq!(out, BEFORE, "a refused broadcast leaves nothing behind");
    assert!(encode::broadcast(&mut out, activity, name, frame.len()).is_ok());
}
