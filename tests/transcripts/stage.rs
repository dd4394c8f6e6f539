//! Where a transcript is played: a world, its clients by name, and what each of them heard.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use activitystreamer::base::id::LinkId;
use activitystreamer::base::limits::Limits;
use activitystreamer::node::Input;
use activitystreamer::sim::{Socket, World};

use crate::common::{check_line, unescape};

/// Plays all scenes of a file. Panics with the first error of each scene.
pub fn play(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let name = path.file_name().unwrap_or_default().display();
    let mut errors = String::new();
    let mut note = |at: usize, why: String| {
        writeln!(errors, "tests/transcripts/{name}:{at}: {why}").expect("a String takes every write");
    };
    let mut scene = Err(());
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("== ") {
            let new = Scene::new(title, at + 1);
            if let Ok(Err((at, why))) = std::mem::replace(&mut scene, Ok(new)).map(Scene::end) {
                note(at, why);
            }
        } else if let Ok(Err(why)) = scene.as_mut().map(|scene: &mut Scene| scene.step(line)) {
            note(at + 1, why);
            scene = Err(());
        }
    }
    if let Ok(Err((at, why))) = scene.map(Scene::end) {
        note(at, why);
    }
    assert!(errors.is_empty(), "\n{errors}");
}

type Step = Result<(), String>;

struct Scene {
    title: String,
    line: usize,
    limits: Limits,
    world: Option<World>,
    clients: BTreeMap<String, Client>,
}

struct Client {
    link: LinkId,
    /// Whom it arrived as.
    name: String,
    /// What it heard and no step has told of.
    heard: String,
}

impl Scene {
    fn new(title: &str, line: usize) -> Scene {
        let (limits, clients) = (Limits { feed_bytes: 1 << 20, ..Limits::default() }, BTreeMap::new());
        Scene { title: title.to_owned(), line, limits, world: None, clients }
    }

    /// Plays one line.
    fn step(&mut self, line: &str) -> Step {
        if let Some(time) = line.strip_prefix("@ ") {
            let by = duration(time)?;
            self.world().advance(by);
            return Ok(());
        }
        let at = line.find([':', '>', '<']).ok_or("a transcript has no such line")?;
        let (names, rest) = (&line[..at], &line[at..]);
        if names == "limits" {
            return rest[1..].split(',').try_for_each(|limit| self.limit(limit.trim()));
        }
        for name in names.split(',').map(str::trim) {
            if name == "server" {
                self.server(rest[1..].trim())?;
            } else if let Some(bytes) = rest.strip_prefix(">> ") {
                self.send(name, &unescape(bytes))?;
            } else if let Some(line) = rest.strip_prefix("> ") {
                self.send(name, &[&unescape(line)[..], b"\n"].concat())?;
            } else if let Some(line) = rest.strip_prefix("< ") {
                self.hear(name, &String::from_utf8_lossy(&unescape(line)))?;
            } else {
                self.client(name, rest.trim_start_matches(':').trim())?;
            }
        }
        Ok(())
    }

    /// Two more seconds, and nobody may have heard what was not told of. An error comes with the scene's line.
    fn end(mut self) -> Result<(), (usize, String)> {
        self.world().advance(Duration::from_secs(2));
        let names: Vec<String> = self.clients.keys().cloned().collect();
        let (at, title) = (self.line, self.title.clone());
        names
            .iter()
            .try_for_each(|name| self.silent(name))
            .map_err(|why| (at, format!("when \"{title}\" ends, {why}")))
    }

    fn world(&mut self) -> &mut World {
        let limits = &self.limits;
        self.world.get_or_insert_with(|| World::new(limits.clone()))
    }

