//! How two servers prove to each other that they have the cluster secret, and what keeps others out of
//! what they say: Noise XXpsk3 over any stream of bytes. Knows no socket.
//!
//! ```text
//!  dialler                                                       other end
//!     │  {"command":"SERVER_HELLO","version":1,"id":…} LF             │   in clear; proven with the rest
//!     │  e                                                            │
//!     │──────────────────────────────────────────────────────────────▶│
//!     │                                          e, ee, s, es         │   here the dialler knows the key,
//!     │◀──────────────────────────────────────────────────────────────│   but not yet that it has the secret
//!     │  s, se, psk                                                   │
//!     │──────────────────────────────────────────────────────────────▶│   proven: Joined
//!     │                                          an empty record      │
//!     │◀──────────────────────────────────────────────────────────────│
//!     │   proven: Joined                                              │
//! ```
//!
//! Every message and record is two bytes of length, the high one first, and so many bytes.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use snow::{Builder, HandshakeState, TransportState};
use zeroize::Zeroizing;

use super::secret::Keys;
use crate::base::id::ServerId;

const PATTERN: &str = "Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s";
/// Which of the pattern's messages the secret goes into.
const PSK_AT: u8 = 3;
/// Lengths of the three messages. Nothing rides on them, so any other length is no server's.
const MESSAGES: [usize; 3] = [48, 96, 64];
/// Bytes before a message or record.
const LENGTH: usize = 2;
/// What the cipher adds to each record.
const TAG: usize = 16;
/// Bytes of what is said in one record, at most.
pub const RECORD_BYTES: usize = 65_535 - TAG;

/// Who this server is to others, and the secret it shares with them.
pub struct Credentials {
    psk: Zeroizing<[u8; 32]>,
    private: Zeroizing<Vec<u8>>,
    /// What its links are proven with.
    pub public: [u8; 32],
    /// The first 16 bytes of SHA-256 of `public`.
    pub id: ServerId,
}

impl Credentials {
    /// A new key pair for this boot.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn new(keys: &Keys) -> Result<Credentials, String> {
        let pair = builder().generate_keypair().map_err(|error| format!("no key pair: {error}"))?;
        let private = Zeroizing::new(pair.private);
        let public = pair.public.try_into().map_err(|_| "a key pair of another kind")?;
        Ok(Credentials { psk: keys.links.clone(), private, public, id: id_of(&public) })
    }

    fn builder<'a>(&'a self, prologue: &'a [u8]) -> Builder<'a> {
        let with_key = builder().local_private_key(&self.private);
        let with_psk = with_key.and_then(|builder| builder.psk(PSK_AT, &self.psk));
        with_psk.and_then(|builder| builder.prologue(prologue)).expect("each is given once")
    }
}

/// The server of this public key.
pub fn id_of(key: &[u8; 32]) -> ServerId {
    let digest = Sha256::digest(key);
    ServerId(std::array::from_fn(|i| digest[i]))
}

fn builder<'a>() -> Builder<'a> {
    Builder::new(PATTERN.parse().expect("the pattern is one that snow has"))
}

/// Why the other end could not be proven to be a server of this network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unproven {
    /// Its first line is no SERVER_HELLO.
    Hello,
    /// What it sends is no part of a proof.
    Garbage,
    /// It has another secret, or repeats what another server once sent.
    Secret,
    /// It is not the server that its first line says.
    Impostor,
    /// After the proof something came that the other end has not said.
    Tampered,
}

impl std::fmt::Display for Unproven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unproven::Hello => write!(f, "its first line is no SERVER_HELLO of a server"),
            Unproven::Garbage => write!(f, "it is no server of this program and version"),
            Unproven::Secret => write!(
                f,
                "it is no server of this network, or has another secret: give both the same by -s or \
                 --secret-file"
            ),
            Unproven::Impostor => write!(f, "it is not the server it says it is"),
            Unproven::Tampered => write!(f, "what came was changed on its way"),
        }
    }
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Came<'a> {
    /// Nothing that is complete.
    Nothing,
    /// The last part of the proof: this server is there. Once a link, before all records.
    Proof {
        /// Who.
        server: ServerId,
        /// Its public key.
        key: [u8; 32],
    },
    /// What the other end said.
    Record(&'a [u8]),
}

