//! A network that does what a load says, in virtual time, and what was sent meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use activitystreamer::base::limits::Limits;
use activitystreamer::base::rng::Rng;

use super::model::{Flow, Load, between};
use super::net::{Client, Net};

/// How long a user stays who comes, in seconds.
const STAY: u64 = 5;

fn pair(name: &str) -> String {
    format!(r#""username":"{name}","secret":"sek""#)
}

/// Has the load on a network for so many seconds, and returns what it was, as it fell out, and what was sent a
/// second.
pub fn drive(load: &Load, seconds: u64) -> (Load, Vec<Flow>) {
    let limits = Limits { feed_bytes: 1 << 20, line_bytes: 1 << 14, ..Limits::default() };
    let mut net = Net::new(load.servers, &limits);
    let (talkers, names) = crowd(&mut net, load, (load.comings * 2.0 * (seconds + STAY) as f64) as usize);
    // All is told.
    net.run(Duration::from_secs(12));
    say(&mut net, load, &talkers, load.said);
    let mut life = Life::new(load);
    life.go_on(&mut net, &talkers, &names, STAY + 1);
    let (before, said, came, left) = (net.traffic(), life.said, life.came, life.left);
    life.go_on(&mut net, &talkers, &names, seconds);
    let each = |n: usize| n as f64 / seconds as f64;
    // Of four frames for a user three are when it comes.
    let comings = each(3 * (life.came - came) + life.left - left) / 4.0;
    let load = Load { messages: each(life.said - said), comings, ..*load };
    (load, between(&before, &net.traffic(), seconds as f64))
}

/// Clients on all servers, in turn: those that talk, and others. Names are registered and not there.
fn crowd(net: &mut Net, load: &Load, registered: usize) -> (Vec<Client>, Vec<String>) {
    let names: Vec<String> = (0..registered).map(|n| format!("user-{n:06}")).collect();
    for (n, name) in names.iter().enumerate() {
        let lines = format!("{{\"command\":\"REGISTER\",{}}}\n", pair(name));
        let client = net.connect(n % load.servers, &lines);
        net.run(Duration::from_millis(20));
        net.tell(client, "{\"command\":\"LOGOUT\"}\n");
    }
    net.run(Duration::from_secs(2));
    let login = "{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n";
    let mut talkers = Vec::new();
    for n in 0..load.clients {
        let client = net.connect(n % load.servers, login);
        if n < load.talking {
            talkers.push(client);
        }
        if n % load.servers == 0 {
            net.run(Duration::from_millis(1));
        }
    }
    net.run(Duration::from_secs(2));
    (talkers, names)
}

fn line(load: &Load) -> String {
    // What a broadcast has around it is longer than what the talker has by so much.
    let text = "x".repeat(load.line.saturating_sub(EMPTY));
    format!(r#"{{"command":"ACTIVITY_MESSAGE","username":"anonymous","activity":{{"x":"{text}"}}}}"#) + "\n"
}

/// Bytes of a broadcast whose text is empty.
const EMPTY: usize =
    "{\"command\":\"ACTIVITY_BROADCAST\",\"activity\":{\"x\":\"\",\"authenticated_user\":\"anonymous\"}}\n"
        .len();

fn say(net: &mut Net, load: &Load, talkers: &[Client], times: u64) {
    for _ in 0..times {
        talkers.iter().for_each(|talker| net.tell(*talker, &line(load)));
        net.run(Duration::from_millis(5));
    }
}

/// What happens at moments drawn at random, so often a second.
struct Moments {
    rate: f64,
    next: f64,
}

impl Moments {
    fn new(rate: f64, rng: &mut Rng) -> Moments {
        let mut moments = Moments { rate, next: 0.0 };
        moments.draw(rng);
        moments
    }

    fn draw(&mut self, rng: &mut Rng) {
        let part = (rng.below(1 << 32) as f64 + 1.0) / (1_u64 << 32) as f64;
        self.next += if self.rate > 0.0 { -part.ln() / self.rate } else { f64::INFINITY };
    }

    /// True if another one is over.
    fn is_due(&mut self, now: f64, rng: &mut Rng) -> bool {
        let is_due = self.next <= now;
        if is_due {
            self.draw(rng);
        }
        is_due
    }
}

/// Messages, and users that come and go.
struct Life<'a> {
    load: &'a Load,
    rng: Rng,
    messages: Moments,
    comings: Moments,
    /// When users go, in seconds.
    there: VecDeque<(f64, Client)>,
    now_ms: u64,
    said: usize,
    came: usize,
    left: usize,
}

impl Life<'_> {
    fn new(load: &Load) -> Life<'_> {
        let mut rng = Rng::new(load.servers as u64);
        let messages = Moments::new(load.messages, &mut rng);
        let comings = Moments::new(load.comings, &mut rng);
        Life { load, rng, messages, comings, there: VecDeque::new(), now_ms: 0, said: 0, came: 0, left: 0 }
    }

    fn go_on(&mut self, net: &mut Net, talkers: &[Client], names: &[String], seconds: u64) {
        let begin = net.now;
        for ms in 1..=1000 * seconds {
            self.now_ms += 1;
            let now = self.now_ms as f64 / 1000.0;
            while self.messages.is_due(now, &mut self.rng) {
                net.tell(*self.rng.choose(talkers), &line(self.load));
                self.said += 1;
            }
            while self.comings.is_due(now, &mut self.rng) {
                let lines = format!("{{\"command\":\"LOGIN\",{}}}\n", pair(&names[self.came % names.len()]));
                let server = self.rng.below(self.load.servers as u64) as usize;
                self.there.push_back((now + STAY as f64, net.connect(server, &lines)));
                self.came += 1;
            }
            while self.there.front().is_some_and(|(until, _)| *until <= now)
                && let Some((_, client)) = self.there.pop_front()
            {
                net.tell(client, "{\"command\":\"LOGOUT\"}\n");
                self.left += 1;
            }
            net.run((begin + Duration::from_millis(ms)).since(net.now));
        }
    }
}