    fn limit(&mut self, limit: &str) -> Step {
        let (what, value) = limit.split_once(' ').ok_or("a limit is a word and a value")?;
        let limits = &mut self.limits;
        let number = || value.parse::<usize>().map_err(|error| format!("{error}: {value}"));
        match what {
            "away" => limits.away = duration(value)?,
            "login" => limits.login = duration(value)?,
            "line" => limits.line_bytes = number()?,
            "feed" => limits.feed_bytes = number()?,
            "names" => limits.names = number()?,
            "failures" => limits.failed_logins = number()? as u8,
            _ => return Err(format!("no limit is called {what}")),
        }
        if self.world.is_some() { Err("limits stand at the beginning of a scene".into()) } else { Ok(()) }
    }

    fn server(&mut self, what: &str) -> Step {
        let world = self.world();
        match what.split_once(' ') {
            Some(("knows", name)) => {
                let link = world.connect_from([10, 9, 9, 9].into());
                let register = format!(r#"{{"command":"REGISTER","username":"{name}","secret":"sek"}}"#);
                world.send(link, format!("{register}\n{{\"command\":\"LOGOUT\"}}\n").as_bytes());
                world.end(link);
                let heard = world.heard(link);
                if heard.contains("REGISTER_SUCCESS") { Ok(()) } else { Err(format!("it does not: {heard}")) }
            }
            Some(("hashes", "wait")) => {
                world.hold_hashes = true;
                Ok(())
            }
            None if what == "hashes" => {
                world.hold_hashes = false;
                world.hash();
                Ok(())
            }
            None if what == "stops" => {
                world.node.handle(world.now, Input::Stop);
                world.turn();
                Ok(())
            }
            _ => Err(format!("a server does not do that: {what}")),
        }
    }

    fn client(&mut self, name: &str, what: &str) -> Step {
        let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
        match verb {
            "connect" => self.connect(name, rest.strip_prefix("from ")),
            "arrives" => self.arrive(name, rest.strip_prefix("as ").unwrap_or("anonymous")),
            "says" => {
                let user = &self.client_mut(name)?.name;
                let message = format!(
                    r#"{{"command":"ACTIVITY_MESSAGE","username":"{user}","secret":"sek","activity":{{"note":"{rest}"}}}}"#
                );
                self.send(name, &unescape(&format!("{message}\n")))
            }
            "hears" => {
                let (user, note) = rest.split_once(": ").ok_or("hears whom? NAME: WORDS")?;
                let activity = format!(r#"{{"note":"{note}","authenticated_user":"{user}"}}"#);
                let line = unescape(&format!(r#"{{"command":"ACTIVITY_BROADCAST","activity":{activity}}}"#));
                self.hear(name, &String::from_utf8_lossy(&line))
            }
            "silent" => self.silent(name),
            "eof" => self.on_link(name, World::end),
            "cut" => self.cut(name),
            "shut" | "closed" | "open" => {
                let socket = self.socket(name)?;
                let is = if socket.closed {
                    "closed"
                } else if socket.shut {
                    "shut"
                } else {
                    "open"
                };
                if is == verb { Ok(()) } else { Err(format!("{name}'s connection is {is}")) }
            }
            "hangs" => {
                self.socket(name)?.stalled = true;
                Ok(())
            }
            "acknowledges" => self.acknowledge(name, rest),
            "takes" => {
                let room = match rest.strip_suffix(" bytes") {
                    Some(n) => Some(n.parse().map_err(|error| format!("{error}: {n}"))?),
                    None => (rest != "everything").then_some(0),
                };
                self.on_link(name, |world, link| world.make_room(link, room))
            }
            _ => Err(format!("a client does not do that: {what}")),
        }
    }

    fn connect(&mut self, name: &str, from: Option<&str>) -> Step {
        let address: IpAddr = match from {
            Some(from) => from.parse().map_err(|error| format!("{error}: {from}"))?,
            None => Ipv4Addr::LOCALHOST.into(),
        };
        if self.clients.contains_key(name) {
            return Err(format!("{name} is connected already; another connection is another client"));
        }
        let link = self.world().connect_from(address);
        self.clients.insert(name.to_owned(), Client { link, name: String::new(), heard: String::new() });
        Ok(())
    }

    fn arrive(&mut self, name: &str, user: &str) -> Step {
        self.connect(name, None)?;
        self.client_mut(name)?.name = user.to_owned();
        let secret = if user == "anonymous" { "" } else { r#","secret":"sek""# };
        self.send(name, format!("{{\"command\":\"LOGIN\",\"username\":\"{user}\"{secret}}}\n").as_bytes())?;
        self.hear(name, &format!(r#"{{"command":"LOGIN_SUCCESS","info":"logged in as user {user}"}}"#))
    }

    fn client_mut(&mut self, name: &str) -> Result<&mut Client, String> {
        self.clients.get_mut(name).ok_or_else(|| format!("{name} is not connected"))
    }

    fn on_link(&mut self, name: &str, act: impl FnOnce(&mut World, LinkId)) -> Step {
        let link = self.client_mut(name)?.link;
        act(self.world(), link);
        Ok(())
    }

    fn socket(&mut self, name: &str) -> Result<&mut Socket, String> {
        let link = self.client_mut(name)?.link;
        Ok(self.world().socket(link))
    }

    fn send(&mut self, name: &str, bytes: &[u8]) -> Step {
        if self.socket(name)?.closed {
            return Err(format!("{name}'s connection is closed"));
        }
        self.on_link(name, |world, link| world.send(link, bytes))
    }

    /// What a client heard and no step has told of.
    fn heard(&mut self, name: &str) -> Result<&mut String, String> {
        let link = self.client_mut(name)?.link;
        let new = self.world().heard(link);
        let heard = &mut self.client_mut(name)?.heard;
        heard.push_str(&new);
        Ok(heard)
    }

    fn hear(&mut self, name: &str, want: &str) -> Step {
        let heard = self.heard(name)?;
        let Some(end) = heard.find('\n') else {
            return Err(match heard.as_str() {
                "" => format!("{name} hears nothing"),
                part => format!("{name} hears no more than the beginning of a line: {part}"),
            });
        };
        let line: String = heard.drain(..=end).collect();
        check_line(&line[..end])?;
        if line[..end] == *want { Ok(()) } else { Err(format!("{name} hears\n  {line}not\n  {want}")) }
    }

    /// No line is left that was not told of, and no half one where none can follow it.
    fn silent(&mut self, name: &str) -> Step {
        let ended = self.socket(name)?.shut;
        match self.heard(name)?.as_str() {
            "" => Ok(()),
            part if !ended && !part.contains('\n') => Ok(()),
            heard => Err(format!("{name} also hears\n  {heard}")),
        }
    }

    /// What was not acknowledged is lost, unless the transcript has told that it was heard.
    fn cut(&mut self, name: &str) -> Step {
        self.on_link(name, World::cut)?;
        let socket = self.socket(name)?;
        let lost = socket.acknowledged.map_or(0, |n| socket.written.len() - n);
        let heard = self.heard(name)?;
        heard.truncate(heard.len().saturating_sub(lost));
        Ok(())
    }

    fn acknowledge(&mut self, name: &str, what: &str) -> Step {
        let socket = self.socket(name)?;
        let (all, now) = (socket.written.len(), socket.acknowledged.unwrap_or(socket.written.len()));
        socket.acknowledged = match what {
            "everything" => None,
            "nothing" => Some(all),
            "1 line" => {
                let line = socket.written[now..].iter().position(|byte| *byte == b'\n');
                Some(now + line.ok_or_else(|| format!("{name} was not sent a whole line"))? + 1)
            }
            _ => return Err("acknowledges everything, nothing or 1 line".into()),
        };
        Ok(())
    }
}

/// `250ms`, `10s`, `5m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..unit].parse().map_err(|error| format!("{error}: {text}"))?;
    let unit_ms = match &text[unit..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("no duration: {text}")),
    };
    Ok(Duration::from_millis(number * unit_ms))
}
