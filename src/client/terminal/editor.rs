//! The line that is being written, and those written before.
//!
//! Touches nothing of the world. Invariant: `cursor` is between two letters of `text`, which has no
//! line end and at most [`LINE_BYTES_MAX`] bytes; at most [`LINES_MAX`] lines are remembered.

use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use unicode_segmentation::UnicodeSegmentation;

use super::text;

/// The longest line that can be written here. Longer ones can be said through a pipe.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Lines that are remembered.
const LINES_MAX: usize = 100;

/// An input line.
#[derive(Default)]
pub(super) struct Editor {
    text: String,
    cursor: usize,
    /// Said before, the newest last.
    past: VecDeque<String>,
    /// Which of those is shown, and what was written before it was.
    shown: Option<(usize, String)>,
}

impl Editor {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Takes the line, and remembers it.
    pub(super) fn take(&mut self) -> String {
        let line = std::mem::take(&mut self.text);
        self.cursor = 0;
        self.shown = None;
        if !line.trim().is_empty() && self.past.back() != Some(&line) {
            if self.past.len() == LINES_MAX {
                self.past.pop_front();
            }
            self.past.push_back(line.clone());
        }
        line
    }

    /// Writes what was pasted; line ends become blanks. What is too long is left out, and false told.
    pub(super) fn insert(&mut self, pasted: &str) -> bool {
        let pasted = pasted.trim_end_matches(['\r', '\n']);
        let room = LINE_BYTES_MAX - self.text.len();
        let mut end = pasted.len().min(room);
        while !pasted.is_char_boundary(end) {
            end -= 1;
        }
        let plain: String =
            pasted[..end].chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
        self.text.insert_str(self.cursor, &plain);
        self.cursor += plain.len();
        self.put(self.cursor);
        end == pasted.len()
    }

    /// What a key does to the line; false if it does nothing here.
    pub(super) fn key(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let word = key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
        match key.code {
            KeyCode::Left if word => self.cursor = self.word_before(),
            KeyCode::Right if word => self.cursor = self.word_behind(),
            KeyCode::Left => self.cursor = self.before(),
            KeyCode::Right => self.cursor = self.behind(),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.text.len(),
            KeyCode::Up => self.recall(true),
            KeyCode::Down => self.recall(false),
            KeyCode::Backspace if word => self.erase(self.word_before(), self.cursor),
            KeyCode::Backspace => self.erase(self.before(), self.cursor),
            KeyCode::Delete => self.erase(self.cursor, self.behind()),
            KeyCode::Char(char) if control => match char {
                'a' => self.cursor = 0,
                'e' => self.cursor = self.text.len(),
                'b' => self.cursor = self.before(),
                'f' => self.cursor = self.behind(),
                'p' => self.recall(true),
                'n' => self.recall(false),
                'h' => self.erase(self.before(), self.cursor),
                'd' => self.erase(self.cursor, self.behind()),
                'w' => self.erase(self.blank_before(), self.cursor),
                'u' => self.erase(0, self.cursor),
                'k' => self.erase(self.cursor, self.text.len()),
                _ => return false,
            },
            KeyCode::Char(char) if word => match char {
                'b' => self.cursor = self.word_before(),
                'f' => self.cursor = self.word_behind(),
                'd' => self.erase(self.cursor, self.word_behind()),
                _ => return false,
            },
            KeyCode::Char(char) => drop(self.insert(char.encode_utf8(&mut [0; 4]))),
            _ => return false,
        }
        true
    }

    /// What of the line fits into so many columns, and in which of them the cursor is.
    pub(super) fn view(&self, columns: usize) -> (String, usize) {
        let columns = columns.max(3);
        let shown = |from: usize| text::clean_line(&self.text[from..]);
        let mut from = 0;
        // The cursor needs a column, and what is before it is of interest.
        let column = |from: usize| text::width(&text::clean_line(&self.text[from..self.cursor]));
        if column(0) >= columns {
            let starts: Vec<usize> =
                self.text[..self.cursor].grapheme_indices(true).map(|(at, _)| at).collect();
            let first = starts.partition_point(|at| column(*at) >= columns * 2 / 3);
            from = starts.get(first).copied().unwrap_or(self.cursor);
        }
        (text::fit(&shown(from), columns).to_owned(), column(from))
    }

    /// Puts the cursor there, or behind the letter that a change made of what is on both sides.
    fn put(&mut self, at: usize) {
        let end = self.letter_ends().find(|end| *end >= at);
        self.cursor = end.unwrap_or(self.text.len());
    }

    fn erase(&mut self, from: usize, to: usize) {
        self.text.drain(from..to);
        self.put(from);
    }

    fn recall(&mut self, older: bool) {
        let at = match (&self.shown, older) {
            (None, true) => self.past.len().checked_sub(1),
            (None, false) => return,
            (Some((at, _)), true) => Some(at.saturating_sub(1)),
            (Some((at, _)), false) => Some(at + 1),
        };
        let Some(at) = at else { return };
        let written =
            self.shown.take().map_or_else(|| std::mem::take(&mut self.text), |(_, written)| written);
        if let Some(line) = self.past.get(at) {
            self.text.clone_from(line);
            self.shown = Some((at, written));
        } else {
            self.text = written;
        }
        self.cursor = self.text.len();
    }

    /// Where letters end; 0 is such a place, too.
    fn letter_ends(&self) -> impl Iterator<Item = usize> {
        std::iter::once(0).chain(self.text.grapheme_indices(true).map(|(at, letter)| at + letter.len()))
    }

