//! Bad lines hurt nobody but their sender: those of `bad_lines.txt`, each answered as it says there, and ten
//! thousand made from good ones.

mod common;

#[path = "bad_lines/mutate.rs"]
mod mutate;

use std::net::Ipv4Addr;
use std::time::Duration;

use activitystreamer::base::id::LinkId;
use activitystreamer::base::limits::{Limits, REFUSAL};
use activitystreamer::sim::World;
use common::{check_line, command, unescape};
use mutate::Mutator;
use serde_json::{Value, json};

const BOB: &str = r#""username":"bob","secret":"sek""#;

/// A world with three bystanders who listen.
struct Street {
    world: World,
    bystanders: Vec<LinkId>,
    /// Each line comes from an address of its own, or the limit of failed logins would answer for it.
    address: u32,
}

impl Street {
    fn new() -> Street {
        let mut world = World::new(Limits { feed_bytes: 8 << 20, ..Limits::default() });
        let mut bystanders = vec![world.connect(), world.connect(), world.connect()];
        world.send(bystanders[0], format!("{{\"command\":\"REGISTER\",{BOB}}}\n").as_bytes());
        world.send(bystanders[1], b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n");
        world.send(bystanders[2], format!("{{\"command\":\"LOGIN\",{BOB}}}\n").as_bytes());
        world.advance(Duration::from_secs(1));
        bystanders.iter_mut().for_each(|link| drop(world.heard(*link)));
        Street { world, bystanders, address: 0 }
    }

    /// A new connection, logged in where that is asked for.
    fn enter(&mut self, who: &str) -> LinkId {
        self.address += 1;
        let link = self.world.connect_from(Ipv4Addr::from(0x0a00_0000 + self.address).into());
        let login = match who {
            "stranger" => return link,
            "anonymous" => "{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n".to_owned(),
            "bob" => format!("{{\"command\":\"LOGIN\",{BOB}}}\n"),
            _ => panic!("nobody is called {who}"),
        };
        self.world.send(link, login.as_bytes());
        assert!(self.world.heard(link).contains("LOGIN_SUCCESS"), "{who} logs in");
        link
    }

    /// The connection says these bytes; what it hears, and whether the server has closed it.
    fn say(&mut self, link: LinkId, line: &[u8]) -> (String, bool) {
        self.world.send(link, line);
        self.world.send(link, b"\n");
        self.world.advance(REFUSAL);
        let socket = self.world.socket(link);
        let closed = socket.shut || socket.closed;
        (self.world.heard(link), closed)
    }

    /// The connection is gone, and with it all that the test has to remember of it.
    fn leave(&mut self, link: LinkId) {
        self.world.end(link);
        self.world.cut(link);
        self.world.sockets.remove(&link);
    }

    /// What the bystanders heard, which is the same for all of them and nothing but broadcasts.
    fn heard(&mut self) -> Result<Vec<Value>, String> {
        let heard: Vec<String> = self.bystanders.iter().map(|link| self.world.heard(*link)).collect();
        if heard.iter().any(|other| *other != heard[0]) {
            return Err(format!("they hear different things: {heard:?}"));
        }
        if self.bystanders.iter().any(|link| self.world.sockets[link].shut || self.world.sockets[link].closed)
        {
            return Err("a bystander was disconnected".into());
        }
        let lines = heard[0].split_inclusive('\n').map(|line| {
            let line = check_line(line.strip_suffix('\n').ok_or("half a line")?)?;
            if command(&line) == "ACTIVITY_BROADCAST" { Ok(line) } else { Err(format!("they hear {line}")) }
        });
        lines.collect()
    }

    /// The bystanders talk to each other as if nothing had happened.
    fn talk(&mut self) {
        for (i, link) in self.bystanders.clone().into_iter().enumerate() {
            let who = if i == 1 { r#""username":"anonymous""# } else { BOB };
            let line = format!("{{\"command\":\"ACTIVITY_MESSAGE\",{who},\"activity\":{{\"by\":{i}}}}}\n");
            self.world.send(link, line.as_bytes());
        }
        let heard = self.heard().unwrap_or_else(|why| panic!("{why}"));
        let by: Vec<&Value> = heard.iter().map(|line| &line["activity"]["by"]).collect();
        assert_eq!(by, [&json!(0), &json!(1), &json!(2)], "all hear all three of them");
    }
}

#[test]
fn each_hand_made_bad_line_gets_its_reason_and_disturbs_nobody() {
    let mut street = Street::new();
    let (mut group, mut lines, mut wrong) = (None, 0, Vec::new());
    for (at, line) in include_str!("bad_lines.txt").lines().enumerate() {
        if let Some(head) = line.strip_prefix("= ") {
            let (who, rest) = head.split_once(": ").expect("WHO: COMMAND words");
            group = Some((who, rest.split_once(' ').expect("WHO: COMMAND words")));
        }
        if line.is_empty() || line.starts_with("# ") || line == "#" || line.starts_with("= ") {
            continue;
        }
        let (who, (refusal, words)) = group.expect("a line belongs to a group");
        let link = street.enter(who);
        let (answer, closed) = street.say(link, &unescape(line));
        let info =
            |line: &Value| command(line) == refusal && line["info"].as_str().unwrap_or("").contains(words);
        let right =
            answer.ends_with('\n') && check_line(answer.trim_end_matches('\n')).is_ok_and(|l| info(&l));
        if !right || !closed {
            wrong.push(format!("tests/bad_lines.txt:{}: {refusal} {words}, not {answer:?}", at + 1));
        }
        assert_eq!(street.heard(), Ok(Vec::new()), "bad_lines.txt:{}", at + 1);
        street.leave(link);
        lines += 1;
        if lines % 20 == 0 {
            street.talk();
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(lines >= 300, "only {lines} lines");
    street.talk();
}

#[test]
fn ten_thousand_mutated_lines_disturb_nobody() {
    const SEED: u64 = 20_180_522;
    let (mut street, mut mutator) = (Street::new(), Mutator::new(SEED));
    let (mut refused, mut heard) = (0, 0);
    for n in 0..10_000 {
        let who = ["stranger", "anonymous", "bob"][n % 3];
        let line = mutator.line();
        let link = street.enter(who);
        let (answers, closed) = street.say(link, &line);
        let mut check = || -> Result<(bool, usize), String> {
            let answers: Vec<Value> = answers.lines().map(check_line).collect::<Result<_, _>>()?;
            let refused = answers.iter().any(|answer| command(answer) == "INVALID_MESSAGE");
            let said = serde_json::from_slice::<Value>(&line);
            let blank = line.iter().all(u8::is_ascii_whitespace);
            let utf8 = std::str::from_utf8(&line).is_ok();
            if utf8 && !blank && said.is_err() && !(refused && closed) {
                return Err(format!("it is no JSON, but is answered {answers:?}"));
            }
            let heard = street.heard()?;
            match (heard.as_slice(), said) {
                ([], _) => {}
                ([broadcast], Ok(mut said)) => {
                    said["activity"]["authenticated_user"] =
                        broadcast["activity"]["authenticated_user"].clone();
                    if said["activity"] != broadcast["activity"]
                        || said["username"] != said["activity"]["authenticated_user"]
                    {
                        return Err(format!("they hear {broadcast}"));
                    }
                }
                ([_], Err(_)) if !utf8 => {}
                _ => return Err(format!("they hear {heard:?}")),
            }
            Ok((refused, heard.len()))
        };
        let (was_refused, were_heard) = check().unwrap_or_else(|why| {
            panic!("line {n} of seed {SEED}, by {who}: {why}\n{}", line.escape_ascii())
        });
        refused += usize::from(was_refused);
        heard += were_heard;
        street.leave(link);
        if n % 100 == 0 {
            street.talk();
        }
    }
    street.talk();
    assert!(
        refused > 3000 && heard > 300,
        "{refused} refused, {heard} heard: the mutations are too tame or too wild"
    );
}
