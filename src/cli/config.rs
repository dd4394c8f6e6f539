//! Where a server's settings come from: a file, the environment, flags. The later wins over the earlier.
//!
//! There is one list of settings, the flags of `server`: a key of the file is a flag without its dashes, a
//! variable is `AS_` and the same in capitals. What was found is given back as flags, so there is one place
//! that checks values.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::{Cli, Command, CommandFactory, Parser, ServerArgs};

/// Bytes a file of settings may have: all of them are two thousand, with comments ten.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Flags that are no settings.
const NO_SETTINGS: [&str; 4] = ["config", "check-config", "print-config", "help"];
/// Two ways to say one thing: where a stronger place says one, it takes the other along.
const EITHER: [&str; 2] = ["secret", "secret-file"];
/// Where a setting made by a flag comes from.
const FLAG: &str = "flag";
/// What changes while a server runs. The rest needs a restart.
const CHANGING: [&str; 9] = [
    "away",
    "drain",
    "failed-logins",
    "hash-kib",
    "hash-passes",
    "line-bytes",
    "log",
    "login-timeout",
    "names",
];

/// One setting that somebody made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    text: Zeroizing<String>,
    /// Where it was made.
    from: String,
}

/// All settings that somebody made.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<String, Setting>);

/// What reading settings anew came to.
pub struct Change {
    /// What holds now.
    pub settings: Settings,
    /// The keys that changed.
    pub changed: Vec<String>,
    /// Those that would have, but need a restart.
    pub restart: Vec<String>,
}

impl Settings {
    /// Reads the file that flags or environment name, the environment, and the flags.
    ///
    /// # Errors
    /// The text says where, what, and what was probably meant.
    pub fn read(
        args: &[OsString],
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Settings, String> {
        let matches = Cli::command().try_get_matches_from(args).map_err(|e| e.to_string())?;
        let flags = matches.subcommand_matches("server").ok_or("these are no flags of a server")?;
        let variables = variables(environment)?;
        let named = flags.get_raw("config").and_then(|mut values| values.next().map(OsString::from));
        let mut all = Settings::default();
        let path =
            named.or_else(|| variables.iter().find(|(key, ..)| key == "config").map(|v| v.1.clone().into()));
        if let Some(path) = path {
            all.add(file(Path::new(&path))?)?;
        }
        let variables = variables.into_iter().filter(|(key, ..)| key != "config");
        all.add(variables.collect())?;
        all.add(given(flags))?;
        Ok(all)
    }

    /// Adds what a stronger place says.
    fn add(&mut self, said: Vec<(String, String, String)>) -> Result<(), String> {
        if said.iter().any(|(key, ..)| EITHER.contains(&&**key)) {
            self.0.retain(|key, _| !EITHER.contains(&&**key));
        }
        for (key, text, from) in said {
            check(&key, &text).map_err(|why| format!("{from}: {why}"))?;
            self.0.insert(key, Setting { text: Zeroizing::new(text), from });
        }
        Ok(())
    }

    /// The settings as flags, checked.
    ///
    /// # Errors
    /// As on the command line.
    pub fn flags(&self) -> Result<ServerArgs, String> {
        let made = self.0.iter().map(|(key, setting)| format!("--{key}={}", *setting.text));
        let cli =
            Cli::try_parse_from(["activitystreamer".to_owned(), "server".to_owned()].into_iter().chain(made));
        match cli.map_err(|e| e.to_string())?.command {
            Command::Server(args) => Ok(*args),
            _ => Err("these are no flags of a server".to_owned()),
        }
    }

    /// Those made by flags, but for some, as flags.
    pub fn given_but(&self, some: &[&str]) -> Vec<OsString> {
        let made = self.0.iter().filter(|(key, setting)| setting.from == FLAG && !some.contains(&&***key));
        made.map(|(key, setting)| format!("--{key}={}", *setting.text).into()).collect()
    }

    /// All settings as a file, each with where it was made. The secret is left out.
    pub fn print(&self) -> String {
        let mut text = String::new();
        for arg in arguments() {
            let key = key(&arg);
            let default =
                || arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
            let line = match self.0.get(&key) {
                Some(setting) if key == "secret" => format!("# secret is not shown  # {}", setting.from),
                Some(setting) => format!("{key} = {}  # {}", value(&setting.text), setting.from),
                None => match default() {
                    Some(default) => format!("{key} = {}  # default", value(&default)),
                    None => format!("# {key} is not set"),
                },
            };
            writeln!(text, "{line}").expect("a String takes every write");
        }
        text
    }

    /// What holds after these were read anew: what may change does.
    pub fn change(&self, new: &Settings) -> Change {
        let text = |all: &Settings, key: &str| all.0.get(key).map(|setting| setting.text.clone());
        let mut change = Change { settings: self.clone(), changed: Vec::new(), restart: Vec::new() };
        for arg in arguments() {
            let key = key(&arg);
            if text(self, &key) == text(new, &key) {
                continue;
            }
            if !CHANGING.contains(&&*key) {
                change.restart.push(key);
                continue;
            }
            match new.0.get(&key) {
                Some(setting) => change.settings.0.insert(key.clone(), setting.clone()),
                None => change.settings.0.remove(&key),
            };
            change.changed.push(key);
        }
        change
    }
}

/// The flags of `server` that are settings, in their order.
fn arguments() -> Vec<Arg> {
    let command = Cli::command();
    let server = command.find_subcommand("server").expect("it is one of the commands");
    server.get_arguments().filter(|arg| !NO_SETTINGS.contains(&&*key(arg))).cloned().collect()
}

fn key(arg: &Arg) -> String {
    arg.get_long().expect("every flag of a server has a long name").to_owned()
}

/// Where a name is meant as a setting and is none: what is probably meant.
fn unknown(what: &str, name: &str, spell: impl Fn(&str) -> String) -> String {
    let known = arguments().iter().map(|arg| spell(&key(arg))).collect::<Vec<_>>();
    let near = |other: &str| strsim::jaro_winkler(&other.to_lowercase(), &name.to_lowercase());
    let like = known.iter().max_by(|a, b| near(a).total_cmp(&near(b)));
    format!("there is no {what} `{name}`; the nearest is `{}`", like.map_or("", |like| like))
}

/// One setting alone, as a flag: whether its value is good.
fn check(key: &str, text: &str) -> Result<(), String> {
    let flag = format!("--{key}={text}");
    match Cli::try_parse_from(["activitystreamer", "server", &flag]) {
        Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => {
            let text = error.to_string();
            let why = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
            Err(why.split_whitespace().collect::<Vec<_>>().join(" "))
        }
        _ => Ok(()),
    }
}

fn variables(
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String, String)>, String> {
    let spell = |key: &str| format!("AS_{}", key.replace('-', "_").to_uppercase());
    let mut found = Vec::new();
    for (name, text) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with("AS_")).map(str::to_owned) else {
            continue;
        };
        let key = name["AS_".len()..].replace('_', "-").to_lowercase();
        if spell(&key) != name || (key != "config" && !arguments().iter().any(|arg| self::key(arg) == key)) {
            return Err(format!("in the environment: {}", unknown("variable", &name, spell)));
        }
        let text = text.into_string().map_err(|_| format!("{name} in the environment is no text"))?;
        found.push((key, text, name));
    }
    Ok(found)
}