    fn before(&self) -> usize {
        self.text[..self.cursor].grapheme_indices(true).next_back().map_or(0, |(at, _)| at)
    }

    fn behind(&self) -> usize {
        self.cursor + self.text[self.cursor..].graphemes(true).next().map_or(0, str::len)
    }

    fn word_before(&self) -> usize {
        let mut words = self.text[..self.cursor].unicode_word_indices();
        words.next_back().map_or(0, |(at, _)| at)
    }

    fn word_behind(&self) -> usize {
        let mut words = self.text[self.cursor..].unicode_word_indices();
        words.next().map_or(self.text.len(), |(at, word)| self.cursor + at + word.len())
    }

    /// The beginning of what blanks enclose.
    fn blank_before(&self) -> usize {
        let head = self.text[..self.cursor].trim_end();
        head.rfind(char::is_whitespace)
            .map_or(0, |at| at + head[at..].chars().next().map_or(0, char::len_utf8))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(name: &str) -> KeyEvent {
        let (modifiers, name) = match name.split_once('-') {
            Some(("c", name)) => (KeyModifiers::CONTROL, name),
            Some(("a", name)) => (KeyModifiers::ALT, name),
            _ => (KeyModifiers::NONE, name),
        };
        let code = match name {
            "left" => KeyCode::Left,
            "right" => KeyCode::Right,
            "up" => KeyCode::Up,
            "down" => KeyCode::Down,
            "home" => KeyCode::Home,
            "end" => KeyCode::End,
            "back" => KeyCode::Backspace,
            "del" => KeyCode::Delete,
            _ => KeyCode::Char(name.chars().next().expect("a key")),
        };
        KeyEvent::new(code, modifiers)
    }

    /// Presses the keys, and shows the line with `|` for the cursor.
    fn press(editor: &mut Editor, keys: &str) -> String {
        for key in keys.split(' ') {
            assert!(editor.key(code(key)), "{key}");
        }
        let mut line = editor.text.clone();
        line.insert(editor.cursor, '|');
        line
    }

    #[test]
    fn keys_move_and_erase_in_letters_and_words() {
        let mut editor = Editor::default();
        editor.insert("one two-three é日👨‍👩‍👧");
        assert_eq!(press(&mut editor, "left left"), "one two-three é|日👨‍👩‍👧");
        assert_eq!(press(&mut editor, "del del back x"), "one two-three x|");
        assert_eq!(press(&mut editor, "c-left c-left"), "one two-|three x");
        assert_eq!(press(&mut editor, "a-b a-f c-right"), "one two-three| x");
        assert_eq!(press(&mut editor, "c-w"), "one | x");
        assert_eq!(press(&mut editor, "home c-k y"), "y|");
        assert_eq!(press(&mut editor, "z left c-u end c-a c-e"), "z|");
        assert_eq!(press(&mut editor, "left left back right right del"), "z|");
    }

    #[test]
    fn earlier_lines_come_back_and_the_draft_too() {
        let mut editor = Editor::default();
        for line in ["one", "two", "two", " "] {
            editor.insert(line);
            assert_eq!(editor.take(), line);
        }
        editor.insert("draft");
        assert_eq!(press(&mut editor, "up"), "two|");
        assert_eq!(press(&mut editor, "up up up"), "one|");
        assert_eq!(press(&mut editor, "down"), "two|");
        assert_eq!(press(&mut editor, "down down"), "draft|");
        for n in 0..300 {
            editor.insert(&n.to_string());
            editor.take();
        }
        assert_eq!(editor.past.len(), LINES_MAX);
    }

    #[test]
    fn what_is_pasted_is_one_tame_line_of_bounded_length() {
        let mut editor = Editor::default();
        assert!(editor.insert("a\nb\x1b[0m\r\n"));
        assert_eq!(editor.text(), "a b [0m");
        assert!(!editor.insert(&"é".repeat(LINE_BYTES_MAX)));
        assert!(editor.text().len() <= LINE_BYTES_MAX && editor.text().len() > LINE_BYTES_MAX - 4);
    }

    #[test]
    fn the_cursor_is_always_in_view() {
        let mut editor = Editor::default();
        editor.insert("日本語日本語日本語");
        let (shown, column) = editor.view(10);
        assert!(shown.ends_with('語') && column < 10, "{shown} {column}");
        press(&mut editor, "home");
        assert_eq!(editor.view(10), ("日本語日本".to_owned(), 0));
    }

    proptest! {
        #[test]
        fn no_keys_break_it(keys in prop::collection::vec((0..26_usize, any::<char>()), 0..60), columns in 0..20_usize) {
            const NAMES: [&str; 24] = ["left", "right", "c-left", "c-right", "home", "end", "up", "down", "back",
                "del", "c-w", "c-u", "c-k", "a-b", "a-f", "a-d", "c-d", "c-h", "c-n", "c-p", "c-a", "c-e", "a-back", "c-back"];
            let mut editor = Editor::default();
            for (which, char) in keys {
                match NAMES.get(which) {
                    Some(name) => drop(editor.key(code(name))),
                    None if which == 24 => drop(editor.take()),
                    None => drop(editor.insert(char.encode_utf8(&mut [0; 4]))),
                }
                prop_assert!(editor.letter_ends().any(|end| end == editor.cursor));
                let (shown, column) = editor.view(columns);
                prop_assert!(text::width(&shown) <= columns.max(3) && column < columns.max(3));
            }
        }
    }
}