enum State {
    /// The other end's next message is this one.
    Handshake(Box<HandshakeState>, usize),
    /// The dialler waits for the empty record from the server of this key.
    Unconfirmed(Box<TransportState>, [u8; 32]),
    Open(Box<TransportState>),
    Broken(Unproven),
}

/// One link: what came and is not understood yet, and what is to be written.
///
/// Invariant: of what came at most one record and one read are held, and before the proof no record but
/// one of the handshake's lengths.
pub struct Tunnel {
    state: State,
    /// Who the first line says that the dialler is; none at the dialler's end.
    claimed: Option<ServerId>,
    own: [u8; 32],
    came: Vec<u8>,
    at: usize,
    plain: Vec<u8>,
    out: Vec<u8>,
    out_at: usize,
}

impl Tunnel {
    /// The dialler's end. `hello` is its first line, LF included.
    pub fn dial(own: &Credentials, hello: &[u8]) -> Tunnel {
        let prologue = hello.strip_suffix(b"\n").unwrap_or(hello);
        let mut noise = own.builder(prologue).build_initiator().expect("a dialler needs no more");
        let mut out = hello.to_vec();
        let state = match say(&mut noise, &mut out) {
            Ok(()) => State::Handshake(Box::new(noise), 1),
            Err(why) => State::Broken(why),
        };
        Tunnel { out, ..Tunnel::new(own, state, None) }
    }

    /// The other end. `hello` is the first line, without its end.
    ///
    /// # Errors
    /// The line is none that a server of this version sends.
    pub fn answer(own: &Credentials, hello: &[u8]) -> Result<Tunnel, Unproven> {
        #[derive(Deserialize)]
        struct Hello {
            id: ServerId,
        }
        let line: Hello = serde_json::from_slice(hello).map_err(|_| Unproven::Hello)?;
        let noise = own.builder(hello).build_responder().expect("the other end needs no more");
        Ok(Tunnel::new(own, State::Handshake(Box::new(noise), 0), Some(line.id)))
    }

    fn new(own: &Credentials, state: State, claimed: Option<ServerId>) -> Tunnel {
        let [came, plain, out] = [const { Vec::new() }; 3];
        Tunnel { state, claimed, own: own.public, came, at: 0, plain, out, out_at: 0 }
    }

    /// True for a dialler that has said all it has to say and was not answered. If the other end closes now,
    /// it did not accept the proof.
    pub fn is_unconfirmed(&self) -> bool {
        matches!(self.state, State::Unconfirmed(..))
    }

    /// Takes bytes that came.
    pub fn take(&mut self, bytes: &[u8]) {
        self.came.extend_from_slice(bytes);
    }

