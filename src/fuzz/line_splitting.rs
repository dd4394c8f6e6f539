//! Any bytes in any pieces through [`Lines`], beside a split of all of them at once.

use crate::wire::line::{Flow, Lines, Split};

/// The first line of `input` says how the rest of it comes and is taken: its first byte is the limit, each
/// other one a step: the size of a piece in its low four bits, what the taker answers in those above.
pub fn line_splitting(input: &[u8]) {
    let cut = input.iter().position(|b| *b == b'\n').unwrap_or(input.len());
    let (script, text) = (&input[..cut], input.get(cut + 1..).unwrap_or_default());
    let limit = usize::from(script.first().map_or(16, |b| b % 64));
    let (want, overlong) = at_once(text, limit);

    let mut lines = Lines::default();
    let mut got: Vec<Vec<u8>> = Vec::new();
    let mut answers = script.iter().skip(1).chain(script.iter().skip(1));
    let mut take = |line: &[u8]| {
        assert!(line.len() <= limit, "{} bytes over a limit of {limit}", line.len());
        let flow = match answers.next().map(|b| b >> 4 & 3) {
            Some(2) => Flow::Pause,
            Some(1) => Flow::Again,
            _ => Flow::Next,
        };
        if flow != Flow::Again {
            got.push(line.to_vec());
        }
        flow
    };
    let mut sizes = script.iter().skip(1).map(|b| 1 + usize::from(b & 15)).cycle();
    let (mut rest, mut came, mut split) = (text, 0, Split::Dry);
    while !rest.is_empty() && split != Split::Overlong {
        let (piece, after) = rest.split_at(sizes.next().unwrap_or(rest.len()).min(rest.len()));
        rest = after;
        came += piece.len();
        split = lines.feed(piece, limit, &mut take);
        assert!(lines.len() <= came);
        assert!(split != Split::Dry || lines.len() <= limit + 1, "{} bytes held", lines.len());
    }
    while split == Split::Stopped {
        split = lines.feed(b"", limit, &mut take);
    }
    assert_eq!(got, want, "limit {limit}");
    assert_eq!(split == Split::Overlong, overlong, "limit {limit}");
    if !overlong {
        let open = text.iter().rev().take_while(|b| **b != b'\n').count();
        assert_eq!(lines.len(), open, "what is held is the line that has no end yet");
    }
    lines.reset(0);
    assert!(lines.is_empty());
}

/// The lines of `text` up to the first that is too long, and whether there is one.
fn at_once(text: &[u8], limit: usize) -> (Vec<Vec<u8>>, bool) {
    let mut all: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
    let open = all.pop().unwrap_or_default();
    let mut lines = Vec::new();
    for line in all {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > limit {
            return (lines, true);
        }
        if !line.iter().all(u8::is_ascii_whitespace) {
            lines.push(line.to_vec());
        }
    }
    (lines, open.len() > limit + 1)
}
