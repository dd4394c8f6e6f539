use super::*;
use crate::wire::encode;

fn server(secret: u8) -> Credentials {
    let key = || Zeroizing::new([secret; 32]);
    Credentials::new(&Keys { links: key(), verifiers: key() }).unwrap()
}

/// Both ends, and what came at each but records.
struct Pair {
    ends: [Tunnel; 2],
    proofs: [Vec<ServerId>; 2],
    records: [Vec<Vec<u8>>; 2],
    errors: [Option<Unproven>; 2],
    /// What the dialler wrote, first line included.
    dialled: Vec<u8>,
}

impl Pair {
    fn new(dialler: &Credentials, other: &Credentials) -> Pair {
        let hello = encode::hello(dialler.id);
        let mut dial = Tunnel::dial(dialler, &hello);
        let answer = Tunnel::answer(other, hello.strip_suffix(b"\n").unwrap()).unwrap();
        assert!(dial.out().starts_with(&hello));
        dial.written(hello.len());
        Pair {
            ends: [dial, answer],
            proofs: Default::default(),
            records: Default::default(),
            errors: Default::default(),
            dialled: hello,
        }
    }

    /// Carries bytes to and fro, so many at a time, until there are none.
    fn run(&mut self, step: usize) {
        while let Some(from) = (0..2).find(|end| !self.ends[*end].out().is_empty()) {
            let out = self.ends[from].out();
            let bytes = out[..step.min(out.len())].to_vec();
            self.ends[from].written(bytes.len());
            if from == 0 {
                self.dialled.extend_from_slice(&bytes);
            }
            self.take(1 - from, &bytes);
        }
    }

    fn take(&mut self, end: usize, bytes: &[u8]) {
        self.ends[end].take(bytes);
        loop {
            match self.ends[end].receive() {
                Ok(Came::Nothing) => return,
                Ok(Came::Proof { server, .. }) => self.proofs[end].push(server),
                Ok(Came::Record(record)) => self.records[end].push(record.to_vec()),
                Err(why) => {
                    self.errors[end] = Some(why);
                    return;
                }
            }
        }
    }
}

#[test]
fn both_ends_are_proven_once_and_records_cross_in_any_pieces() {
    let (ann, bob) = (server(1), server(1));
    for step in [1, 7, 100_000] {
        let mut pair = Pair::new(&ann, &bob);
        pair.run(step);
        assert_eq!(pair.proofs, [vec![bob.id], vec![ann.id]]);
        let long = vec![b'x'; RECORD_BYTES + 1];
        assert_eq!(pair.ends[0].seal(&long), RECORD_BYTES);
        assert_eq!(pair.ends[0].seal(&long[RECORD_BYTES..]), 1);
        assert_eq!(pair.ends[1].seal(b"hi"), 2);
        pair.run(step);
        assert_eq!(pair.records, [vec![b"hi".to_vec()], vec![long[1..].to_vec(), b"x".to_vec()]]);
        assert_eq!((pair.errors, pair.ends.map(|end| end.held())), ([None, None], [0, 0]));
    }
}

#[test]
fn another_secret_proves_nothing_and_shows_at_the_third_message() {
    let mut pair = Pair::new(&server(1), &server(2));
    pair.run(999);
    assert_eq!(pair.errors, [None, Some(Unproven::Secret)]);
    assert_eq!(pair.proofs, [vec![], vec![]]);
    assert!(pair.ends[0].is_unconfirmed(), "the dialler learns it from the end of the connection");
    assert_eq!((pair.ends[0].seal(b"x"), pair.ends[1].seal(b"x")), (0, 0), "nothing can be said");
    let forged = [&[0, TAG as u8][..], &[7; TAG]].concat();
    pair.take(0, &forged);
    assert_eq!(pair.errors[0], Some(Unproven::Secret));
}

#[test]
fn a_server_that_dials_itself_learns_it_at_once() {
    let own = server(1);
    let mut pair = Pair::new(&own, &own);
    pair.run(999);
    assert_eq!(pair.proofs, [vec![own.id], vec![]]);
}

#[test]
fn what_was_recorded_proves_nothing_again() {
    let (ann, bob) = (server(1), server(1));
    let mut pair = Pair::new(&ann, &bob);
    pair.run(999);
    let hello = encode::hello(ann.id);
    let recorded = pair.dialled[hello.len()..].to_vec();
    let mut again = Pair::new(&ann, &bob);
    again.take(1, &recorded);
    assert_eq!((again.errors[1].clone(), again.proofs[1].len()), (Some(Unproven::Secret), 0));
}

#[test]
fn the_first_line_is_part_of_what_is_proven() {
    let (ann, bob, eve) = (server(1), server(1), server(1));
    // Another's id in the line: the key does not fit it.
    let hello = encode::hello(eve.id);
    let line = hello.strip_suffix(b"\n").unwrap();
    let mut pair = Pair::new(&ann, &bob);
    pair.ends = [Tunnel::dial(&ann, &hello), Tunnel::answer(&bob, line).unwrap()];
    pair.ends[0].written(hello.len());
    pair.run(999);
    assert_eq!((pair.errors[1].clone(), pair.proofs), (Some(Unproven::Impostor), [vec![], vec![]]));
    // A line that was changed on its way.
    let mut pair = Pair::new(&ann, &bob);
    pair.ends[1] = Tunnel::answer(&bob, line).unwrap();
    pair.run(999);
    assert_eq!(pair.errors[1], Some(Unproven::Garbage));
}

#[test]
fn lines_and_messages_that_no_server_sends_are_refused() {
    let own = server(1);
    let answer = |line: &str| Tunnel::answer(&own, line.as_bytes()).err();
    let id = "ab".repeat(16);
    assert_eq!(answer(r#"{"command":"SERVER_HELLO","#), Some(Unproven::Hello));
    assert_eq!(answer(r#"{"command":"SERVER_HELLO","version":1}"#), Some(Unproven::Hello));
    assert_eq!(answer(r#"{"command":"SERVER_HELLO","version":1,"id":"x"}"#), Some(Unproven::Hello));
    let line = format!(r#"{{"command":"SERVER_HELLO","version":1,"id":"{id}","more":[1]}}"#);
    for bytes in [&[0, 0][..], &[255, 255], &[0, 48, 1], &[0; 50], &[&[0, 48][..], &[255; 48]].concat()] {
        let mut tunnel = Tunnel::answer(&own, line.as_bytes()).unwrap();
        tunnel.take(bytes);
        let wanted = if bytes.len() == 3 { Ok(Came::Nothing) } else { Err(Unproven::Garbage) };
        assert_eq!(tunnel.receive(), wanted, "{bytes:?}");
        assert!(tunnel.out().is_empty());
    }
}

#[test]
fn a_record_that_was_changed_or_repeated_breaks_the_link() {
    let (ann, bob) = (server(1), server(1));
    for repeat in [false, true] {
        let mut pair = Pair::new(&ann, &bob);
        pair.run(999);
        pair.ends[0].seal(b"hello");
        let mut record = pair.ends[0].out().to_vec();
        if repeat {
            pair.take(1, &record);
        } else {
            record[4] ^= 1;
        }
        pair.take(1, &record);
        assert_eq!(
            (pair.errors[1].clone(), pair.records[1].len()),
            (Some(Unproven::Tampered), usize::from(repeat))
        );
        pair.take(1, &record);
        assert_eq!(pair.errors[1], Some(Unproven::Tampered), "and stays broken");
    }
}
