//! The servers a client knows, and which of them is tried next.
//!
//! Touches nothing of the world. Invariant: there is at least one, at most [`SERVERS_MAX`], none twice;
//! `next < known.len()`.

/// Servers that are remembered. The ones the client was started with stay; of the others the one that
/// worked longest ago goes first.
pub const SERVERS_MAX: usize = 64;

struct Known {
    host: String,
    port: u16,
    /// Named by whoever started the client, not by a server.
    given: bool,
}

/// Known servers, the one that worked last at the front.
pub(super) struct Servers {
    known: Vec<Known>,
    next: usize,
}

impl Servers {
    /// Of the addresses given the first is tried first; there must be one.
    pub(super) fn new(given: impl IntoIterator<Item = (String, u16)>) -> Servers {
        let mut servers = Servers { known: Vec::new(), next: 0 };
        for (host, port) in given {
            if servers.find(&host, port).is_none() && servers.known.len() < SERVERS_MAX {
                servers.known.push(Known { host, port, given: true });
            }
        }
        assert!(!servers.known.is_empty(), "a client is told of a server");
        servers
    }

    /// The one to connect to now.
    pub(super) fn next(&self) -> (&str, u16) {
        let known = &self.known[self.next];
        (&known.host, known.port)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// There is one, too; it is tried after all others.
    pub(super) fn learn(&mut self, host: &str, port: u16) {
        if self.find(host, port).is_some() {
            return;
        }
        if self.known.len() == SERVERS_MAX {
            match self.known.iter().rposition(|known| !known.given) {
                Some(at) => drop(self.known.remove(at)),
                None => return,
            }
            self.next = self.next.min(self.known.len() - 1);
        }
        self.known.push(Known { host: host.to_owned(), port, given: false });
    }

    /// This one is to be tried next, and before all others from now on.
    pub(super) fn prefer(&mut self, host: &str, port: u16) {
        self.learn(host, port);
        self.next = self.find(host, port).unwrap_or(self.next);
        self.works();
    }

    /// The one that was tried let the client in.
    pub(super) fn works(&mut self) {
        let known = self.known.remove(self.next);
        self.known.insert(0, known);
        self.next = 0;
    }

    /// The one that was tried did not let the client in: the next one's turn.
    pub(super) fn failed(&mut self) {
        self.next = (self.next + 1) % self.known.len();
    }

    fn find(&self, host: &str, port: u16) -> Option<usize> {
        self.known.iter().position(|known| known.port == port && known.host == host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_worked_last_is_first_and_the_others_take_turns() {
        let mut servers = Servers::new([("a".to_owned(), 1), ("b".to_owned(), 2), ("a".to_owned(), 1)]);
        servers.works();
        servers.learn("c", 3);
        servers.learn("b", 2);
        servers.prefer("d", 4);
        let mut order = Vec::new();
        for _ in 0..4 {
            order.push(servers.next().1);
            servers.failed();
        }
        assert_eq!((order, servers.next()), (vec![4, 1, 2, 3], ("d", 4)));
        servers.failed();
        servers.works();
        assert_eq!(servers.next(), ("a", 1));
    }

    #[test]
    fn strangers_cannot_push_out_what_was_given() {
        let mut servers = Servers::new([("mine".to_owned(), 1), ("too".to_owned(), 2)]);
        for port in 1..=1000 {
            servers.learn("theirs", port);
            servers.prefer("others", port);
        }
        assert_eq!(servers.count(), SERVERS_MAX);
        assert_eq!(servers.known.iter().filter(|known| known.given).count(), 2);
        assert_eq!(servers.next(), ("others", 1000));
        let full = (0..100).map(|n| (n.to_string(), 1));
        let mut servers = Servers::new(full);
        servers.prefer("theirs", 1);
        assert_eq!(servers.next(), ("0", 1));
    }
}
