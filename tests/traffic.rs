//! What goes over the links between servers: no more than the model of benches/mesh says, nothing for clients that
//! are silent, two sends for a message.

#[path = "../benches/mesh/drive.rs"]
#[allow(dead_code, reason = "the bench uses the rest")]
mod drive;
#[path = "../benches/mesh/model.rs"]
#[allow(dead_code, reason = "the bench uses the rest")]
mod model;
#[path = "../benches/mesh/net.rs"]
#[allow(dead_code, reason = "the bench uses the rest")]
mod net;

use std::time::Duration;

use activitystreamer::base::limits::{BEHIND_MAX, Limits};
use activitystreamer::node::Kind;
use model::{Load, between};
use net::{Client, Net};

const QUIET: Load =
    Load { servers: 2, clients: 0, comings: 0.0, messages: 0.0, talking: 0, said: 0, line: 256 };
const ANN: &str = "{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n";
const SAYS: &str = "{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"anonymous\",\"activity\":{}}\n";

/// What is told at regular times, whatever is said.
const OTHERS: [Kind; 4] = [Kind::Frontier, Kind::Heartbeat, Kind::Announce, Kind::Registry];

fn limits() -> Limits {
    Limits { feed_bytes: 1 << 20, line_bytes: 1 << 14, balance: false, ..Limits::default() }
}

/// Says what servers sent a second if that is not what the model says, within so many percent.
fn differences(load: &Load, percent: f64) -> Vec<String> {
    let (load, seen) = drive::drive(load, 20);
    let mut wrong = Vec::new();
    for (kind, frames, bytes) in seen {
        let said = load.flows().into_iter().find(|flow| flow.0 == kind);
        let (_, said_frames, said_bytes) = said.unwrap_or((kind, 0.0, 0.0));
        let is_near = |is: f64, said: f64| (is - said).abs() <= said * percent / 100.0;
        if !is_near(frames, said_frames) || !is_near(bytes, said_bytes) {
            let (counted, model) = ((frames, bytes.round()), (said_frames, said_bytes.round()));
            wrong.push(format!("{}: {counted:?}; the model: {model:?}", kind.label()));
        }
    }
    wrong
}

#[test]
fn servers_tell_each_other_what_the_model_says() {
    let small =
        Load { servers: 4, clients: 40, comings: 4.0, messages: 10.0, talking: 2, said: 100, ..QUIET };
    assert_eq!(differences(&small, 15.0), [""; 0], "{small:?}");
    let large =
        Load { servers: 64, clients: 640, comings: 1.0, messages: 5.0, talking: 4, said: 20, ..QUIET };
    assert_eq!(differences(&large, 15.0), [""; 0], "{large:?}");
}

#[test]
fn silent_clients_cost_nothing_between_servers() {
    let of = |clients: usize| {
        let mut net = Net::new(3, &limits());
        (0..clients).for_each(|n| {
            net.connect(n % 3, ANN);
        });
        net.run(Duration::from_secs(10));
        let before = net.traffic();
        net.run(Duration::from_secs(20));
        between(&before, &net.traffic(), 20.0)
    };
    let (few, many) = (of(3), of(3000));
    for ((kind, frames, bytes), (_, more_frames, more_bytes)) in few.into_iter().zip(many) {
        assert_eq!(frames, more_frames, "{kind:?}");
        // The number of clients has more digits.
        assert!((more_bytes - bytes).abs() <= 12.0 * frames, "{kind:?}: {bytes} and {more_bytes}");
    }
}

#[test]
fn a_message_is_two_sends_for_each_other_server() {
    for servers in [2, 4, 8] {
        let mut net = Net::new(servers, &limits());
        let talker = net.connect(0, ANN);
        net.run(Duration::from_millis(100));
        let (before, sends) = (net.traffic(), net.sends());
        // Each when the one before was heard, for half a second: little else is due.
        let said = 100;
        for n in 0..said {
            net.tell(talker, SAYS);
            net.run(Duration::from_millis(5));
            assert_eq!(net.heard(talker), n + 2, "it hears itself, after LOGIN_SUCCESS");
        }
        let peers = servers - 1;
        let of = |kind| net.traffic().of(kind).0 - before.of(kind).0;
        assert_eq!((of(Kind::Data), of(Kind::Ack)), ((said * peers) as u64, (said * peers) as u64));
        let others: u64 = OTHERS.iter().map(|kind| of(*kind)).sum();
        let sends = net.sends() - sends - others;
        assert!(sends <= 2 * (said * peers) as u64, "{servers} servers: {sends} sends");
        // Many at once are one send.
        let sends = net.sends();
        net.tell(talker, &SAYS.repeat(100));
        net.run(Duration::from_millis(5));
        assert!(net.sends() - sends <= 2 * peers as u64 + 2, "{servers} servers: {}", net.sends() - sends);
    }
}

/// The users of so many names, on the first of two servers.
fn users(net: &mut Net, n: usize) -> Vec<Client> {
    let pair = |n: usize| format!("\"username\":\"user-{n:03}\",\"secret\":\"sek\"");
    let lines = |n| format!("{{\"command\":\"REGISTER\",{0}}}\n{{\"command\":\"LOGIN\",{0}}}\n", pair(n));
    let all = (0..n)
        .map(|n| {
            let client = net.connect(0, &lines(n));
            net.run(Duration::from_millis(10));
            client
        })
        .collect();
    net.run(Duration::from_secs(2));
    all
}

#[test]
fn a_frontier_names_few_of_many_that_are_behind_and_nobody_as_further_than_it_is() {
    const USERS: usize = 4 * BEHIND_MAX;
    let mut net = Net::new(2, &limits());
    let users = users(&mut net, USERS);
    let talker = net.connect(0, ANN);
    net.tell(talker, SAYS);
    net.run(Duration::from_secs(1));
    // The kernels of all but one confirm no more from now on.
    let frontiers = |net: &mut Net, says: usize| {
        let before = net.traffic().of(Kind::Frontier);
        (0..says).for_each(|_| net.tell(talker, SAYS));
        net.run(Duration::from_millis(2));
        users[1..].iter().for_each(|user| net.hold(*user, 10));
        net.run(Duration::from_secs(2));
        let after = net.traffic().of(Kind::Frontier);
        (after.0 - before.0, after.1 - before.1)
    };
    let (frames, bytes) = frontiers(&mut net, 1);
    assert!((5..9).contains(&frames), "{frames} until all are named");
    assert!(bytes < 200 * USERS as u64, "{bytes} bytes to name each once or twice");
    assert_eq!(frontiers(&mut net, 0), (0, 0), "nothing changes");
    net.kill(0);
    net.run(Duration::from_secs(1));
    for (n, _) in users.iter().enumerate() {
        let again = net.connect(
            1,
            &format!("{{\"command\":\"LOGIN\",\"username\":\"user-{n:03}\",\"secret\":\"sek\"}}\n"),
        );
        net.run(Duration::from_secs(1));
        assert!(net.heard(again) > 1 || n == 0, "user {n} hears what it was owed");
        assert!(net.heard(again) <= 2, "user {n} hears no more than that");
    }
}
