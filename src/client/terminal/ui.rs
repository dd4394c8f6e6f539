//! What is on the screen: keys and news in, what to do and lines out.
//!
//! Touches no terminal, socket, clock or file; time is an argument, as are the digits of the clock on
//! the wall. Invariant: all text from others is clean before it is kept.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;

use super::editor::Editor;
use super::entries::{Entries, Entry, Tick};
use super::text::{clean, clean_line};
use crate::client::journey::{News, Over};

/// What `/help` shows.
const HELP: &str = "\
Enter says the line to everybody; a line that is a JSON object is said as it is, //x says /x.\n\
/quit, Ctrl-D on an empty line: log out and leave. Ctrl-C: leave without a logout; a registered name stays \
owed what comes. Ctrl-Z: stop, and go on with fg.\n\
PageUp, PageDown, Ctrl-Home, Ctrl-End, Esc: scroll, by screens, to the beginning, to the end.\n\
Up, Down: lines said before. Left, Right, Home, End, Ctrl-A, Ctrl-E; by words: Ctrl-Left, Ctrl-Right. Erase: \
Ctrl-W a word, Ctrl-U all before, Ctrl-K all behind.\n\
Signs: … on its way, ✓ everybody hears it, ? not known.";

/// What the shell is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    /// Say this line.
    Say(String),
    /// Stop until the shell has it go on.
    Suspend,
    /// Leave, with a logout or without.
    Leave {
        logout: bool,
    },
}

/// How the connection is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Link {
    Connecting,
    LoggingIn,
    Online,
    /// Tried again then, at that place.
    Waiting {
        until: Duration,
        place: String,
    },
    Over(Over),
}

/// The screen's state.
pub(super) struct Ui {
    /// The name this client has.
    pub(super) me: String,
    /// The server it is connected to, or was, or will be.
    pub(super) place: String,
    pub(super) link: Link,
    pub(super) entries: Entries,
    pub(super) editor: Editor,
    /// It has been logged in.
    pub(super) been_in: bool,
    /// That there is no connection was told; that there is none still need not be.
    lost: bool,
    /// Rows and columns of the conversation when it was drawn last.
    pub(super) size: (usize, usize),
}

impl Ui {
    pub(super) fn new(me: &str, place: &str) -> Ui {
        Ui {
            me: clean_line(me),
            place: clean_line(place),
            link: Link::Connecting,
            entries: Entries::default(),
            editor: Editor::default(),
            been_in: false,
            lost: false,
            size: (20, 80),
        }
    }

    /// Tells something that is nobody's message.
    pub(super) fn note(&mut self, clock: &str, text: &str) {
        self.entries.push(Entry::Note { clock: clock.to_owned(), text: clean(text) });
    }

    /// Takes a piece of news.
    pub(super) fn hear(&mut self, now: Duration, clock: &str, news: News<'_>) {
        match news {
            News::Broadcast { activity } => self.broadcast(clock, &activity),
            News::Connected { host, port } => {
                self.place = clean_line(&format!("{host}:{port}"));
                self.link = Link::LoggingIn;
            }
            // The shell tells it with the secret.
            News::Registered { .. } => {}
            News::LoggedIn { info } => {
                self.link = Link::Online;
                self.been_in = true;
                self.lost = false;
                let place = self.place.clone();
                self.note(clock, &format!("{info} at {place}"));
            }
            News::Redirected { host, port } => {
                self.lost = false;
                self.note(clock, &format!("sent on to {host}:{port}"));
                self.link = Link::Connecting;
            }
            News::Refused { info, .. } => self.note(clock, &format!("refused: {info}")),
            News::Invalid { info } => self.note(clock, &format!("the server refused a message: {info}")),
            News::Ignored { why } => self.note(clock, &format!("ignored a line from the server: {why}")),
            News::Acknowledged { cseq } => self.entries.safe(cseq),
            News::Quiet => {}
            News::Lost { why } => {
                if !std::mem::replace(&mut self.lost, true) {
                    self.note(clock, &why);
                }
                self.link = Link::Connecting;
            }
            News::Waiting { pause, host, port } => {
                let place = clean_line(&format!("{host}:{port}"));
                self.link = Link::Waiting { until: now + pause, place };
            }
        }
    }

    /// The client has come to its end.
    pub(super) fn over(&mut self, clock: &str, over: Over) {
        if over != Over::LoggedOut {
            self.note(clock, &format!("{over}. /quit leaves."));
        }
        self.link = Link::Over(over);
    }

    fn broadcast(&mut self, clock: &str, activity: &str) {
        let (who, text) = message(activity);
        if who != self.me || !self.entries.heard(clock, &text) {
            self.entries.push(Entry::Message { clock: clock.to_owned(), who, text, tick: Tick::None });
        }
    }

    /// What was pasted goes into the line.
    pub(super) fn paste(&mut self, clock: &str, pasted: &str) {
        if !self.editor.insert(pasted) {
            self.note(clock, "a line has 64 KiB at most; the end of what was pasted is left out");
        }
    }

    /// Takes a key.
    pub(super) fn key(&mut self, clock: &str, key: KeyEvent) -> Act {
        let (rows, columns) = self.size;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Act::Leave { logout: false },
            KeyCode::Char('z') if control => return Act::Suspend,
            KeyCode::Char('d') if control && self.editor.text().is_empty() => {
                return Act::Leave { logout: true };
            }
            KeyCode::Enter => return self.enter(clock),
            KeyCode::PageUp => self.entries.up(rows.saturating_sub(1).max(1), rows, columns),
            KeyCode::PageDown => self.entries.down(rows.saturating_sub(1).max(1), columns),
            KeyCode::Home if control => self.entries.top(rows, columns),
            KeyCode::End if control => self.entries.bottom(),
            KeyCode::Esc => self.entries.bottom(),
            _ => drop(self.editor.key(key)),
        }
        Act::Nothing
    }

    fn enter(&mut self, clock: &str) -> Act {
        let line = self.editor.take();
        match line.trim() {
            "" => Act::Nothing,
            "/quit" | "/exit" => Act::Leave { logout: true },
            "/help" => {
                self.note(clock, HELP);
                self.entries.bottom();
                Act::Nothing
            }
            text if text.starts_with('/') && !text.starts_with("//") => {
                let word = text.split_whitespace().next().unwrap_or_default();
                self.note(clock, &format!("there is no {word}; /help shows what there is, /{text} says it"));
                Act::Nothing
            }
            _ if matches!(self.link, Link::Over(_)) => {
                self.note(clock, "nothing can be said any more; /quit leaves");
                Act::Nothing
            }
            _ => {
                let line = if line.starts_with("//") { line[1..].to_owned() } else { line };
                let text = match serde_json::from_str::<Value>(&line) {
                    Ok(Value::Object(_)) => message(&line).1,
                    _ => clean(line.trim_end_matches(['\r', '\n'])),
                };
                self.entries.say(clock.to_owned(), self.me.clone(), text);
                self.entries.bottom();
                Act::Say(line)
            }
        }
    }
}

/// Who says an activity, and what: the text of a message, and any other object as JSON.
fn message(activity: &str) -> (String, String) {
    let Ok(Value::Object(mut object)) = serde_json::from_str(activity) else {
        return (String::new(), clean(activity));
    };
    let who = match object.remove("authenticated_user") {
        Some(Value::String(name)) => clean_line(&name),
        _ => String::new(),
    };
    let text = match object.get("message") {
        Some(Value::String(text)) if object.len() == 1 => clean(text),
        _ => clean(&Value::Object(object).to_string()),
    };
    (who, text)
}

#[cfg(test)]
mod tests;
