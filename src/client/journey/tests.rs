//! Journeys in virtual time. A line is `connected`, `failed`, `closed` (in good order), `broken`, `say TEXT`,
//! `end`, `learn HOST`, `< LINE` (what the server sends), `@ MS` (so much later), or `= STEP`: what is to do
//! then, waits left out after they were found short enough.

use zeroize::Zeroizing;

use super::*;

const IN: &str = r#"{"command":"LOGIN_SUCCESS","info":"in"}"#;

fn login() -> Mode {
    Mode::Login { name: "bob".to_owned(), secret: Zeroizing::new("sek".to_owned()) }
}

fn register() -> Mode {
    Mode::Register { name: "bob".to_owned(), secret: Zeroizing::new("sek".to_owned()) }
}

struct Play {
    journey: Journey,
    now: Duration,
    /// The longest pause so far since this was taken.
    paused: Duration,
}

impl Play {
    fn new(mode: Mode, hosts: &[&str], retries: Option<u32>, seed: u64) -> Play {
        let servers = hosts.iter().map(|host| ((*host).to_owned(), 1));
        Play {
            journey: Journey::new(mode, servers, retries, seed),
            now: Duration::ZERO,
            paused: Duration::ZERO,
        }
    }

    /// Waits as it is told, and says what is to do then.
    fn next(&mut self) -> String {
        loop {
            match self.journey.step(self.now) {
                Step::Connect { host, port } => return format!("connect {host} {port}"),
                Step::Wait { until, .. } => {
                    assert!(until > self.now && until - self.now <= PAUSE_MAX);
                    self.paused = self.paused.max(until - self.now);
                    self.now = until;
                }
                Step::Talk => return "talk".to_owned(),
                Step::Close => return "close".to_owned(),
                Step::Over(over) => return format!("{over:?}"),
            }
        }
    }

    fn sends(&mut self) -> String {
        let text = String::from_utf8(self.journey.transmit().to_vec()).expect("UTF-8");
        self.journey.sent(text.len());
        text
    }

    fn play(&mut self, lines: &str) -> &mut Play {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            match verb {
                "connected" => self.journey.connected(),
                "failed" => self.journey.failed(self.now, "no".to_owned()),
                "closed" => drop(self.journey.closed(self.now, "closed", false)),
                "broken" => drop(self.journey.closed(self.now, "broken", true)),
                "say" => self.journey.say(rest),
                "end" => self.journey.end(),
                "learn" => self.journey.learn(rest, 1),
                "in" => drop(self.journey.handle(self.now, IN.as_bytes())),
                "<" => drop(self.journey.handle(self.now, rest.as_bytes())),
                ">" => assert_eq!(self.sends().trim_end(), rest),
                "@" => self.now += Duration::from_millis(rest.parse().expect("a time")),
                "=" => assert_eq!(self.next(), rest, "after {line}"),
                _ => panic!("no verb of a journey: {line}"),
            }
        }
        self
    }
}

#[test]
fn after_a_break_the_same_server_is_first_then_the_others_in_turn() {
    let script = "
        = connect a 1
        connected
        in
        learn b
        learn c
        = talk
        @ 5000
        broken
        = connect a 1
        failed
        = connect b 1
        failed
        = connect c 1
        failed
        = connect a 1
        failed
        = connect b 1
        connected
        in
        @ 5000
        closed
        = connect b 1
        failed
        = connect a 1";
    for seed in 0..50 {
        assert!(Play::new(login(), &["a"], None, seed).play(script).paused <= 2 * PAUSE_FIRST);
    }
}

#[test]
fn a_redirect_is_followed_at_once_and_is_a_way_back() {
    let mut play = Play::new(login(), &["a"], None, 1);
    play.play(
        r#"
        = connect a 1
        connected
        in
        < {"command":"REDIRECT","hostname":"b","port":1}
        = talk
        closed
        = connect b 1
        "#,
    );
    assert_eq!(play.now, Duration::ZERO, "without a pause");
    play.play("failed\n= connect a 1\nfailed\n= connect b 1");
}

#[test]
fn pauses_are_random_and_their_bound_doubles_each_round_up_to_a_bound() {
    let longest = |failures: usize, hosts: &[&str]| -> Duration {
        let all = (0..200).map(|seed| {
            let mut play = Play::new(login(), hosts, None, seed);
            for _ in 0..failures {
                play.next();
                play.journey.failed(play.now, "no".to_owned());
            }
            play.paused = Duration::ZERO;
            play.next();
            play.paused
        });
        let (least, most) = all.fold((PAUSE_MAX, Duration::ZERO), |(a, b), p| (a.min(p), b.max(p)));
        assert!(least < most / 10, "jitter is full");
        most
    };
    let is_about = |pause: Duration, bound: Duration| pause <= bound && pause >= bound * 9 / 10;
    assert!(is_about(longest(1, &["a"]), PAUSE_FIRST));
    assert!(is_about(longest(3, &["a"]), PAUSE_FIRST * 4));
    assert!(is_about(longest(3, &["a", "b", "c"]), PAUSE_FIRST));
    assert!(is_about(longest(4, &["a", "b", "c"]), PAUSE_FIRST * 2));
    assert!(is_about(longest(100, &["a"]), PAUSE_MAX));
}

