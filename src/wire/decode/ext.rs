//! What a client with an id says of itself in LOGIN and REGISTER.

use simd_json::{Node, StaticNode};

use super::{Member, Source};
use crate::base::id::{StreamId, hex};
use crate::base::limits::{AT_MAX, OWN_MAX};
use crate::base::vector::Vector;
use crate::wire::message::{Ext, Refusal};

impl Source<'_, '_> {
    /// The member `ext`, if it is there.
    pub(super) fn ext(&self, member: Option<Member>) -> Result<Option<Box<Ext>>, Refusal> {
        let Some(member) = member else { return Ok(None) };
        let Node::Object { .. } = self.nodes[member.value] else {
            return Err(Refusal::Ext("\"ext\" must be an object"));
        };
        let (mut client, mut from, mut at, mut own) = (None, 1, None, Vec::new());
        for member in self.members(member.value) {
            match member.key {
                "client" => client = self.string(member.value).and_then(hex),
                "from" => {
                    from = self.number(member.value).filter(|from| *from > 0).ok_or(Refusal::Ext(
                        "\"from\" in \"ext\" must be a whole number from 1 on: the first message that can be said again",
                    ))?;
                }
                "at" => at = Some(self.position(member.value)?),
                "own" => own = self.own(member.value).ok_or(Refusal::Ext(OWN))?,
                _ => {}
            }
        }
        let client = client.ok_or(Refusal::Ext("\"client\" in \"ext\" must be 32 hexadecimal digits"))?;
        Ok(Some(Box::new(Ext { client, from, at, own })))
    }

    /// A whole number that is not negative.
    pub(super) fn number(&self, at: usize) -> Option<u64> {
        match self.nodes[at] {
            Node::Static(StaticNode::I64(n)) => u64::try_from(n).ok(),
            Node::Static(StaticNode::U64(n)) => Some(n),
            _ => None,
        }
    }

    /// Some `[number, stream, number there]`.
    fn own(&self, at: usize) -> Option<Vec<(u64, StreamId, u64)>> {
        let Node::Array { len: ..=OWN_MAX, .. } = self.nodes[at] else { return None };
        let one = |at| {
            let Node::Array { len: 3, .. } = self.nodes[at] else { return None };
            let mut parts = self.elements(at);
            let n = self.number(parts.next()?)?;
            let stream = self.stream(self.string(parts.next()?)?)?;
            Some((n, stream, self.number(parts.next()?)?))
        };
        self.elements(at).map(one).collect()
    }

    fn stream(&self, text: &str) -> Option<StreamId> {
        hex::<8>(text).map(|bytes| StreamId(u64::from_be_bytes(bytes)))
    }

    fn position(&self, at: usize) -> Result<Vector, Refusal> {
        let Node::Object { len, .. } = self.nodes[at] else { return Err(Refusal::Ext(AT)) };
        if len > AT_MAX {
            return Err(Refusal::Ext("\"at\" in \"ext\" names more than 1024 streams"));
        }
        let one = |member: Member| Some((self.stream(member.key)?, self.number(member.value)?));
        let all: Option<Vec<_>> = self.members(at).map(one).collect();
        all.map(Vector::from).ok_or(Refusal::Ext(AT))
    }
}

const AT: &str =
    "\"at\" in \"ext\" must be an object: for each stream, of 16 hexadecimal digits, the last number had";
const OWN: &str = "\"own\" in \"ext\" must be an array of at most 64 [number, stream, number there]";
const _: () = assert!(AT_MAX == 1024 && OWN_MAX == 64, "refusals name them");
