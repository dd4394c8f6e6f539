//! How far a reader or a server is in each stream: a position between servers, as an offset is one
//! inside a server.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::StreamId;

/// The last sequence number of each stream that is had; a stream that is not named stands at 0. A copy shares them
/// until one of both moves: most sessions begin where another did.
/// Invariant: streams rise, no number is 0, and there is one at least if any.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(StreamId, u64)>", into = "Vec<(StreamId, u64)>")]
pub struct Vector(Option<Arc<[(StreamId, u64)]>>);

/// Where a vector stands elsewhere than another: 0 for a stream that only the other has.
pub type Changes = Vec<(StreamId, u64)>;

impl Vector {
    /// Nothing of any stream.
    pub const NOTHING: Vector = Vector(None);

    fn all(&self) -> &[(StreamId, u64)] {
        self.0.as_deref().unwrap_or_default()
    }

    /// How many streams it names.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// True if it names no stream.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The position in one stream.
    pub fn get(&self, stream: StreamId) -> u64 {
        let all = self.all();
        all.binary_search_by_key(&stream, |(s, _)| *s).map_or(0, |i| all[i].1)
    }

    /// Raises the position in one stream to `seq`, if it is below.
    pub fn raise(&mut self, stream: StreamId, seq: u64) {
        match self.all().binary_search_by_key(&stream, |(s, _)| *s) {
            Ok(i) if self.all()[i].1 < seq => {
                let Some(all) = self.0.as_mut() else { return };
                Arc::make_mut(all)[i].1 = seq;
            }
            Err(i) if seq > 0 => {
                let (below, above) = self.all().split_at(i);
                *self = sorted([below, &[(stream, seq)], above].concat());
            }
            _ => {}
        }
    }

    /// Forgets one stream.
    pub fn remove(&mut self, stream: StreamId) {
        if self.get(stream) > 0 {
            *self = self.iter().filter(|(s, _)| *s != stream).collect();
        }
    }

    /// Everything that either has.
    pub fn max(self, other: &Vector) -> Vector {
        match (self.covers(other), other.covers(&self)) {
            (true, _) => self,
            (false, true) => other.clone(),
            (false, false) => self.iter().chain(other.iter()).collect(),
        }
    }

    /// What both have.
    pub fn min(self, other: &Vector) -> Vector {
        match other.covers(&self) {
            true => self,
            false => self.iter().map(|(stream, seq)| (stream, seq.min(other.get(stream)))).collect(),
        }
    }

    /// The streams in which this stands elsewhere than `other`, each with where.
    pub fn changes_from(&self, other: &Vector) -> Changes {
        let gone = other.iter().filter(|(stream, _)| self.get(*stream) == 0).map(|(stream, _)| (stream, 0));
        self.iter().filter(|(stream, seq)| other.get(*stream) != *seq).chain(gone).collect()
    }

    /// This, but for what stands elsewhere: what [`Vector::changes_from`] this has named.
    pub fn changed(&self, changes: &[(StreamId, u64)]) -> Vector {
        if changes.is_empty() {
            return self.clone();
        }
        let mut streams: Vec<StreamId> = changes.iter().map(|(stream, _)| *stream).collect();
        streams.sort_unstable();
        let same = self.iter().filter(|(stream, _)| streams.binary_search(stream).is_err());
        same.chain(changes.iter().copied()).collect()
    }

    /// True when this has all that `other` has.
    pub fn covers(&self, other: &Vector) -> bool {
        other.iter().all(|(stream, seq)| self.get(stream) >= seq)
    }

    /// Streams and positions, in the order of streams.
    pub fn iter(&self) -> impl Iterator<Item = (StreamId, u64)> {
        self.all().iter().copied()
    }

    /// How many messages it stands for: orders positions of which one covers the other.
    pub fn total(&self) -> u64 {
        self.iter().fold(0, |n, (_, seq)| n.saturating_add(seq))
    }
}

impl FromIterator<(StreamId, u64)> for Vector {
    fn from_iter<I: IntoIterator<Item = (StreamId, u64)>>(positions: I) -> Vector {
        Vector::from(positions.into_iter().collect::<Vec<_>>())
    }
}

impl From<Vec<(StreamId, u64)>> for Vector {
    /// Takes positions in any order; of a stream that is named twice the higher one.
    fn from(mut positions: Vec<(StreamId, u64)>) -> Vector {
        positions.retain(|(_, seq)| *seq > 0);
        positions.sort_unstable_by_key(|(stream, seq)| (*stream, std::cmp::Reverse(*seq)));
        positions.dedup_by_key(|(stream, _)| *stream);
        sorted(positions)
    }
}

impl From<Vector> for Vec<(StreamId, u64)> {
    fn from(vector: Vector) -> Vec<(StreamId, u64)> {
        vector.all().to_vec()
    }
}

impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn sorted(positions: Vec<(StreamId, u64)>) -> Vector {
    Vector((!positions.is_empty()).then(|| positions.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(positions: &[(u64, u64)]) -> Vector {
        positions.iter().map(|(stream, seq)| (StreamId(*stream), *seq)).collect()
    }

    #[test]
    fn bounds_and_order_are_those_of_every_stream() {
        let (a, b) = (vector(&[(9, 1), (1, 5), (9, 4)]), vector(&[(1, 3), (2, 2)]));
        assert_eq!(a.clone().max(&b), vector(&[(1, 5), (2, 2), (9, 4)]));
        assert_eq!(a.clone().min(&b), vector(&[(1, 3)]));
        assert!(!a.covers(&b) && a.clone().max(&b).covers(&b) && a.covers(&Vector::NOTHING));
        assert_eq!((a.get(StreamId(9)), a.get(StreamId(2)), a.total()), (4, 0, 9));
        let changes = a.changes_from(&b);
        assert_eq!(changes, [(StreamId(1), 5), (StreamId(9), 4), (StreamId(2), 0)]);
        assert_eq!(b.changed(&changes), a);
        let text = serde_json::to_string(&a).unwrap();
        assert_eq!(text, "[[1,5],[9,4]]");
        assert_eq!(serde_json::from_str::<Vector>(&text).unwrap(), a);
    }
}
