//! Positions between servers, said as what changed: vectors have a number for each boot that ever spoke, and a login
//! names several, but since the last FRONTIER few of them moved.

use super::peer::PeerMessage;
use crate::base::vector::{Changes, Vector};

impl PeerMessage {
    /// The same as it is sent to who knows from a FRONTIER that its sender holds `base`: positions are said as their
    /// changes from that, where these are fewer. None if it has no positions.
    pub fn shortened(&self, base: &Vector) -> Option<PeerMessage> {
        let has_positions = matches!(
            self,
            PeerMessage::SessionClaim(_)
                | PeerMessage::SessionRelease(_)
                | PeerMessage::SessionUpdate(_)
                | PeerMessage::SessionTable(_)
        );
        let mut short = has_positions.then(|| self.clone())?;
        short.positions(&mut |vector, changes| {
            let few = vector.as_ref().map(|vector| vector.changes_from(base));
            if few.as_ref().map(Vec::len) < vector.as_ref().map(Vector::len) {
                (*vector, *changes) = (None, few);
            }
        });
        Some(short)
    }

    /// Undoes [`PeerMessage::shortened`].
    pub fn lengthen(&mut self, base: &Vector) {
        self.positions(&mut |vector, changes| {
            if let Some(changes) = changes.take() {
                *vector = Some(base.changed(&changes));
            }
        });
    }

    fn positions(&mut self, each: &mut dyn FnMut(&mut Option<Vector>, &mut Option<Changes>)) {
        let entries = match self {
            PeerMessage::SessionClaim(claim) => std::slice::from_mut(&mut claim.entry),
            PeerMessage::SessionRelease(release) => {
                each(&mut release.applied, &mut release.changes);
                &mut release.entries[..]
            }
            PeerMessage::SessionUpdate(update) => {
                update.lowered.iter_mut().for_each(|entry| each(&mut entry.vector, &mut entry.changes));
                std::slice::from_mut(&mut update.entry)
            }
            PeerMessage::SessionTable(table) => &mut table.entries[..],
            _ => return,
        };
        entries.iter_mut().for_each(|entry| each(&mut entry.vector, &mut entry.changes));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::hlc::{Generation, Hlc};
    use crate::base::id::{ServerId, StreamId};
    use crate::wire::peer::{Entry, Release, State, Table, Update};

    fn vector() -> impl Strategy<Value = Vector> {
        prop::collection::vec((0_u64..9, 0_u64..3), 0..9)
            .prop_map(|all| all.into_iter().map(|(stream, seq)| (StreamId(stream), seq)).collect())
    }

    fn messages(vectors: &[Vector]) -> [PeerMessage; 3] {
        let generation = Generation { at: Hlc(1), by: ServerId([1; 16]) };
        let bob = Entry::new("bob".into(), generation, StreamId(1), State::Broken);
        let entry = |vector: Option<&Vector>| Entry { vector: vector.cloned(), ..bob.clone() };
        let entries: Vec<Entry> = vectors.iter().map(Some).chain([None]).map(entry).collect();
        let release = Release {
            generation,
            entries: entries.clone(),
            last: vectors[0].clone(),
            taken: Vec::new(),
            applied: Some(vectors[1].clone()),
            changes: None,
            spared_ms: None,
            sent_away: false,
        };
        let lowered = entries.clone();
        let update = Update {
            entry: entry(vectors.first()),
            taken: Vec::new(),
            lowered,
            beside: None,
            unheard: Vec::new(),
        };
        [
            PeerMessage::SessionRelease(release),
            PeerMessage::SessionUpdate(update),
            PeerMessage::SessionTable(Table { entries, taken: Vec::new() }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_shortened_is_understood_and_no_longer(base in vector(), vectors in prop::collection::vec(vector(), 3)) {
            for message in messages(&vectors) {
                let long = serde_json::to_string(&message).unwrap();
                let short = serde_json::to_string(&message.shortened(&base).unwrap()).unwrap();
                // Another key is used.
                prop_assert!(short.len() <= long.len() + 5 * "changes".len());
                let mut again: PeerMessage = serde_json::from_str(&short).unwrap();
                again.lengthen(&base);
                prop_assert_eq!(again, message);
            }
        }
    }

    #[test]
    fn what_stands_where_it_was_said_to_costs_nothing() {
        let base: Vector = (1..=1_000).map(|stream| (StreamId(stream), 7)).collect();
        for message in messages(&vec![base.clone(); 3]) {
            let short = message.shortened(&base).unwrap();
            let names = serde_json::to_string(&short).unwrap().matches("[1,7]").count();
            assert_eq!(
                names,
                usize::from(matches!(message, PeerMessage::SessionRelease(_))),
                "how far a name spoke"
            );
        }
        assert_eq!(PeerMessage::Heartbeat.shortened(&base), None);
    }
}
