//! A Rust file as `tidy` reads it: its code apart from its comments and strings, and the paths it names.

use std::fs;
use std::path::Path;

pub struct Source {
    /// Below the repository, with slashes.
    pub path: String,
    pub text: String,
    /// `text` with comments and the insides of strings blanked; every byte is where it was.
    pub code: String,
    /// `code` with test modules blanked too; nothing at all if the whole file is a test.
    pub product: String,
    /// Where line comments that are not documentation begin.
    pub comments: Vec<usize>,
}

impl Source {
    pub fn new(path: &str, text: String) -> Source {
        let (code, comments) = code(&text);
        let product = if is_test(path) { blank(&code, 0, code.len()) } else { without_tests(&code) };
        Source { path: path.to_owned(), text, code, product, comments }
    }

    /// `file:line` of a place in it.
    pub fn at(&self, offset: usize) -> String {
        format!("{}:{}", self.path, self.text[..offset].matches('\n').count() + 1)
    }

    /// The modules of the crate it lies in: `node`, `session` for `src/node/session.rs`.
    pub fn modules(&self) -> Vec<&str> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        inner.split('/').collect()
    }
}

/// All Rust files below `folder`, in order.
pub fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    walk(&root.join(folder), &mut paths);
    paths.sort();
    let source = |path: &String| {
        let text = fs::read_to_string(path).unwrap();
        let below = Path::new(path).strip_prefix(root).unwrap().to_str().unwrap();
        Source::new(below, text)
    };
    paths.iter().filter(|path| path.ends_with(".rs")).map(source).collect()
}

fn walk(folder: &Path, paths: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            paths.push(path.to_str().unwrap().to_owned());
        } else if !path.ends_with("target") {
            walk(&path, paths);
        }
    }
}

pub fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn blank(text: &str, from: usize, to: usize) -> String {
    let middle: Vec<u8> =
        text.as_bytes()[from..to].iter().map(|b| if *b == b'\n' { *b } else { b' ' }).collect();
    [&text[..from], std::str::from_utf8(&middle).unwrap(), &text[to..]].concat()
}

/// Blanks comments and the insides of strings, and says where plain line comments begin.
fn code(text: &str) -> (String, Vec<usize>) {
    let bytes = text.as_bytes();
    let (mut out, mut comments, mut at) = (bytes.to_vec(), Vec::new(), 0);
    let find = |from: usize, what: &str| text[from..].find(what).map_or(text.len(), |i| from + i);
    while at < bytes.len() {
        let rest = &text[at..];
        let raw = raw_string(rest);
        let end = if rest.starts_with("//") {
            if !rest.starts_with("///") && !rest.starts_with("//!") {
                comments.push(at);
            }
            find(at, "\n")
        } else if rest.starts_with("/*") {
            find(at, "*/")
        } else if let Some(close) = &raw {
            find(at + close.len() + 1, close)
        } else if rest.starts_with('"') {
            quoted_end(bytes, at + 1, b'"')
        } else if rest.starts_with('\'') && is_char(rest) {
            quoted_end(bytes, at + 1, b'\'')
        } else {
            at += 1;
            while !text.is_char_boundary(at) {
                at += 1;
            }
            continue;
        };
        out[at..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        // Behind the mark that closes it, which is blanked too, so that it opens nothing.
        at = end;
        if at < bytes.len() && bytes[at] != b'\n' {
            let close = raw.map_or(if rest.starts_with("/*") { 2 } else { 1 }, |c| c.len());
            out[at..at + close].fill(b' ');
            at += close;
        }
    }
    (String::from_utf8(out).unwrap(), comments)
}

/// What closes the raw string that begins here, if one does.
fn raw_string(rest: &str) -> Option<String> {
    let hashes = rest.strip_prefix('r')?;
    let n = hashes.bytes().take_while(|b| *b == b'#').count();
    hashes[n..].starts_with('"').then(|| format!("\"{}", "#".repeat(n)))
}

fn quoted_end(bytes: &[u8], mut at: usize, mark: u8) -> usize {
    while at < bytes.len() && bytes[at] != mark {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// A character, not a lifetime.
fn is_char(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

/// Blanks every item behind `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut code = code.to_owned();
    while let Some(from) = code.find(MARK) {
        let (mut depth, mut to) = (0, code.len());
        for (i, b) in code.bytes().enumerate().skip(from + MARK.len()) {
            match b {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(b, b'}' | b';') {
                to = i + 1;
                break;
            }
        }
        code = blank(&code, from, to);
    }
    code
}

/// Every path in the code with where it begins, `a::{b, c::d}` as `a::b` and `a::c::d`.
pub fn paths(code: &str) -> Vec<(usize, Vec<&str>)> {
    let words = words(code);
    let (mut out, mut i) = (Vec::new(), 0);
    while i < words.len() {
        if is_name(words[i].1) {
            i = tree(&words, i, &[], &mut out);
        } else {
            i += 1;
        }
    }
    out
}

fn tree<'a>(
    words: &[(usize, &'a str)],
    mut i: usize,
    before: &[&'a str],
    out: &mut Vec<(usize, Vec<&'a str>)>,
) -> usize {
    let mut path = before.to_vec();
    let from = words[i].0;
    while let Some((_, word)) = words.get(i) {
        if *word == "{" && !path.is_empty() {
            i += 1;
            while words.get(i).is_some_and(|(_, word)| *word != "}") {
                i = if words[i].1 == "," { i + 1 } else { tree(words, i, &path, out) };
            }
            return i + 1;
        }
        if is_name(word) {
            path.push(word);
        }
        i += 1;
        match words.get(i) {
            Some((_, "::")) if words.get(i + 1).is_some_and(|(_, next)| is_name(next) || *next == "{") => {
                i += 1
            }
            _ => break,
        }
    }
    out.push((from, path));
    i
}

pub fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Names and marks, each with its place.
pub fn words(code: &str) -> Vec<(usize, &str)> {
    let part = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let (bytes, mut out, mut at) = (code.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let n = match bytes[at] {
            b if part(b) => bytes[at..].iter().take_while(|b| part(**b)).count(),
            b':' if bytes[at..].starts_with(b"::") => 2,
            b if b.is_ascii_whitespace() || !b.is_ascii() => {
                at += 1;
                continue;
            }
            _ => 1,
        };
        out.push((at, &code[at..at + n]));
        at += n;
    }
    out
}
