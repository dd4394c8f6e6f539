//! The terminal's own state: taken at the beginning, and given back however it ends.

use std::panic;
use std::sync::Once;
use std::{io, process};

use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

/// The exit code of a program that panicked.
const PANICKED: i32 = 101;

/// As long as it lives the terminal is ours.
pub(super) struct Screen(());

impl Screen {
    /// Takes the terminal. From now on a panic of any thread gives it back, says why, and ends the process:
    /// half a client would wait for ever.
    pub(super) fn open() -> io::Result<Screen> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let say = panic::take_hook();
            panic::set_hook(Box::new(move |why| {
                restore();
                say(why);
                process::exit(PANICKED);
            }));
        });
        enable_raw_mode()?;
        let screen = Screen(());
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // There is nobody left to tell.
    let _ = execute!(io::stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}