#[test]
fn a_server_that_lets_in_and_breaks_off_is_not_hammered() {
    let mut play = Play::new(login(), &["a"], None, 3);
    for _ in 0..20 {
        play.play("= connect a 1\nconnected\nin\nbroken");
    }
    assert!(play.now > PAUSE_MAX, "twenty logins took {:?}", play.now);
    play.play("= connect a 1\nconnected\nin\n@ 1000\nbroken");
    play.paused = Duration::ZERO;
    play.next();
    assert!(play.paused <= PAUSE_FIRST, "one that stayed begins anew");
}

#[test]
fn what_was_not_wholly_written_is_said_again_and_what_was_is_not() {
    let mut play = Play::new(login(), &["a"], None, 1);
    play.play("say one\nsay two\n= connect a 1\nconnected\nin");
    let hello = play.sends();
    assert!(hello.contains("LOGIN"), "{hello}");
    let both = String::from_utf8(play.journey.transmit().to_vec()).expect("UTF-8");
    play.journey.sent(both.find('\n').expect("two lines") + 10);
    play.play(
        r#"
        broken
        = connect a 1
        connected
        > {"command":"LOGIN","username":"bob","secret":"sek"}
        in
        > {"command":"ACTIVITY_MESSAGE","username":"bob","secret":"sek","activity":{"message":"two"}}
        end
        > {"command":"LOGOUT"}
        broken
        = connect a 1
        connected
        > {"command":"LOGIN","username":"bob","secret":"sek"}
        in
        > {"command":"LOGOUT"}
        closed
        = LoggedOut
        "#,
    );
}

#[test]
fn it_gives_up_after_so_many_failures_in_a_row_if_it_was_told_to() {
    let mut play = Play::new(login(), &["a", "b"], Some(2), 1);
    play.play("= connect a 1\nfailed\n= connect b 1\nconnected\nin\n@ 1000\nbroken");
    play.play("= connect b 1\nfailed\n= connect a 1\nfailed");
    assert_eq!(play.next(), "Unreached { why: \"no\", redirected: false }");
    let mut play = Play::new(login(), &["a"], Some(0), 1);
    play.play(
        r#"
        = connect a 1
        connected
        in
        < {"command":"REDIRECT","hostname":"b","port":1}
        closed
        = connect b 1
        connected
        broken
        = Lost { why: "broken", logged_in: false }
        "#,
    );
}

#[test]
fn a_refusal_ends_it_unless_the_pair_was_good_before() {
    let refused = r#"< {"command":"LOGIN_FAILED","info":"who?"}"#;
    let over = r#"= Refused { command: "LOGIN_FAILED", info: "who?" }"#;
    Play::new(login(), &["a", "b"], None, 1)
        .play("= connect a 1\nconnected")
        .play(refused)
        .play("= close\nclosed")
        .play(over);
    let mut play = Play::new(login(), &["a", "b"], None, 1);
    play.play("= connect a 1\nconnected\nin\n@ 2000\nbroken");
    for host in ["a", "b", "a"] {
        play.play(&format!("= connect {host} 1\nconnected")).play(refused).play("= close\nclosed");
    }
    play.play("= connect b 1\nconnected").play(refused).play("= close\nclosed").play(over);
}

#[test]
fn a_registration_whose_answer_was_lost_is_tried_as_a_login() {
    let taken = r#"< {"command":"REGISTER_FAILED","info":"bob is taken"}"#;
    let mut play = Play::new(register(), &["a"], None, 1);
    play.play("= connect a 1\nconnected\nbroken\n= connect a 1\nconnected").sends();
    play.play(taken).play("= close\nclosed\n= connect a 1\nconnected");
    play.play(r#"> {"command":"LOGIN","username":"bob","secret":"sek"}"#);
    play.play(r#"< {"command":"LOGIN_FAILED","info":"wrong"}"#).play("= close\nclosed");
    play.play(r#"= Refused { command: "REGISTER_FAILED", info: "bob is taken" }"#);
    let mut play = Play::new(register(), &["a"], None, 1);
    play.play("= connect a 1\nconnected").play(taken).play("= close\nclosed");
    play.play(r#"= Refused { command: "REGISTER_FAILED", info: "bob is taken" }"#);
}

#[test]
fn servers_that_redirect_in_circles_are_given_time() {
    let mut play = Play::new(login(), &["a"], None, 1);
    for _ in 0..200 {
        play.next();
        play.play("connected\nin");
        play.play(r#"< {"command":"REDIRECT","hostname":"a","port":1}"#).play("closed");
    }
    assert!(play.now > Duration::from_secs(60), "two hundred logins took {:?}", play.now);
}
