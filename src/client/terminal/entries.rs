//! What was said and what happened, and which part of it is in view.
//!
//! Touches nothing of the world. Invariant: at most [`ENTRIES_MAX`] entries with at most
//! [`ENTRIES_BYTES_MAX`] are kept, the newest; and while the view is not at the end, what is in it stays
//! as new ones arrive, unless it is forgotten.

use std::collections::VecDeque;

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::text::{fit, width, wrap};

/// Entries that are kept: more than anybody scrolls through.
pub(super) const ENTRIES_MAX: usize = 10_000;
/// Bytes of text they hold in all. The entries themselves are about 100 bytes each.
pub(super) const ENTRIES_BYTES_MAX: usize = 8 << 20;
/// Columns of a name; longer ones are cut.
const NAME_COLUMNS: usize = 24;

/// What is known of a message of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tick {
    /// Another's.
    None,
    /// Said, and not acknowledged.
    Waiting,
    /// Acknowledged: everybody hears it, and it comes back yet.
    Safe,
    /// It came back.
    Heard,
    /// Neither, though later ones came back, or too many wait.
    Doubtful,
}

/// A line of the conversation; all text in it is clean.
pub(super) enum Entry {
    Message { clock: String, who: String, text: String, tick: Tick },
    Note { clock: String, text: String },
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Entry::Message { who, text, .. } => who.len() + text.len(),
            Entry::Note { text, .. } => text.len(),
        }
    }

    /// It on lines of so many columns.
    fn lines(&self, columns: usize) -> Vec<Line<'static>> {
        let dim = Style::new().add_modifier(Modifier::DIM);
        match self {
            Entry::Note { clock, text } => {
                let head = format!("{clock}  ");
                fold(vec![Span::styled(head, dim)], text, dim.add_modifier(Modifier::ITALIC), columns)
            }
            Entry::Message { clock, who, text, tick } => {
                let (sign, style) = match tick {
                    Tick::None => (" ", Style::new()),
                    Tick::Waiting => ("…", dim),
                    Tick::Safe | Tick::Heard => ("✓", Style::new().fg(Color::Green)),
                    Tick::Doubtful => ("?", Style::new().fg(Color::Red)),
                };
                let body = if matches!(tick, Tick::Waiting | Tick::Safe) { dim } else { Style::new() };
                let mut name = fit(who, NAME_COLUMNS).to_owned();
                if name.len() < who.len() {
                    name.push('…');
                }
                let head = vec![
                    Span::styled(clock.clone(), dim),
                    Span::styled(sign, style),
                    Span::styled(
                        format!("{name}: "),
                        Style::new().fg(color(who)).add_modifier(Modifier::BOLD),
                    ),
                ];
                fold(head, text, body, columns)
            }
        }
    }
}

