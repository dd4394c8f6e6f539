//! What servers tell each other, computed: the sizes are those of real frames, the rates follow from the bounds.

use activitystreamer::base::hlc::{Generation, Hlc};
use activitystreamer::base::id::{ServerId, StreamId};
use activitystreamer::base::limits::{
    ANNOUNCE_LEAST, DIGEST_BEATS, FRONTIER, FRONTIER_LAG, HEARTBEAT, Limits,
};
use activitystreamer::base::vector::Vector;
use activitystreamer::node::{Kind, Seeds, Traffic};
use activitystreamer::wire::frame;
use activitystreamer::wire::peer::{
    Announce, Claim, Entry, Frontier, Offer, PeerMessage, Release, State, Update,
};
use activitystreamer::wire::registration::{Digest, Registration};

/// What a record between servers adds: its length, and the tag that proves it.
pub const RECORD: f64 = 18.0;

/// What a network does.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub servers: usize,
    /// Sessions on all servers.
    pub clients: usize,
    /// Registered users that log in a second, on all servers; as many log out.
    pub comings: f64,
    /// Messages a second of all servers, and the servers on which clients talk.
    pub messages: f64,
    pub talking: usize,
    /// Messages that were said on each of these servers so far.
    pub said: u64,
    /// Bytes of a broadcast line.
    pub line: usize,
}

/// Frames a second of a kind, and their bytes, of all servers together.
pub type Flow = (Kind, f64, f64);

fn size(message: &PeerMessage) -> f64 {
    let mut out = Vec::new();
    frame::control(&mut out, message);
    out.len() as f64
}

fn stream(i: usize) -> StreamId {
    Seeds::fixed(i as u64 + 1).identity.stream
}

/// A stamp as it is drawn today.
fn stamp() -> Generation {
    Generation { at: Hlc(1_700_000_000_000 << 16), by: ServerId([7; 16]) }
}

impl Load {
    /// All that is sent while nothing fails and no server comes or goes.
    pub fn flows(&self) -> Vec<Flow> {
        let peers = self.servers as f64 - 1.0;
        // From each server to each other.
        let pairs = self.servers as f64 * peers;
        let flow = |kind, frames: f64, each: f64| (kind, frames, frames * each);
        let frontiers = self.frontiers();
        vec![
            flow(Kind::Data, self.messages * peers, self.data()),
            flow(Kind::Ack, self.messages * peers, 13.0),
            flow(Kind::Frontier, frontiers.0 * pairs, frontiers.1),
            flow(Kind::Heartbeat, pairs / HEARTBEAT.as_secs_f64(), size(&PeerMessage::Heartbeat)),
            flow(Kind::Announce, self.announces() * pairs, self.announce()),
            flow(Kind::Session, 4.0 * self.comings * peers, self.session()),
            flow(Kind::Registry, pairs / (HEARTBEAT * DIGEST_BEATS).as_secs_f64(), self.digest()),
        ]
    }

    /// Of all but the messages: bytes a second from one server to one other.
    pub fn control_of_pair(&self) -> f64 {
        let all = self.flows();
        let control = all.iter().filter(|(kind, ..)| *kind != Kind::Data);
        let (frames, bytes) = control.fold((0.0, 0.0), |sum, flow| (sum.0 + flow.1, sum.1 + flow.2));
        (bytes + frames * RECORD) / (self.servers * (self.servers - 1)) as f64
    }

    fn data(&self) -> f64 {
        let (mut out, line) = (Vec::new(), vec![b'x'; self.line]);
        frame::data(&mut out, stream(0), self.said, &[], (&line, b""));
        out.len() as f64
    }

    /// How many FRONTIER a server sends to another a second, and the bytes of one. One is sent for each time in
    /// which anything was said, or confirmed; it names the streams of which something was.
    fn frontiers(&self) -> (f64, f64) {
        let every = (FRONTIER - FRONTIER_LAG).as_secs_f64();
        let lag = FRONTIER_LAG.as_secs_f64();
        let within = |rate: f64, time: f64| 1.0 - (-rate * time).exp();
        let rate = within(self.messages, every + lag) / every;
        let changed = self.talking as f64 * within(self.messages / self.talking.max(1) as f64, every) / every;
        let frontier = |n: usize| {
            let held: Vector = (0..n).map(|i| (stream(i), self.said)).collect();
            let (confirmed, behind) = (held.clone(), Vec::new());
            size(&PeerMessage::Frontier(Frontier { held, confirmed, behind, version: 100_000 }))
        };
        let (none, pair) = (frontier(0), (frontier(self.talking) - frontier(0)) / self.talking.max(1) as f64);
        (rate, none + pair * changed / rate.max(1e-9))
    }

