//! Names for things that live in slabs, so that an index, a count and a size never mix.

use std::fmt;

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
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct UserId(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_id_survives_packing() {
        let id = LinkId { slot: 7, generation: u32::MAX };
        assert_eq!(LinkId::unpack(id.pack()), id);
        assert_eq!(id.to_string(), "7.4294967295");
    }
}
