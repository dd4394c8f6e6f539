//! What of its own messages a client with an id has heard, and where they stood: so a server that knows nothing of
//! it any more can tell which were shown there.

use serde::{Deserialize, Serialize};

use crate::base::id::{ClientId, StreamId, hex};
use crate::base::limits::OWN_MAX;
use crate::base::seen::Seen;

/// See the module's page.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    /// What the client is called in `id`, when a server has said it.
    pub id: Option<ClientId>,
    heard: Seen,
    /// The last that came by each stream, its stream, and its number there; in order.
    by: Vec<(u64, StreamId, u64)>,
}

/// The same, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    id: Option<String>,
    heard: Vec<(u64, u64)>,
    by: Vec<(u64, u64, u64)>,
}

impl Own {
    /// The client is called so. False if that is known; one with another name begins anew.
    pub fn is_called(&mut self, id: ClientId) -> bool {
        let is_new = self.id != Some(id);
        if is_new {
            *self = Own { id: Some(id), ..Own::default() };
        }
        is_new
    }

    /// One of them came. False if it was heard before.
    pub fn hear(&mut self, n: u64, stream: StreamId, seq: u64) -> bool {
        if !self.heard.add_above(n) {
            return false;
        }
        match self.by.last_mut().filter(|last| last.1 == stream && last.0 < n) {
            Some(last) => *last = (n, stream, seq.max(last.2)),
            None => {
                let had = self.by.iter().position(|by| by.1 == stream).map(|i| self.by.remove(i));
                let had = had.unwrap_or((0, stream, 0));
                self.by.push((n.max(had.0), stream, seq.max(had.2)));
                self.by.sort_unstable();
                self.by.drain(..self.by.len().saturating_sub(OWN_MAX));
            }
        }
        true
    }

    /// The member that LOGIN's `ext` has. Nothing while one is missing: then it is not known what was shown.
    pub fn ext(&self) -> String {
        if self.heard.ranges().count() != 1 {
            return String::new();
        }
        let one = |(n, stream, seq): &(u64, StreamId, u64)| format!("[{n},\"{stream:?}\",{seq}]");
        format!(r#","own":[{}]"#, self.by.iter().map(one).collect::<Vec<_>>().join(","))
    }

    pub fn state(&self) -> State {
        State {
            id: self.id.map(|id| id.to_string()),
            heard: self.heard.ranges().collect(),
            by: self.by.iter().map(|(n, stream, seq)| (*n, stream.0, *seq)).collect(),
        }
    }

    /// None if what was kept makes no sense.
    pub fn restore(state: State) -> Option<Own> {
        let id = match state.id {
            Some(id) => Some(ClientId(hex(&id)?)),
            None => None,
        };
        let by = state.by.into_iter().map(|(n, stream, seq)| (n, StreamId(stream), seq)).collect();
        Some(Own { id, heard: Seen::from_ranges(state.heard), by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_last_of_each_stream_and_nothing_while_one_is_missing() {
        let (a, b) = (StreamId(0xa), StreamId(0xb));
        let mut own = Own::default();
        assert_eq!(own.ext(), "");
        assert!(own.hear(3, a, 10) && own.hear(4, a, 11) && own.hear(5, b, 2));
        assert!(!own.hear(4, b, 9), "heard before");
        assert!(!own.hear(2, b, 9), "from before it began to listen");
        assert_eq!(own.ext(), r#","own":[[4,"000000000000000a",11],[5,"000000000000000b",2]]"#);
        assert!(own.hear(7, a, 12));
        assert_eq!(own.ext(), "");
        assert!(own.hear(6, b, 3));
        assert_eq!(own.ext(), r#","own":[[6,"000000000000000b",3],[7,"000000000000000a",12]]"#);
        let again = Own::restore(own.state()).unwrap();
        assert_eq!(again.state(), own.state());
        (8..300).for_each(|n| assert!(own.hear(n, StreamId(n), 1)));
        assert_eq!((own.by.len(), own.by[0].0), (OWN_MAX, 300 - OWN_MAX as u64));
    }
}