    /// How often a server tells another its load, a second: regularly, and soon after each change.
    fn announces(&self) -> f64 {
        let changes = 2.0 * self.comings / self.servers as f64;
        1.0 / Limits::default().announce.as_secs_f64()
            + changes / (1.0 + changes * ANNOUNCE_LEAST.as_secs_f64())
    }

    fn announce(&self) -> f64 {
        let here = (self.clients / self.servers) as u64;
        let offer = Offer {
            here: [here, 0],
            came: here,
            most: None,
            every_ms: 5000,
            credit: [0; 2],
            sent: [0; 2],
            arrived: [0; 2],
        };
        size(&PeerMessage::ServerAnnounce(Announce {
            hostname: "server-00.example.org".into(),
            port: 64,
            load: here,
            draining: false,
            offer: Some(offer),
            spawning: None,
            spawned: None,
        }))
    }

    fn digest(&self) -> f64 {
        size(&PeerMessage::RegistryDigest(Digest { root: u64::MAX / 2, buckets: Vec::new(), ask: false }))
    }

    /// Of the four frames to each other server that a user costs who comes and goes: a claim, its answer, an update
    /// when it is in and one when it is gone. It was there once before, which the answer says.
    fn session(&self) -> f64 {
        let every = (FRONTIER - FRONTIER_LAG).as_secs_f64();
        // Positions are said as what changed since the last FRONTIER, which is any time ago up to that.
        let of_one = self.messages / self.talking.max(1) as f64 * every;
        let changed = 1.0 - (1.0 - (-of_one).exp()) / of_one.max(1e-9);
        let none = self.session_with(0);
        none + (self.session_with(self.talking) - none) * changed
    }

    /// The same if so many streams changed.
    fn session_with(&self, changed: usize) -> f64 {
        let changes = || (0..changed).map(|i| (stream(i), self.said)).collect();
        let entry = |state, is_there: bool, pending| Entry {
            changes: is_there.then(changes),
            version: 100_000,
            pending,
            authentic: true,
            stamp: Some(stamp()),
            ..Entry::new(NAME.into(), stamp(), stream(0), state)
        };
        let registration = Registration {
            name: NAME.into(),
            stamp: stamp(),
            salt: [0; 16],
            digest: [0; 32],
            kib: 19_456,
            passes: 2,
            lost: Vec::new(),
            verifier: Some([0; 16]),
        };
        let claim = Claim { entry: entry(State::Live, true, true), registration };
        let release = Release {
            generation: stamp(),
            entries: vec![entry(State::Ended, false, false), entry(State::Live, true, true)],
            last: Vector::NOTHING,
            taken: Vec::new(),
            applied: None,
            changes: Some(changes()),
            spared_ms: None,
            sent_away: false,
        };
        let update = |state, is_there| Update {
            entry: entry(state, is_there, false),
            taken: Vec::new(),
            lowered: Vec::new(),
            unheard: Vec::new(),
            beside: None,
        };
        let all = [
            PeerMessage::SessionClaim(claim),
            PeerMessage::SessionRelease(release),
            PeerMessage::SessionUpdate(update(State::Live, true)),
            PeerMessage::SessionUpdate(update(State::Ended, false)),
        ];
        all.iter().map(size).sum::<f64>() / 4.0
    }
}

/// As long as the names of these networks.
const NAME: &str = "user-000000";

/// What was sent between two moments, a second.
pub fn between(before: &Traffic, after: &Traffic, seconds: f64) -> Vec<Flow> {
    let figure = |kind| {
        let ((frames, bytes), (old_frames, old_bytes)) = (after.of(kind), before.of(kind));
        (kind, (frames - old_frames) as f64 / seconds, (bytes - old_bytes) as f64 / seconds)
    };
    Kind::ALL.into_iter().map(figure).collect()
}
