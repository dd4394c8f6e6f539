//! Strangers' text, made fit for a terminal: what it says, and nothing that steers.
//!
//! Touches nothing of the world. Invariant: what comes out of [`clean`] has no control character but
//! `\n`, nothing that turns the direction of writing, and no pile of marks on one letter; what comes
//! out of [`wrap`] has none at all and is nowhere wider than asked.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Characters of one message that are shown; a message may be a megabyte.
pub(super) const TEXT_CHARS_MAX: usize = 4000;
/// Characters without a width of their own that may follow each other: more than any script needs.
const MARKS_MAX: usize = 4;
const TAB: &str = "    ";

/// The text with each character that steers replaced by a sign for it.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut marks = 0;
    let mut chars = text.chars().peekable();
    let mut taken = 0;
    while let Some(char) = chars.next() {
        if taken == TEXT_CHARS_MAX {
            out.push_str(&format!("… ({} more characters)", 1 + chars.count()));
            break;
        }
        taken += 1;
        marks = if char.width() == Some(0) { marks + 1 } else { 0 };
        match char {
            '\n' => out.push('\n'),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\t' => out.push_str(TAB),
            '\0'..='\x1f' => out.extend(char::from_u32(0x2400 + u32::from(char))),
            '\x7f' => out.push('␡'),
            _ if char.is_control() || steers(char) => out.push('\u{fffd}'),
            _ if marks > MARKS_MAX => {}
            _ => out.push(char),
        }
    }
    out
}

/// The same on one line, for names and the servers' words.
pub(super) fn clean_line(text: &str) -> String {
    clean(text).replace('\n', " ")
}

/// Marks that turn the direction of writing, other line ends, and signs that are never seen.
fn steers(char: char) -> bool {
    matches!(char,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Columns it takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// As much of the beginning as fits into so many columns, in whole letters.
pub(super) fn fit(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (at, letter) in text.grapheme_indices(true) {
        used += width(letter);
        if used > columns {
            return &text[..at];
        }
    }
    text
}

/// The text on lines of so many columns, broken behind blanks where there are some. The first line has
/// `taken` columns less.
pub(super) fn wrap(text: &str, columns: usize, taken: usize) -> Vec<String> {
    let columns = columns.max(2);
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), taken.min(columns));
    for (i, paragraph) in text.split('\n').enumerate() {
        if i > 0 {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        for word in paragraph.split_inclusive(' ') {
            let bare = width(word.trim_end_matches(' '));
            if used + bare > columns && bare <= columns && used > 0 {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            for letter in word.graphemes(true) {
                let wide = width(letter);
                if used + wide > columns {
                    // A blank at the end of a line needs no room.
                    if letter == " " {
                        continue;
                    }
                    lines.push(std::mem::take(&mut line));
                    used = 0;
                }
                line.push_str(letter);
                used += wide;
            }
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_steers_is_shown_and_not_done() {
        assert_eq!(clean("a\x1b[2J\x07b\x7f\u{9b}1m"), "a␛[2J␇b␡\u{fffd}1m");
        assert_eq!(clean("one\r\ntwo\rthree\tfour"), "one\ntwo␍three    four");
        assert_eq!(clean("\u{202e}evil\u{2066}\u{e0041}"), "\u{fffd}evil\u{fffd}\u{fffd}");
        assert_eq!(clean_line("a\nb"), "a b");
        assert_eq!(clean(&format!("a{}", "\u{301}".repeat(1000))).chars().count(), 1 + MARKS_MAX);
        assert_eq!(clean("e\u{301} 日本 👨‍👩‍👧‍👦"), "e\u{301} 日本 👨‍👩‍👧‍👦");
    }

    #[test]
    fn long_text_is_cut_and_says_how_much() {
        let text = clean(&"x".repeat(1_000_000));
        assert!(
            text.ends_with(&format!("x… ({} more characters)", 1_000_000 - TEXT_CHARS_MAX)),
            "{text:.20}"
        );
    }

    #[test]
    fn lines_break_behind_words_and_inside_long_ones() {
        assert_eq!(wrap("one two three", 7, 0), ["one two", "three"]);
        assert_eq!(wrap("one two three", 7, 3), ["one ", "two ", "three"]);
        assert_eq!(wrap("abcdefghij", 4, 2), ["ab", "cdef", "ghij"]);
        assert_eq!(wrap("日本語", 4, 1), ["日", "本語"]);
        assert_eq!(wrap("a\n\nb", 4, 0), ["a", "", "b"]);
        assert_eq!(fit("日本語", 5), "日本");
    }

    proptest! {
        #[test]
        fn any_text_is_tame_and_nowhere_too_wide(text in "\\PC*|[\\x00-\\x7f]*|.*", columns in 2..40_usize) {
            let clean = clean(&text);
            prop_assert!(clean.chars().all(|c| c == '\n' || !c.is_control()));
            for (i, line) in wrap(&clean, columns, 1).iter().enumerate() {
                prop_assert!(width(line) + usize::from(i == 0) <= columns, "{line:?}");
            }
        }
    }
}
