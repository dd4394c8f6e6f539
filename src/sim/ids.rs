//! Clients with ids: they number what they say, keep it, and know what they had. So nothing excuses that one of
//! them hears another's message twice, late or never.

use serde_json::Value;

use super::cluster::Cluster;
use super::ledger::MessageId;
use super::pipe::PipeId;
use super::schedule::ms;
use super::swarm::Class;
use super::user::Stage;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::client::ids::Ids;
use crate::wire::ids::said_with;

const IDS_CHANCE: u64 = 0x1d5e_0000_0000_0000;

/// Who of so many has an id: by chances of their own, so that the others do what they did before there were any.
pub(super) fn draw(rng: &Rng, n: usize) -> Vec<Option<Box<Ids>>> {
    let mut rng = Rng::new(rng.clone().draw() ^ IDS_CHANCE);
    let mut one = |_| {
        let client = u128::from(rng.draw()) << 64 | u128::from(rng.draw());
        rng.chance(50).then(|| Box::new(Ids::new(client.to_be_bytes())))
    };
    (0..n).map(&mut one).collect()
}

/// Whether a seed has any.
pub(super) fn are_there(rng: &Rng) -> bool {
    Rng::new(rng.clone().draw() ^ !IDS_CHANCE).chance(60)
}

impl Cluster {
    /// The client is in: it says again what this server does not know of it.
    pub(super) fn on_success_of_ids(&mut self, u: usize, pipe: PipeId, value: &Value) {
        let Some(ids) = self.users[u].ids.as_mut() else { return };
        let said = ids.said();
        let Some(cseq) = ids.welcome(&value["ext"].to_string()).filter(|cseq| *cseq <= said) else {
            let text = format!("client {u} said {said}, and is told {value}");
            return self.violate("a server knows what a client with an id has said", text);
        };
        let success = self.talks[&pipe].success;
        let user = &mut self.users[u];
        user.joined = user.joined.or(success);
        let Some(talk) = self.talks.get_mut(&pipe).filter(|talk| talk.written.is_none()) else { return };
        talk.written = Some(cseq);
        if cseq + 1 < said {
            self.judge.mark("messages were said again");
        }
        self.write_kept(u, pipe);
    }

    /// Writes what was not written on this connection and its server does not know.
    pub(super) fn write_kept(&mut self, u: usize, pipe: PipeId) {
        let user = &self.users[u];
        let (Some(talk), Some(ids)) = (self.talks.get_mut(&pipe), &user.ids) else { return };
        let Some(written) = talk.written else { return };
        talk.written = Some(ids.said());
        let pair = user.pair();
        let line = |(n, activity): (u64, &str)| {
            format!("{{\"command\":\"ACTIVITY_MESSAGE\",{pair},\"cseq\":{n},\"activity\":{activity}}}\n")
        };
        let lines: Vec<String> = ids.behind(written).map(line).collect();
        lines.iter().for_each(|line| self.client_writes(pipe, line));
    }

    /// The client is told that its messages are safe.
    pub(super) fn on_ack_of_ids(&mut self, u: usize, value: &Value) {
        let said = self.ledger.messages[u].len();
        let cseq = value["cseq"].as_u64().unwrap_or(u64::MAX) as usize;
        let Some(ids) = self.users[u].ids.as_mut().filter(|_| cseq <= said && cseq > 0) else {
            let text = format!("client {u} said {said}, and is told {value}");
            return self.violate("only what was said is acknowledged", text);
        };
        let before = ids.acked() as usize;
        ids.ack(cseq as u64);
        self.judge.mark("acknowledgements");
        for k in before + 1..=cseq {
            let id = MessageId { device: u, k };
            if !self.is_safe(id) {
                let text = format!("client {u} is told so of {id:?}");
                self.violate("what is acknowledged is on two servers", text);
            }
        }
    }

    /// Two servers have had it, or the one that took it had nobody to give it to.
    fn is_safe(&self, id: MessageId) -> bool {
        let now = self.now();
        let Some(accepted) = self.ledger.get(id).and_then(|message| message.accepted) else { return false };
        if self.ledger.holders(&accepted).count() > 1 {
            return true;
        }
        let host = self.ledger.boots[accepted.boot].host;
        let since = Time::START + accepted.at.since(Time::START).saturating_sub(ms(500));
        !(0..self.hosts.len()).any(|other| other != host && self.links.were_in_touch(host, other, since, now))
    }

