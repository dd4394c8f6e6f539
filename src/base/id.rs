//! Names for things that live in slabs, so that an index, a count and a size never mix.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One connection: its slot in the slab and the generation of that slot's tenant.
///
/// A slot is used again after its link is gone, a `LinkId` never is (until 2³² links later): an event
/// that comes late for an earlier tenant carries an old generation and is recognised by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId {
    /// Index in the slab of links.
    pub slot: u32,
    /// Which tenant of the slot; the first is 1.
    pub generation: u32,
}

impl LinkId {
    /// Packs slot and generation into one word, for an event loop's token.
    pub fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The reverse of [`LinkId::pack`].
    pub fn unpack(word: u64) -> LinkId {
        LinkId { slot: word as u32, generation: (word >> 32) as u32 }
    }
}

impl fmt::Debug for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One registered name: its index in the registry. Names are never removed, so it stays good.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct UserId(pub u32);

/// One server: the first 16 bytes of SHA-256 of its public key. In text it is 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerId(pub [u8; 16]);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&digits(&self.0))
    }
}

impl fmt::Debug for ServerId {
    /// The first eight digits tell servers apart well enough for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&digits(&self.0[..4]))
    }
}

impl FromStr for ServerId {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<ServerId, &'static str> {
        match hex(text) {
            Some(bytes) => Ok(ServerId(bytes)),
            None => Err("a server's id is 32 hexadecimal digits"),
        }
    }
}

impl TryFrom<String> for ServerId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<ServerId, &'static str> {
        text.parse()
    }
}

impl From<ServerId> for String {
    fn from(id: ServerId) -> String {
        digits(&id.0)
    }
}

/// One client that numbers what it says, as everybody sees it: the first 16 bytes of SHA-256 of its name and
/// the secret id that it says to servers. In text it is 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub [u8; 16]);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&digits(&self.0))
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&digits(&self.0[..4]))
    }
}

/// Bytes as hexadecimal digits, twice as many.
pub fn digits(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from(b"0123456789abcdef"[usize::from(n)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// `N` bytes from twice as many hexadecimal digits.
pub fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let mut bytes = [0; N];
    if digits.len() != 2 * N || !digits.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// What one boot of one server says: 64 bits drawn at its start, so that no numbering ever goes on over
/// a boot, a copied directory or a lost one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub u64);

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_id_is_read_back_from_its_digits() {
        let id = ServerId(std::array::from_fn(|i| i as u8 * 17));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("12".parse::<ServerId>().is_err() && "é".repeat(16).parse::<ServerId>().is_err());
        assert_eq!(serde_json::from_str::<ServerId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
    }

    #[test]
    fn a_link_id_survives_packing() {
        let id = LinkId { slot: 7, generation: u32::MAX };
        assert_eq!(LinkId::unpack(id.pack()), id);
        assert_eq!(id.to_string(), "7.4294967295");
    }
}
