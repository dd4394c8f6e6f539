//! Rules of the source tree that no compiler holds. Each failure says where, and what to do about it.

#[path = "tidy/source.rs"]
mod source;

use source::{Source, is_name, is_test, paths, sources, words};

/// The floors of `src/lib.rs`: a file names its own and those below.
const FLOORS: [(&str, u8); 11] = [
    ("base", 0),
    ("wire", 1),
    ("node", 2),
    ("store", 3),
    ("server", 4),
    ("sim", 4),
    ("client", 4),
    ("load", 5),
    ("demo", 5),
    ("cli", 5),
    ("fuzz", 5),
];
/// The floor of shells, which do not know each other; below, nothing touches the world.
const SHELLS: u8 = 4;
const PURE: u8 = 2;

/// What is as pure as the floors below on the client's: its machines, and the state of its screen. The simulator
/// may drive the machines, as the client's own shells do.
const MINDS: [&str; 14] = [
    "src/client/ids.rs",
    "src/client/own.rs",
    "src/client/named.rs",
    "src/client/machine.rs",
    "src/client/outbox.rs",
    "src/client/reply.rs",
    "src/client/journey.rs",
    "src/client/news.rs",
    "src/client/servers.rs",
    "src/client/terminal/ui.rs",
    "src/client/terminal/entries.rs",
    "src/client/terminal/editor.rs",
    "src/client/terminal/text.rs",
    "src/client/terminal/draw.rs",
];

const LINES_MAX: usize = 400;

/// What the pure floors may not name, and what they use instead.
const BANNED: [(&[&str], &str); 14] = [
    (&["std", "time", "Instant"], "take a `Time` as an argument"),
    (&["std", "time", "SystemTime"], "take a `Time` as an argument"),
    (&["std", "net", "TcpStream"], "sockets are the shell's: hand out an `Action`"),
    (&["std", "net", "TcpListener"], "sockets are the shell's: hand out an `Action`"),
    (&["std", "net", "UdpSocket"], "sockets are the shell's: hand out an `Action`"),
    (&["std", "thread"], "threads are the shell's: hand out an `Action`"),
    (&["std", "fs"], "files are the store's: hand out an `Action`"),
    (&["std", "env"], "take it as an argument, through `Limits`"),
    (&["std", "process"], "processes are the shell's"),
    (
        &["std", "collections", "HashMap"],
        "its order differs in every run: use BTreeMap, or hashbrown with a `Seed`",
    ),
    (
        &["std", "collections", "HashSet"],
        "its order differs in every run: use BTreeSet, or hashbrown with a `Seed`",
    ),
    (&["mio"], "sockets are the shell's: hand out an `Action`"),
    (&["getrandom"], "take what is drawn at random as an argument, through `Seeds`"),
    (&["libc"], "system calls are the shell's: hand out an `Action`"),
];

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// The files of `src/` that lie on a floor, each with its module and the floor.
fn on_floors(all: &[Source]) -> impl Iterator<Item = (&Source, &str, u8)> {
    all.iter().filter_map(|source| {
        let module = source.modules()[0];
        floor(module).map(|floor| (source, module, floor))
    })
}

