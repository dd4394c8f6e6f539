//! What must hold at the end: everybody is in and has heard everything, and all servers agree.

use super::cluster::Cluster;
use super::host::Sock;
use super::ledger::MessageId;
use super::pipe::Owner;
use crate::base::id::LinkId;
use crate::base::time::Time;

impl Cluster {
    /// Everything is linked, everybody is in, everything was heard.
    pub fn all_is_well(&self) -> bool {
        self.is_meshed()
            && (0..self.users.len()).all(|u| self.users[u].is_retired || self.is_online(u))
            && self.names_agree()
            // One that has just started takes nobody in before it is in step.
            && (0..self.hosts.len()).all(|h| self.hears_since(h).is_some() && self.untold(h).is_empty())
            && self.is_balanced()
            && (0..self.users.len()).all(|u| self.missing(u).is_empty() && self.unsafe_messages(u).is_empty())
    }

    /// Who logged in while its old session was still there looks like two devices. What the old one was owed is
    /// there for the next login.
    pub fn call_again(&mut self) {
        for u in 0..self.users.len() {
            let name = &self.users[u].name;
            let of_name = |o: &usize| self.users[*o].name == *name;
            let overlapped = (0..self.users.len()).filter(of_name).any(|o| self.has_overlapped(o));
            if overlapped
                && !self.missing(u).is_empty()
                && let Some(pipe) = self.users[u].talk
            {
                self.judge.mark("a client came again for what its old session was owed");
                self.leave(pipe);
                self.come_later(u, 1_500, None);
            }
        }
    }

    /// The liveness bound is over: what is it that is not well?
    pub fn say_what_is_not_well(&mut self) {
        self.say_what_is_uneven();
        for a in 0..self.hosts.len() {
            for b in a + 1..self.hosts.len() {
                if !self.links.is_in_touch(a, b) {
                    let (there, back) = (self.links_to(a, b), self.links_to(b, a));
                    let text = format!("{a} and {b} are not linked: {there:?}, {back:?}");
                    self.violate("servers find each other again", text);
                }
            }
        }
        for u in 0..self.users.len() {
            if !self.users[u].is_retired && !self.is_online(u) {
                let host = self.users[u].talk.map(|pipe| self.talks[&pipe].host);
                self.violate("everybody can log in", format!("client {u} is not in, at server {host:?}"));
            }
        }
    }

    /// The links one server has to another: which pipe, which side, and whether it heard anything there.
    fn links_to(&self, a: usize, b: usize) -> Vec<(LinkId, usize, usize, bool)> {
        let to = |sock: &&Sock| {
            let owner = self.pipes[sock.pipe].owners[1 - sock.side];
            matches!(owner, Owner::Host(h, _) if h == b)
        };
        let socks = self.hosts[a].socks.iter().filter(|(_, sock)| to(sock));
        socks.map(|(link, sock)| (*link, sock.pipe, sock.side, sock.greeted.is_some())).collect()
    }

    fn names_agree(&self) -> bool {
        let nodes = self.hosts.iter().filter_map(|host| host.node.as_ref());
        let mut registries = nodes.map(|node| (node.names(), node.registry_digest()));
        let first = registries.next();
        registries.all(|registry| Some(registry) == first)
    }

    /// Since when an anonymous client of this server hears.
    fn hears_since(&self, h: usize) -> Option<Time> {
        self.ledger.boots[self.hosts[h].boot].hears_since
    }

    /// What a server must have applied and has not.
    fn untold(&self, h: usize) -> Vec<MessageId> {
        let boot = &self.ledger.boots[self.hosts[h].boot];
        let Some(since) = self.hears_since(h) else { return Vec::new() };
        self.ledger
            .accepted()
            .filter(|(id, _, accepted)| {
                accepted.at > since && !boot.heard.contains_key(id) && self.ledger.is_held(accepted)
            })
            .map(|(id, _, _)| id)
            .filter(|id| !self.is_too_old_for(h, *id))
            .collect()
    }