fn given(flags: &ArgMatches) -> Vec<(String, String, String)> {
    let made = arguments()
        .into_iter()
        .filter(|arg| flags.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine));
    let text =
        |arg: &Arg| flags.get_raw(arg.get_id().as_str())?.next().map(|v| v.to_string_lossy().into_owned());
    made.filter_map(|arg| Some((key(&arg), text(&arg)?, FLAG.to_owned()))).collect()
}

fn file(path: &Path) -> Result<Vec<(String, String, String)>, String> {
    let name = path.display();
    let cannot = |why: &dyn std::fmt::Display| format!("the settings in {name} cannot be read: {why}");
    let length = fs::metadata(path).map_err(|e| cannot(&e))?.len();
    if length > FILE_BYTES_MAX {
        return Err(cannot(&"the file is larger than 1 MiB"));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(|e| cannot(&e))?);
    let line = |at: usize| 1 + text[..at.min(text.len())].matches('\n').count();
    let table = DeTable::parse(&text).map_err(|e| {
        let at = e.span().map_or(1, |span| line(span.start));
        format!("{name}:{at}: {}", e.message())
    })?;
    let mut entries = table.get_ref().iter().collect::<Vec<_>>();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut found = Vec::new();
    for (key, value) in entries {
        let from = format!("{name}:{}", line(key.span().start));
        let key = key.get_ref().as_ref();
        if !arguments().iter().any(|arg| self::key(arg) == key) {
            return Err(format!("{from}: {}", unknown("setting", key, str::to_owned)));
        }
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(n) if n.radix() == 10 => n.as_str().to_owned(),
            DeValue::Boolean(yes) => yes.to_string(),
            _ => return Err(format!("{from}: `{key}` is a text, a number, or true or false")),
        };
        found.push((key.to_owned(), text, from));
    }
    Ok(found)
}

/// A value as TOML has it: its texts are JSON's.
fn value(text: &str) -> String {
    match text.parse::<i64>().is_ok() || ["true", "false"].contains(&text) {
        true => text.to_owned(),
        false => serde_json::Value::from(text).to_string(),
    }
}

/// The environment of this process.
pub fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    env::vars_os()
}

#[cfg(test)]
mod tests;