fn none(failures: Vec<String>) {
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

#[test]
fn every_module_has_its_floor() {
    let without = |s: &&Source| floor(s.modules()[0]).is_none() && !["lib", "main"].contains(&s.modules()[0]);
    let fail = |s: &Source| format!("{}: give it a floor, in src/lib.rs and in FLOORS of this test", s.path);
    none(sources("src").iter().filter(without).map(fail).collect());
}

#[test]
fn a_file_names_only_its_own_floor_and_those_below() {
    let all = sources("src");
    none(on_floors(&all).flat_map(|(source, module, own)| upward(source, module, own)).collect());
}

/// Where the file names a floor above its own or a shell another shell. Tests may also use the simulator.
fn upward(source: &Source, module: &str, own: u8) -> Vec<String> {
    let mut failures = Vec::new();
    for (at, path) in paths(&source.code) {
        let climbs = path.iter().take_while(|name| **name == "super").count();
        let name = match path[0] {
            "crate" => path.get(1),
            "activitystreamer" => path.get(1),
            "super" if climbs >= source.modules().len() => path.get(climbs),
            _ => None,
        };
        let Some((name, floor)) = name.and_then(|name| floor(name).map(|floor| (*name, floor))) else {
            continue;
        };
        let in_test = source.product[at..].starts_with(' ');
        let drives = (module, name) == ("sim", "client");
        let other_shell = floor == SHELLS && own == SHELLS && name != module && !drives;
        if (floor > own || other_shell) && !(in_test && name == "sim") {
            let remedy = if other_shell {
                "shells do not know each other; what both need belongs on a floor below"
            } else {
                "turn the call round: hand out what is needed as a value, or move the file up"
            };
            failures
                .push(format!("{}: `{name}` is on floor {floor}, this on {own}; {remedy}", source.at(at)));
        }
    }
    failures
}

#[test]
fn the_pure_floors_touch_nothing_of_the_world() {
    let mut failures = Vec::new();
    let all = sources("src");
    let pure = |source: &Source, floor| floor <= PURE || MINDS.contains(&&*source.path);
    assert!(MINDS.iter().all(|path| all.iter().any(|source| source.path == *path)), "each of MINDS is there");
    for (source, _, _) in on_floors(&all).filter(|(source, _, floor)| pure(source, *floor)) {
        for (at, path) in paths(&source.product) {
            if let Some((banned, remedy)) = BANNED.iter().find(|(banned, _)| path.starts_with(banned)) {
                failures.push(format!(
                    "{}: `{}` below the shells; {remedy}",
                    source.at(at),
                    banned.join("::")
                ));
            }
        }
        for at in macros(&source.product, &["print", "println", "eprint", "eprintln"]) {
            failures.push(format!("{}: prints below the shells; log it, or count it", source.at(at)));
        }
    }
    none(failures);
}

/// Where one of these macros is called.
fn macros(code: &str, names: &[&str]) -> Vec<usize> {
    let words = words(code);
    words.windows(2).filter(|w| names.contains(&w[0].1) && w[1].1 == "!").map(|w| w[0].0).collect()
}

#[test]
fn unsafe_code_is_in_one_file() {
    let mut failures = Vec::new();
    for source in sources("src").iter().filter(|source| source.path != "src/server/sys.rs") {
        for (at, _) in words(&source.code).into_iter().filter(|(_, word)| *word == "unsafe") {
            let remedy = "make it a function of src/server/sys.rs that says why it is sound";
            failures.push(format!("{}: unsafe; {remedy}", source.at(at)));
        }
    }
    none(failures);
}

#[test]
fn files_stay_short() {
    let all =
        ["src", "benches", "fuzz"].into_iter().flat_map(sources).filter(|source| !is_test(&source.path));
    let fail = |source: Source| {
        let lines = source.text.lines().count();
        let remedy = "find the noun in it that wants a file of its own, or move its tests to a sibling";
        (lines > LINES_MAX)
            .then(|| format!("{}: {lines} lines, more than {LINES_MAX}; {remedy}", source.path))
    };
    none(all.filter_map(fail).collect());
}

#[test]
fn nothing_is_left_for_later() {
    let marks = ["TODO", "FIXME", "XXX"];
    let mut failures = Vec::new();
    for source in everything() {
        for (at, word) in words(&source.text).into_iter().filter(|(_, word)| marks.contains(word)) {
            failures
                .push(format!("{}: {word}; do it, or write it down where work is planned", source.at(at)));
        }
        for at in macros(&source.code, &["todo", "unimplemented", "dbg"]) {
            failures.push(format!("{}: unfinished; do it, or leave it out", source.at(at)));
        }
    }
    none(failures);
}

#[test]
fn no_code_is_commented_out() {
    let mut failures = Vec::new();
    for source in everything() {
        for at in
            source.comments.iter().filter(|at| is_code(source.text[**at..].lines().next().unwrap_or("")))
        {
            failures.push(format!("{}: commented-out code; delete it, git remembers", source.at(*at)));
        }
    }
    none(failures);
}

/// A comment that reads like a statement: it ends like one and has the marks of one, or begins like an item.
fn is_code(comment: &str) -> bool {
    let text = comment.trim_start_matches('/').trim();
    let ends = text.ends_with(';') && text.contains(['(', '=', ':']);
    let begins =
        ["let ", "use ", "fn ", "pub ", "#[", "if let ", "} else"].iter().any(|b| text.starts_with(b));
    ends || text.ends_with(['{', '}']) || (begins && text.ends_with([',', ']', ')']))
}

#[test]
fn every_file_begins_by_saying_what_it_is_for() {
    let silent = |s: &&Source| s.path != "src/main.rs" && !is_test(&s.path) && !s.text.starts_with("//!");
    let fail = |s: &Source| format!("{}:1: begin with `//!`: what it is for, its one invariant", s.path);
    none(sources("src").iter().filter(silent).map(fail).collect());
}

#[test]
fn files_are_named_for_what_they_are() {
    const EMPTY: [&str; 9] =
        ["manager", "handler", "helper", "helpers", "util", "utils", "misc", "data", "info"];
    let mut failures = Vec::new();
    for source in everything() {
        for name in source.path.trim_end_matches(".rs").split(['/', '_']).filter(|name| EMPTY.contains(name))
        {
            failures.push(format!("{}: `{name}` says nothing; name it for what it is", source.path));
        }
    }
    none(failures);
}

#[test]
fn the_architecture_page_points_at_files_that_are_there() {
    let all = sources("src");
    let page = all.iter().find(|source| source.path == "src/lib.rs").unwrap();
    let mut failures = Vec::new();
    let mut at = 0;
    for part in page.text.split('`') {
        let is_file =
            part.ends_with(".rs") && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_.".contains(&b));
        let is_there = |source: &Source| source.path == part || source.path == format!("src/{part}");
        if is_file && !all.iter().any(is_there) && !part.starts_with("tests/") {
            failures.push(format!("{}: there is no {part}; say where that went", page.at(at)));
        }
        at += part.len() + 1;
    }
    none(failures);
}

#[test]
fn bounds_of_load_stand_in_one_file() {
    let mut failures = Vec::new();
    let of_load = |source: &Source| ["load", "demo"].contains(&source.modules()[0]);
    for source in
        sources("src").iter().filter(|source| of_load(source) && source.path != "src/load/limits.rs")
    {
        let words = words(&source.product);
        for parts in words.windows(4).filter(|parts| parts[0].1 == "const") {
            let (name, kind) = (parts[1].1, parts[3].1);
            if ["Duration", "u64", "f64"].contains(&kind) || name.ends_with("_MAX") {
                let remedy = "move it to src/load/limits.rs, with its unit and its reason";
                failures.push(format!("{}: the bound {name}; {remedy}", source.at(parts[0].0)));
            }
        }
    }
    none(failures);
}

/// All of the project's Rust but for this test, which has to name what it forbids.
fn everything() -> impl Iterator<Item = Source> {
    let all = ["src", "tests", "benches", "fuzz"].into_iter().flat_map(sources);
    all.filter(|source| !source.path.starts_with("tests/tidy"))
}

#[test]
fn comments_and_strings_are_no_code() {
    let text = r##"
        use std::{fs, collections::{HashMap as M, BTreeMap}}; // use mio::Poll;
        /// Prose with crate::server in it.
        fn f<'a>(c: &'a str) -> char { let s = "std::thread \" crate::cli"; '"' }
        const R: &str = br#"crate::client " "#; /* std::env */ fn g() { super::h(); }
        #[cfg(test)]
        mod tests { use mio::Token; fn t() { unsafe {} } }
        fn last() { crate::wire::line::x(b'\''); }
    "##;
    let source = Source::new("src/node/link.rs", text.to_owned());
    let named = |code: &str| -> Vec<String> {
        paths(code).into_iter().map(|(_, path)| path.join("::")).filter(|path| path.contains("::")).collect()
    };
    let product = ["std::fs", "std::collections::HashMap", "std::collections::as", "std::collections::M"];
    let product =
        product.into_iter().chain(["std::collections::BTreeMap", "super::h", "crate::wire::line::x"]);
    assert_eq!(named(&source.product), product.collect::<Vec<_>>());
    assert!(named(&source.code).contains(&"mio::Token".to_owned()));
    assert_eq!(source.comments.len(), 1);
    assert!(source.at(text.find("BTreeMap").unwrap()).ends_with(":2"));
    assert!(is_code("// use mio::Poll;") && !is_code("// As it was; see above") && is_name("x"));
    assert_eq!(Source::new("src/node/tests.rs", "fn f() {}".into()).product.trim(), "");
    let climbing =
        Source::new("src/wire/line.rs", "use crate::node::Node; fn f() { super::super::cli::main() }".into());
    assert_eq!(upward(&climbing, "wire", 1).len(), 2);
    let sideways = Source::new("src/server/mod.rs", "use crate::client::run; use super::sim::World;".into());
    assert_eq!(upward(&sideways, "server", 4).len(), 2);
}