    pub fn check_the_end(&mut self) {
        self.nothing_shown_is_gone();
        self.servers_agree();
        self.everybody_heard_everything();
        self.nothing_numbered_is_lost();
        self.every_name_has_one_winner();
        if !self.names_agree() {
            let nodes = self.hosts.iter().filter_map(|host| host.node.as_ref());
            let all: Vec<_> = nodes.map(|node| (node.names(), node.registry_digest())).collect();
            self.violate("registries are equal after a while", format!("names and digests {all:?}"));
        }
    }

    /// What any client saw survives one crash.
    fn nothing_shown_is_gone(&mut self) {
        let gone: Vec<(MessageId, usize, bool, bool)> = self
            .ledger
            .accepted()
            .filter(|(_, message, accepted)| message.exposed.is_some() && !self.ledger.is_held(accepted))
            .map(|(id, message, accepted)| {
                let holders = || self.ledger.holders(&accepted);
                let is_kept = holders().any(|boot| self.is_kept_of(boot, id));
                (id, holders().count(), message.single, is_kept)
            })
            .collect();
        for (id, holders, single, is_kept) in gone {
            match (holders, single) {
                _ if is_kept => {
                    self.violate("what is in a journal survives the process", format!("{id:?} is gone"));
                }
                (_, true) => self.judge.mark("excused: gone, shown with one copy"),
                (2.., _) => self.judge.mark("excused: gone, all disks that had it were lost"),
                _ => self.violate("what any client saw survives one crash", format!("{id:?} is gone")),
            }
        }
    }

    /// A boot had shown it, and what it had on disk outlived it.
    fn is_kept_of(&self, boot: usize, id: MessageId) -> bool {
        let host = self.ledger.boots[boot].host;
        self.ledger.is_kept(boot, id) && !self.hosts[host].disk.dropped.contains_key(&id)
    }

    fn servers_agree(&mut self) {
        for h in 0..self.hosts.len() {
            let untold = self.untold(h);
            if !untold.is_empty() {
                let n = untold.len();
                self.violate(
                    "all servers apply the same",
                    format!("server {h} lacks {n}: {:?}", first(&untold)),
                );
            }
            if self.hears_since(h).is_none() {
                self.violate("an anonymous client can always log in", format!("server {h}"));
            }
        }
    }

    fn everybody_heard_everything(&mut self) {
        for u in 0..self.users.len() {
            let missing = self.missing(u);
            if missing.is_empty() {
                continue;
            }
            let name = &self.users[u].name;
            let others: Vec<usize> =
                (0..self.users.len()).filter(|o| *o != u && self.users[*o].name == *name).collect();
            let of_name = |id: &MessageId| others.contains(&id.device);
            let promise = if self.users[u].is_anonymous() {
                "a message reaches every anonymous session"
            } else if !others.is_empty() && missing.iter().any(of_name) {
                "a message reaches the other devices of its name"
            } else if others.is_empty() {
                "a message reaches every name"
            } else {
                "a message reaches every device"
            };
            let n = missing.len();
            let host = self.users[u].talk.map(|pipe| self.talks[&pipe].host);
            self.violate(promise, format!("client {u} at server {host:?} lacks {n}: {:?}", first(&missing)));
        }
    }

    /// Looked at all along.
    pub fn bounds_hold(&mut self) {
        for h in 0..self.hosts.len() {
            let host = &self.hosts[h];
            let Some(node) = host.node.as_ref() else { continue };
            let (links, socks) = (node.links(), host.socks.len() + host.dialling.len());
            if links != socks {
                self.violate(
                    "links are sockets",
                    format!("server {h} has {links} links and {socks} sockets"),
                );
            }
        }
    }
}

fn first(ids: &[MessageId]) -> Vec<(usize, usize)> {
    ids.iter().take(8).map(|id| (id.device, id.k)).collect()
}