/// The head and the text on lines, those after the first indented as far as a clock reaches.
fn fold(head: Vec<Span<'static>>, text: &str, style: Style, columns: usize) -> Vec<Line<'static>> {
    let indent = if columns > 30 { 6 } else { 1 };
    let taken: usize = head.iter().map(|span| width(&span.content)).sum();
    let wrapped = wrap(text, columns.saturating_sub(indent), taken.saturating_sub(indent));
    let mut lines = Vec::with_capacity(wrapped.len());
    for text in wrapped {
        let start = if lines.is_empty() { head.clone() } else { vec![Span::raw(" ".repeat(indent))] };
        let mut line = Line::from(start);
        line.push_span(Span::styled(text, style));
        lines.push(line);
    }
    lines
}

/// A name's color: the same on every screen.
fn color(name: &str) -> Color {
    const COLORS: [Color; 5] = [Color::Cyan, Color::Yellow, Color::Magenta, Color::Blue, Color::LightRed];
    let sum = name.bytes().fold(5381_u32, |sum, byte| sum.wrapping_mul(33) ^ u32::from(byte));
    COLORS[sum as usize % COLORS.len()]
}

/// A line of an entry: the entry's number since the beginning, and which of its lines.
type Place = (u64, usize);

/// The conversation. Behind what is settled come the own messages that did not come back yet.
#[derive(Default)]
pub(super) struct Entries {
    settled: VecDeque<Entry>,
    waiting: VecDeque<Entry>,
    /// Own messages that came before those.
    said: u64,
    bytes: usize,
    /// The number of the first that is kept.
    first: u64,
    /// The last line in view; none is the end.
    last: Option<Place>,
}

impl Entries {
    /// Adds one, and forgets the oldest if there are too many.
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.settled.push_back(entry);
        while self.settled.len() > ENTRIES_MAX || self.bytes > ENTRIES_BYTES_MAX {
            let Some(oldest) = self.settled.pop_front() else { break };
            self.bytes -= oldest.bytes();
            self.first += 1;
        }
        if self.last.is_some_and(|(at, _)| at < self.first) {
            self.last = Some((self.first, 0));
        }
    }

    /// One's own message is on its way. Too many of those are settled as doubtful.
    pub(super) fn say(&mut self, clock: String, who: String, text: String) {
        self.waiting.push_back(Entry::Message { clock, who, text, tick: Tick::Waiting });
        if self.waiting.len() > ENTRIES_MAX / 10 {
            self.settle(Tick::Doubtful);
        }
    }

    /// The own message said last was not taken after all.
    pub(super) fn unsay(&mut self) {
        self.waiting.pop_back();
    }

    /// One's own message came back; those said before it and not heard were lost. False if none waits that
    /// reads like it.
    pub(super) fn heard(&mut self, clock: &str, heard: &str) -> bool {
        let is_it = |entry: &Entry| matches!(entry, Entry::Message { text, .. } if text == heard);
        let Some(at) = self.waiting.iter().position(is_it) else { return false };
        for _ in 0..at {
            self.settle(Tick::Doubtful);
        }
        if let Some(Entry::Message { clock: said, .. }) = self.waiting.front_mut() {
            clock.clone_into(said);
        }
        self.settle(Tick::Heard);
        true
    }

    fn settle(&mut self, now: Tick) {
        if let Some(mut entry) = self.waiting.pop_front() {
            self.said += 1;
            if let Entry::Message { tick, .. } = &mut entry {
                *tick = if *tick == Tick::Safe { Tick::Heard } else { now };
            }
            self.push(entry);
        }
    }

    /// The first so many own messages are safe.
    pub(super) fn safe(&mut self, count: u64) {
        let fresh = count.saturating_sub(self.said).min(self.waiting.len() as u64);
        for entry in self.waiting.iter_mut().take(fresh as usize) {
            if let Entry::Message { tick, .. } = entry {
                *tick = Tick::Safe;
            }
        }
    }

    /// Own messages that are not acknowledged and did not come back.
    pub(super) fn unheard(&self) -> usize {
        let waits = |entry: &&Entry| matches!(entry, Entry::Message { tick: Tick::Waiting, .. });
        self.waiting.iter().filter(waits).count()
    }

    /// How many entries are below what is in view.
    pub(super) fn below(&self) -> u64 {
        self.last.map_or(0, |(at, _)| self.end() - 1 - at.min(self.end() - 1))
    }

    /// What is in view, at most `rows` lines of so many columns.
    pub(super) fn view(&self, rows: usize, columns: usize) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        let Some((last, line)) = self.last_line(columns) else { return lines };
        for at in (self.first..=last).rev() {
            let mut entry = self.lines(at, columns);
            if at == last {
                entry.truncate(line + 1);
            }
            lines.extend(entry.into_iter().rev());
            if lines.len() >= rows {
                break;
            }
        }
        lines.truncate(rows);
        lines.reverse();
        lines
    }

    /// Goes up so many lines, but not above the first screen.
    pub(super) fn up(&mut self, lines: usize, rows: usize, columns: usize) {
        let Some((mut at, mut line)) = self.last_line(columns) else { return };
        for _ in 0..lines {
            if line > 0 {
                line -= 1;
            } else if at > self.first {
                at -= 1;
                line = self.lines(at, columns).len() - 1;
            }
        }
        self.last = Some((at, line).max(self.down_from((self.first, 0), rows.saturating_sub(1), columns)));
        self.rest(columns);
    }

    /// Goes down so many lines, at most to the end.
    pub(super) fn down(&mut self, lines: usize, columns: usize) {
        if let Some(last) = self.last {
            self.last = Some(self.down_from(last, lines, columns));
            self.rest(columns);
        }
    }

    /// Goes to the first screen.
    pub(super) fn top(&mut self, rows: usize, columns: usize) {
        self.up(0, rows, columns);
        if self.end() > self.first {
            self.last = Some(self.down_from((self.first, 0), rows.saturating_sub(1), columns));
            self.rest(columns);
        }
    }

    /// Goes to the end, and stays there.
    pub(super) fn bottom(&mut self) {
        self.last = None;
    }

    /// At the end the view follows what comes.
    fn rest(&mut self, columns: usize) {
        if self.end() > self.first && self.last == Some(self.end_line(columns)) {
            self.last = None;
        }
    }

    fn down_from(&self, (mut at, mut line): Place, lines: usize, columns: usize) -> Place {
        let mut here = self.lines(at, columns).len();
        line = line.min(here - 1);
        for _ in 0..lines {
            if line + 1 < here {
                line += 1;
            } else if at + 1 < self.end() {
                at += 1;
                line = 0;
                here = self.lines(at, columns).len();
            }
        }
        (at, line)
    }

    /// The last line in view, which is there at this width.
    fn last_line(&self, columns: usize) -> Option<Place> {
        if self.end() == self.first {
            return None;
        }
        Some(match self.last {
            Some((at, line)) => self.down_from((at.min(self.end() - 1), line), 0, columns),
            None => self.end_line(columns),
        })
    }

    fn end_line(&self, columns: usize) -> Place {
        (self.end() - 1, self.lines(self.end() - 1, columns).len() - 1)
    }

    /// The number behind the last.
    fn end(&self) -> u64 {
        self.first + (self.settled.len() + self.waiting.len()) as u64
    }

    fn lines(&self, at: u64, columns: usize) -> Vec<Line<'static>> {
        let index = (at - self.first) as usize;
        let entry = self.settled.get(index).or_else(|| self.waiting.get(index - self.settled.len()));
        entry.map_or_else(|| vec![Line::default()], |entry| entry.lines(columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str) -> Entry {
        Entry::Note { clock: "12:00".to_owned(), text: text.to_owned() }
    }

    fn view(entries: &Entries, rows: usize, columns: usize) -> Vec<String> {
        let text = |line: &Line<'_>| line.to_string().trim().trim_start_matches("12:00").trim().to_owned();
        entries.view(rows, columns).iter().map(text).collect()
    }

    fn numbers(entries: &Entries) -> Vec<String> {
        view(entries, 3, 40)
    }

    #[test]
    fn the_view_follows_the_end_until_it_is_moved_and_then_stays() {
        let mut entries = Entries::default();
        entries.up(5, 3, 40);
        entries.top(3, 40);
        assert_eq!(numbers(&entries), [""; 0]);
        (0..10).for_each(|n| entries.push(note(&n.to_string())));
        assert_eq!(numbers(&entries), ["7", "8", "9"]);
        entries.up(2, 3, 40);
        assert_eq!((numbers(&entries), entries.below()), (vec!["5".to_owned(), "6".into(), "7".into()], 2));
        entries.push(note("10"));
        assert_eq!(numbers(&entries), ["5", "6", "7"]);
        entries.up(100, 3, 40);
        assert_eq!(numbers(&entries), ["0", "1", "2"]);
        entries.down(7, 40);
        assert_eq!((numbers(&entries), entries.below()), (vec!["7".to_owned(), "8".into(), "9".into()], 1));
        entries.down(7, 40);
        entries.push(note("11"));
        assert_eq!((numbers(&entries), entries.below()), (vec!["9".to_owned(), "10".into(), "11".into()], 0));
        entries.top(3, 40);
        assert_eq!(numbers(&entries), ["0", "1", "2"]);
        entries.bottom();
        assert_eq!(numbers(&entries), ["9", "10", "11"]);
    }

    #[test]
    fn long_entries_scroll_by_lines_and_a_new_width_keeps_the_place() {
        let mut entries = Entries::default();
        entries.push(note("a b c d e f g h"));
        entries.push(note("end"));
        assert_eq!(view(&entries, 3, 11), ["c d e f g", "h", "end"]);
        entries.up(1, 2, 11);
        assert_eq!(view(&entries, 2, 11), ["c d e f g", "h"]);
        assert_eq!(view(&entries, 2, 60), ["a b c d e f g h"]);
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_in_bytes() {
        let mut entries = Entries::default();
        for n in 0..2 * ENTRIES_MAX {
            entries.push(note(&n.to_string()));
            if n == 10 {
                entries.top(3, 40);
            }
        }
        assert_eq!(entries.settled.len(), ENTRIES_MAX);
        assert_eq!(
            numbers(&entries)[0],
            ENTRIES_MAX.to_string(),
            "the view goes along with what is forgotten"
        );
        let long = "x".repeat(100_000);
        (0..1000).for_each(|_| entries.push(note(&long)));
        assert!(entries.bytes <= ENTRIES_BYTES_MAX && entries.settled.len() == ENTRIES_BYTES_MAX / 100_000);
    }

    #[test]
    fn own_messages_wait_at_the_end_until_they_come_back() {
        let mut entries = Entries::default();
        for text in ["one", "two", "three"] {
            entries.say("12:00".to_owned(), "me".to_owned(), text.to_owned());
        }
        entries.push(note("another"));
        assert_eq!(view(&entries, 9, 40), ["another", "…me: one", "…me: two", "…me: three"]);
        assert!(entries.heard("12:00", "two"));
        assert!(!entries.heard("12:00", "one"));
        assert_eq!(entries.unheard(), 1);
        entries.safe(3);
        assert_eq!(view(&entries, 9, 40), ["another", "?me: one", "✓me: two", "✓me: three"]);
        assert_eq!(entries.unheard(), 0);
    }
}