    /// Which broadcasts come next.
    pub(super) fn on_next_of_ids(&mut self, pipe: PipeId, value: &Value) {
        let Some(talk) = self.talks.get_mut(&pipe) else { return };
        let was_empty = talk.next.is_empty();
        if !talk.next.add(&value["ids"].to_string()) {
            self.violate("clients are sent only what they understand", value.to_string());
        } else if !was_empty || talk.next.is_empty() {
            self.violate("NEXT comes when it is needed", format!("pipe {pipe}: {value}"));
        }
    }

    /// A broadcast came. False if the client had it.
    pub(super) fn is_news(&mut self, u: usize, pipe: PipeId, line: &[u8]) -> bool {
        if self.users[u].ids.is_none() {
            return true;
        }
        let next = self.talks.get_mut(&pipe).and_then(|talk| talk.next.take());
        let Some((stream, seq)) = next else {
            self.violate("NEXT names each broadcast", format!("client {u}, pipe {pipe}"));
            return true;
        };
        let id = super::ledger::stamp(line);
        if self.ledger.named(stream, seq) != id {
            let text = format!("client {u} hears {id:?} as {stream:?} {seq}");
            self.violate("NEXT names each broadcast", text);
        }
        let Some(ids) = self.users[u].ids.as_mut() else { return true };
        let of = said_with(line).map(|(client, n)| format!("{client}-{n}"));
        let is_news = ids.hear(stream, seq, of.as_deref());
        if !is_news {
            self.judge.mark("a client with an id knew a repeat");
        }
        is_news
    }

    /// What a client with an id said and no server has, or it was not told of.
    pub(super) fn unsafe_messages(&self, u: usize) -> Vec<usize> {
        let user = &self.users[u];
        let Some(ids) = user.ids.as_ref().filter(|_| !user.is_retired && self.is_in(u)) else {
            return Vec::new();
        };
        let is_held = |k: &usize| {
            let message = &self.ledger.messages[u][k - 1];
            let is_old =
                self.hosts.iter().any(|host| host.disk.dropped.contains_key(&MessageId { device: u, k: *k }));
            let is_held = |accepted| is_old || self.ledger.is_held(&accepted);
            message.accepted.is_some_and(is_held) && *k as u64 <= ids.acked()
        };
        (1..=self.ledger.messages[u].len()).filter(|k| !is_held(k)).collect()
    }

    fn is_in(&self, u: usize) -> bool {
        self.users[u].talk.is_some_and(|pipe| self.talks[&pipe].stage == Stage::Online)
    }

    /// At the end: nothing is lost.
    pub(super) fn nothing_numbered_is_lost(&mut self) {
        for u in 0..self.users.len() {
            let lost = self.unsafe_messages(u);
            if !lost.is_empty() {
                let text =
                    format!("client {u}: {} of its messages: {:?}", lost.len(), &lost[..lost.len().min(8)]);
                self.violate("what a client with an id says is not lost", text);
            }
        }
    }

    /// Both have ids: then nothing is excused.
    pub(super) fn both_number(&self, u: usize, id: MessageId) -> bool {
        self.users[u].ids.is_some() && self.users[id.device].ids.is_some()
    }

    /// What a client is not owed that knows what it had: only what is not there any more, and it must know,
    /// or a server where it was.
    pub(super) fn is_lost_and_told(&self, u: usize, id: MessageId) -> bool {
        let host = |pipe: &PipeId| self.hosts[self.talks[pipe].host].node.as_ref();
        let has_counted =
            self.users[u].talks.iter().filter_map(host).any(|node| node.counters().frames_lost > 0);
        self.has(Class::Small)
            && self.fell_past(u, id)
            && (has_counted || self.users[u].ids.as_ref().is_some_and(|ids| ids.lost() > 0))
    }

    /// Its client numbers, and a server that was started again has nothing of it left: where it is said again, it is
    /// shown again.
    pub(super) fn is_forgotten(&self, boot: usize, id: MessageId) -> bool {
        let host = &self.hosts[self.ledger.boots[boot].host];
        self.users[id.device].ids.is_some() && host.disk.dropped.contains_key(&id)
    }

    /// It was too old where it was first, and came when its client said it again where it was missing.
    pub(super) fn came_again(&self, id: MessageId) -> Option<&'static str> {
        let is_old = self.hosts.iter().any(|host| host.disk.dropped.contains_key(&id));
        is_old.then_some("excused: out of order, too old where it was, and said again")
    }
}