    /// What of the taken bytes is complete. Ask until it is [`Came::Nothing`].
    ///
    /// # Errors
    /// The other end is no server of this network; nothing that follows can be understood.
    pub fn receive(&mut self) -> Result<Came<'_>, Unproven> {
        let result = self.advance();
        if let Err(why) = &result {
            self.state = State::Broken(why.clone());
        }
        match result? {
            Advance::Nothing => Ok(Came::Nothing),
            Advance::Proof(key) => Ok(Came::Proof { server: id_of(&key), key }),
            Advance::Record(n) => Ok(Came::Record(&self.plain[..n])),
        }
    }

    fn advance(&mut self) -> Result<Advance, Unproven> {
        if let State::Broken(why) = &self.state {
            return Err(why.clone());
        }
        while let Some(n) = self.complete()? {
            let from = self.at + LENGTH;
            self.at = from + n;
            let message = &self.came[from..self.at];
            match &mut self.state {
                State::Broken(why) => return Err(why.clone()),
                State::Open(noise) => {
                    let n = noise.read_message(message, &mut self.plain).map_err(|_| Unproven::Tampered)?;
                    return Ok(Advance::Record(n));
                }
                State::Unconfirmed(noise, key) => {
                    noise.read_message(message, &mut self.plain).map_err(|_| Unproven::Secret)?;
                    let key = *key;
                    self.open();
                    return Ok(Advance::Proof(key));
                }
                State::Handshake(noise, i) => {
                    let i = *i;
                    let why = if i == 2 { Unproven::Secret } else { Unproven::Garbage };
                    noise.read_message(message, &mut [0; TAG]).map_err(|_| why)?;
                    if let Some(key) = self.shake(i)? {
                        return Ok(Advance::Proof(key));
                    }
                }
            }
        }
        self.came.drain(..self.at);
        self.at = 0;
        Ok(Advance::Nothing)
    }

    /// The length of the message or record that is complete, if one is.
    fn complete(&self) -> Result<Option<usize>, Unproven> {
        let held = &self.came[self.at..];
        let Some(length) = held.get(..LENGTH) else { return Ok(None) };
        let n = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let right = match &self.state {
            State::Handshake(_, i) => n == MESSAGES[*i],
            State::Unconfirmed(..) => n == TAG,
            State::Open(_) | State::Broken(_) => n >= TAG,
        };
        if !right {
            return Err(Unproven::Garbage);
        }
        Ok((held.len() >= LENGTH + n).then_some(n))
    }

    /// Message `i` of the handshake was read. The key of the other end, if that is proven by it.
    fn shake(&mut self, i: usize) -> Result<Option<[u8; 32]>, Unproven> {
        let State::Handshake(noise, awaited) = &mut self.state else { return Ok(None) };
        let key = noise.get_remote_static().and_then(|key| <[u8; 32]>::try_from(key).ok());
        match (i, key) {
            (0, _) => {
                say(noise, &mut self.out)?;
                *awaited = 2;
                Ok(None)
            }
            // This server itself: nobody else has the key, and there is nobody to be told more.
            (1, Some(key)) if key == self.own => Ok(Some(key)),
            (1, Some(key)) => {
                say(noise, &mut self.out)?;
                self.plain = vec![0; RECORD_BYTES];
                self.transport(|noise| State::Unconfirmed(noise, key));
                Ok(None)
            }
            (2, Some(key)) if self.claimed == Some(id_of(&key)) => {
                self.plain = vec![0; RECORD_BYTES];
                self.transport(State::Open);
                self.seal(b"");
                Ok(Some(key))
            }
            _ => Err(Unproven::Impostor),
        }
    }

    /// The handshake's last message was said or read.
    fn transport(&mut self, then: impl FnOnce(Box<TransportState>) -> State) {
        let state = std::mem::replace(&mut self.state, State::Broken(Unproven::Garbage));
        if let State::Handshake(noise, _) = state {
            self.state = then(Box::new(noise.into_transport_mode().expect("the handshake is over")));
        }
    }

    /// The other end confirmed the proof.
    fn open(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Broken(Unproven::Garbage));
        if let State::Unconfirmed(noise, _) = state {
            self.state = State::Open(noise);
        }
    }

    /// Makes a record of the begin of `text`, if the other end is proven. How many bytes of it that took.
    pub fn seal(&mut self, text: &[u8]) -> usize {
        let State::Open(noise) = &mut self.state else { return 0 };
        let n = text.len().min(RECORD_BYTES);
        let from = self.out.len();
        self.out.extend_from_slice(&((n + TAG) as u16).to_be_bytes());
        self.out.resize(from + LENGTH + n + TAG, 0);
        let record = &mut self.out[from + LENGTH..];
        noise
            .write_message(&text[..n], record)
            .expect("no link lives for as many records as there are numbers");
        n
    }

    /// What is to be written.
    pub fn out(&self) -> &[u8] {
        &self.out[self.out_at..]
    }

    /// The first `n` bytes of that were written.
    pub fn written(&mut self, n: usize) {
        self.out_at += n;
        if self.out_at == self.out.len() {
            self.out.clear();
            self.out_at = 0;
        }
    }

    /// Bytes that came and wait for more.
    pub fn held(&self) -> usize {
        self.came.len() - self.at
    }
}

/// What [`Tunnel::receive`] found, before it borrows.
enum Advance {
    Nothing,
    Proof([u8; 32]),
    Record(usize),
}

/// Appends this end's next message.
fn say(noise: &mut HandshakeState, out: &mut Vec<u8>) -> Result<(), Unproven> {
    let mut message = [0; 2 * MESSAGES[1]];
    // The other end may have sent a key that nothing can be shared with.
    let n = noise.write_message(b"", &mut message).map_err(|_| Unproven::Garbage)?;
    out.extend_from_slice(&(n as u16).to_be_bytes());
    out.extend_from_slice(&message[..n]);
    Ok(())
}

#[cfg(test)]
mod tests;
