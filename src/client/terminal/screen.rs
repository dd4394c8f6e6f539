//! The terminal's own state: taken at the beginning, and given back however it ends.

use std::io::Stdout;
use std::panic;
use std::sync::Once;
use std::{io, process};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{Frame, Terminal};
use rustix::process::{Signal, kill_current_process_group};

/// The exit code of a program that panicked.
const PANICKED: i32 = 101;

/// As long as it lives the terminal is ours.
pub(super) struct Screen(Terminal<CrosstermBackend<Stdout>>);

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
        take().inspect_err(|_| restore()).map(Screen)
    }

    /// Draws what has changed.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(drop)
    }

    /// Gives the terminal back and stops, with all that was started as one job with this, until a shell has it go
    /// on; then takes the terminal again. Where no shell could do that, it goes on at once. Called on the main
    /// thread, which the signal stops before this call goes on.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        restore();
        kill_current_process_group(Signal::TSTP)?;
        self.0 = take()?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Takes the terminal; nothing is on it.
fn take() -> io::Result<Terminal<CrosstermBackend<Stdout>>> {
    enable_raw_mode()?;
    // A terminal without a second screen, or on it since a client was killed, still shows something.
    execute!(io::stdout(), EnterAlternateScreen, Clear(ClearType::All), EnableBracketedPaste)?;
    Terminal::new(CrosstermBackend::new(io::stdout()))
}

fn restore() {
    // There is nobody left to tell.
    let _ = execute!(io::stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}
