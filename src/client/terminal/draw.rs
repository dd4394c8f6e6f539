//! The screen's state as cells: the conversation, a line on how things are, and the input.
//!
//! Touches no terminal: it fills a frame.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;

use super::text::{fit, width};
use super::ui::{Link, Ui};

/// What stands before the input.
const PROMPT: &str = "> ";

/// Draws everything, whatever the size.
pub(super) fn draw(ui: &mut Ui, now: Duration, frame: &mut Frame<'_>) {
    let area = frame.area();
    let (columns, rows) = (usize::from(area.width), usize::from(area.height).saturating_sub(2));
    ui.size = (rows, columns);
    let lines = ui.entries.view(rows, columns);
    let first = rows - lines.len();
    for (row, line) in lines.iter().enumerate() {
        put(frame, first + row, line);
    }
    if area.height >= 2 {
        put(frame, rows, &status(ui, now, columns));
    }
    if area.height >= 1 && columns > PROMPT.len() {
        let (text, column) = ui.editor.view(columns - PROMPT.len());
        let row = area.height - 1;
        put(frame, usize::from(row), &Line::raw(format!("{PROMPT}{text}")));
        frame.set_cursor_position(((PROMPT.len() + column).min(columns - 1) as u16, row));
    }
}

fn put(frame: &mut Frame<'_>, row: usize, line: &Line<'_>) {
    let area = frame.area();
    if row < usize::from(area.height) {
        frame.render_widget(line, Rect::new(0, row as u16, area.width, 1));
    }
}

/// Who and where one is, how the connection is, and how much is below.
fn status(ui: &Ui, now: Duration, columns: usize) -> Line<'static> {
    let (state, color) = match &ui.link {
        Link::Connecting => ("connecting".to_owned(), Color::Yellow),
        Link::LoggingIn => ("logging in".to_owned(), Color::Yellow),
        Link::Online => ("online".to_owned(), Color::Green),
        Link::Waiting { until, place } => {
            let left = until.saturating_sub(now).as_millis().div_ceil(1000);
            (format!("no connection; tries {place} in {left} s"), Color::Red)
        }
        Link::Over(_) => ("over; /quit leaves".to_owned(), Color::Red),
    };
    let mut left = format!(" {} at {}: {state}", ui.me, ui.place);
    if ui.entries.unheard() > 0 && ui.link != Link::Online {
        left.push_str(&format!(", {} on their way", ui.entries.unheard()));
    }
    let right = match ui.entries.below() {
        0 => "/help ".to_owned(),
        below => format!("{below} below, Esc "),
    };
    let style = Style::new().fg(color).add_modifier(Modifier::REVERSED);
    let right = fit(&right, columns);
    let left = fit(&left, columns - width(right));
    let gap = columns - width(left) - width(right);
    Line::styled(format!("{left}{}{right}", " ".repeat(gap)), style)
}
