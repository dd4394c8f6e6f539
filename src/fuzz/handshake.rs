//! Any bytes to both ends of a link between servers: raw, or as changes to a proof that would succeed.

use std::sync::OnceLock;

use zeroize::Zeroizing;

use crate::server::noise::{Came, Credentials, RECORD_BYTES, Tunnel};
use crate::server::secret::Keys;
use crate::wire::encode;

/// The first byte of `input` chooses, each of the others is used up in turn:
///
/// - 0: the other end gets the rest of it as its first line, up to the LF, and what follows that.
/// - 1: a dialler gets the rest of it as what its other end says.
/// - else: two servers of one secret prove themselves and talk. Of each piece that is carried two bytes say
///   how long it is and what happens to it: nothing, mostly; or a byte is changed, left out or put in.
pub fn handshake(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let [ann, bob] = credentials();
    match mode {
        0 => {
            let cut = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            if let Ok(tunnel) = Tunnel::answer(bob, &rest[..cut]) {
                alone(tunnel, rest.get(cut + 1..).unwrap_or_default());
            }
        }
        1 => alone(Tunnel::dial(ann, &encode::hello(ann.id)), rest),
        _ => together(ann, bob, rest),
    }
}

/// Two servers with one secret.
fn credentials() -> &'static [Credentials; 2] {
    static BOTH: OnceLock<[Credentials; 2]> = OnceLock::new();
    BOTH.get_or_init(|| {
        let key = || Zeroizing::new([7; 32]);
        let new = || Credentials::new(&Keys { links: key(), verifiers: key() });
        [new().expect("random bytes"), new().expect("random bytes")]
    })
}

/// Bytes of somebody without the secret prove nothing and take bounded memory.
fn alone(mut tunnel: Tunnel, bytes: &[u8]) {
    let mut broken = false;
    for piece in bytes.chunks(997) {
        tunnel.take(piece);
        match tunnel.receive() {
            Ok(Came::Nothing) => assert!(!broken && tunnel.held() < 2 + RECORD_BYTES),
            Ok(came) => panic!("{came:?} from nobody"),
            Err(_) => broken = true,
        }
        if broken {
            break;
        }
    }
    assert_eq!(tunnel.seal(b"x"), 0, "nothing is said to nobody");
}

/// One end of a link, and what came to it.
struct End {
    tunnel: Tunnel,
    proofs: usize,
    heard: Vec<u8>,
    broken: bool,
    /// What the other end wrote was changed on its way here.
    deceived: bool,
}

impl End {
    fn new(tunnel: Tunnel) -> End {
        End { tunnel, proofs: 0, heard: Vec::new(), broken: false, deceived: false }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.tunnel.take(bytes);
        while !self.broken {
            match self.tunnel.receive() {
                Ok(Came::Nothing) => return,
                Ok(Came::Proof { .. }) => {
                    self.proofs += 1;
                    assert!(self.heard.is_empty(), "proven before it is heard");
                }
                Ok(Came::Record(record)) => {
                    assert_eq!(self.proofs, 1, "heard before it is proven");
                    self.heard.extend_from_slice(record);
                }
                Err(_) => self.broken = true,
            }
        }
    }
}

fn together(ann: &Credentials, bob: &Credentials, script: &[u8]) {
    let hello = encode::hello(ann.id);
    let mut dial = Tunnel::dial(ann, &hello);
    dial.written(hello.len());
    let line = hello.strip_suffix(b"\n").unwrap_or(&hello);
    let mut ends = [dial, Tunnel::answer(bob, line).expect("it is a server's line")].map(End::new);
    let said: [&[u8]; 2] = [b"what ann says", b"what bob says, which is longer"];
    let mut at = [0; 2];
    let mut script = script.iter().copied();
    loop {
        for i in 0..2 {
            let rest = &said[i][at[i]..];
            at[i] += if rest.is_empty() { 0 } else { ends[i].tunnel.seal(rest) };
        }
        let Some(from) = (0..2).find(|i| !ends[*i].tunnel.out().is_empty()) else { break };
        let out = ends[from].tunnel.out();
        let (size, what) = (script.next(), script.next());
        let n = size.map_or(out.len(), |size| 1 + usize::from(size)).min(out.len());
        let mut piece = out[..n].to_vec();
        ends[from].tunnel.written(n);
        let place = usize::from(what.unwrap_or(0) >> 2) % n;
        match what.unwrap_or(0) & 3 {
            1 => piece[place] ^= 1 << (n % 8),
            2 => drop(piece.remove(place)),
            3 => piece.insert(place, n as u8),
            _ => {}
        }
        ends[1 - from].deceived |= what.is_some_and(|what| what & 3 > 0);
        ends[1 - from].take(&piece);
    }
    for (i, end) in ends.iter().enumerate() {
        assert!(said[1 - i].starts_with(&end.heard), "it hears what the other says, or nothing");
        assert!(end.proofs <= 1);
    }
    if !ends.iter().any(|end| end.deceived) {
        assert!(ends.iter().enumerate().all(|(i, end)| end.proofs == 1 && end.heard == said[1 - i]));
    }
}
