//! The client on a terminal: the whole screen, keys and news as they come.
//!
//! The state is in `ui`, which knows no terminal, and `draw` makes cells of it; here is the thin rest.
//! One thread waits for keys, one for news, one for signals; this one draws.
//!
//! Invariant: however it ends, the screen is as it was before.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyEventKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level;
use zeroize::Zeroizing;

use self::screen::Screen;
use self::ui::{Act, Link, Ui};
use super::connection::{Connection, Delivery, Error, Settings};
use super::journey::{News, Over};
use super::machine::ANONYMOUS;
use super::pipe::{Exit, Options, tell};

mod draw;
mod editor;
mod entries;
mod screen;
mod text;
mod ui;

/// How long leaving may wait for the logout.
const FAREWELL: Duration = Duration::from_secs(3);
/// What is handled before the screen is drawn again, so that a flood does not freeze it.
const BATCH: usize = 256;
/// What may wait to be handled; then it waits where it comes from.
const HAPPENINGS: usize = 8;

/// What wakes the client.
enum Happening {
    Terminal(Event),
    News(News<'static>),
    Over(Over),
    Signal(i32),
    /// The terminal cannot be read.
    Gone(io::Error),
}

/// Why it leaves.
enum Leave {
    /// The user wants to.
    Wish {
        logout: bool,
    },
    Signal(i32),
    Over(Over),
    Failed(io::Error),
}

/// Runs a client on this process's terminal until it is left. Blocks; standard error gets what went wrong.
pub fn run(options: &Options) -> Exit {
    let (secret, kept) = match options.secret() {
        Ok(found) => found,
        Err(why) => {
            tell(&why);
            return Exit::Invalid;
        }
    };
    let mut settings = Settings {
        name: options.name.clone(),
        secret,
        local_port: options.local_port,
        delivery: options.memory.clone().map_or(Delivery::Once, Delivery::Kept),
        ..Settings::at(&options.host, options.port)
    };
    settings.servers.extend(options.others.iter().cloned());
    let connection = match Connection::open(&settings) {
        Ok(connection) => Arc::new(connection),
        Err(error) => {
            tell(&error.to_string());
            return Exit::Refused;
        }
    };
    let (leave, happenings, unheard, online) = match Screen::open() {
        Ok(screen) => live(options, &connection, screen),
        Err(error) => {
            tell(&format!("cannot use the terminal: {error}; --plain needs none"));
            return Exit::Output;
        }
    };
    let exit = match leave {
        Leave::Wish { logout: false } => Exit::Done,
        Leave::Wish { logout: true } => farewell(&connection, &happenings, online),
        Leave::Over(over) => {
            tell(&format!("{over}{}", if kept { options.kept_where() } else { String::new() }));
            Exit::of(&over)
        }
        Leave::Failed(error) => {
            tell(&format!("the terminal failed: {error}; --plain needs none"));
            Exit::Output
        }
        Leave::Signal(signal) => {
            let _ = low_level::emulate_default_handler(signal);
            Exit::Done
        }
    };
    if unheard > 0 && exit == Exit::Done {
        tell(&format!("left before {unheard} of the own messages were acknowledged; they may not be heard"));
    }
    exit
}

/// The client on the screen. The last are how many own messages did not come back, and whether it is
/// logged in.
fn live(
    options: &Options,
    connection: &Arc<Connection>,
    screen: Screen,
) -> (Leave, Receiver<Happening>, usize, bool) {
    let (tell, happenings) = sync_channel(HAPPENINGS);
    let me = options.name.clone().unwrap_or_else(|| ANONYMOUS.to_owned());
    let ui = Ui::new(&me, &format!("{}:{}", options.host, options.port));
    let mut client = Live { options, connection, ui, start: Instant::now() };
    let leave = client.start(&tell).and_then(|()| client.run(screen, &happenings));
    let unheard = client.ui.entries.unheard();
    let online = client.ui.link == Link::Online;
    (leave.unwrap_or_else(Leave::Failed), happenings, unheard, online)
}

struct Live<'a> {
    options: &'a Options,
    connection: &'a Arc<Connection>,
    ui: Ui,
    start: Instant,
}

impl Live<'_> {
    /// Starts the threads that wait.
    fn start(&self, tell: &SyncSender<Happening>) -> io::Result<()> {
        for signal in [SIGTERM, SIGHUP, SIGINT] {
            let (mut told, teller) = UnixStream::pair()?;
            low_level::pipe::register(signal, teller)?;
            let tell = tell.clone();
            thread::spawn(move || {
                while told.read_exact(&mut [0]).is_ok() && tell.send(Happening::Signal(signal)).is_ok() {}
            });
        }
        let tell_news = tell.clone();
        let connection = self.connection.clone();
        thread::spawn(move || {
            loop {
                let happening = match connection.receive(Duration::from_secs(3600)) {
                    Ok(Some(news)) => Happening::News(news),
                    Ok(None) => continue,
                    Err(Error::Over(over)) => {
                        let _ = tell_news.send(Happening::Over(over));
                        return;
                    }
                    Err(_) => return,
                };
                if tell_news.send(happening).is_err() {
                    return;
                }
            }
        });
        let tell = tell.clone();
        thread::spawn(move || {
            loop {
                let read = event::read();
                let failed = read.is_err();
                if tell.send(read.map_or_else(Happening::Gone, Happening::Terminal)).is_err() || failed {
                    return;
                }
            }
        });
        Ok(())
    }

    fn run(&mut self, mut screen: Screen, happenings: &Receiver<Happening>) -> io::Result<Leave> {
        loop {
            let now = self.start.elapsed();
            screen.draw(|frame| draw::draw(&mut self.ui, now, frame))?;
            // A countdown is drawn each second.
            let patience = if matches!(self.ui.link, Link::Waiting { .. }) { 1 } else { 3600 };
            let mut next = match happenings.recv_timeout(Duration::from_secs(patience)) {
                Ok(happening) => Some(happening),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("nobody reads it")),
            };
            for _ in 0..BATCH {
                let Some(happening) = next.take() else { break };
                if let Some(leave) = self.on(happening, &mut screen)? {
                    return Ok(leave);
                }
                next = happenings.try_recv().ok();
            }
            if let Some(happening) = next
                && let Some(leave) = self.on(happening, &mut screen)?
            {
                return Ok(leave);
            }
        }
    }

    fn on(&mut self, happening: Happening, screen: &mut Screen) -> io::Result<Option<Leave>> {
        let clock = clock();
        match happening {
            Happening::Terminal(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                match self.ui.key(&clock, key) {
                    Act::Nothing => {}
                    Act::Say(line) => self.say(&clock, &line),
                    Act::Suspend => screen.suspend()?,
                    Act::Leave { logout } => {
                        return Ok(Some(match &self.ui.link {
                            Link::Over(over) => Leave::Over(over.clone()),
                            _ => Leave::Wish { logout },
                        }));
                    }
                }
            }
            Happening::Terminal(Event::Paste(text)) => self.ui.paste(&clock, &text),
            Happening::Terminal(_) => {}
            Happening::News(news) => {
                let registered = matches!(news, News::Registered { .. });
                self.ui.hear(self.start.elapsed(), &clock, news);
                if registered {
                    self.remember(&clock);
                }
            }
            // Before the first login there is nothing on the screen that is worth staying for.
            Happening::Over(over) if !self.ui.been_in => return Ok(Some(Leave::Over(over))),
            Happening::Over(over) => self.ui.over(&clock, over),
            Happening::Signal(signal) => return Ok(Some(Leave::Signal(signal))),
            Happening::Gone(error) => return Err(error),
        }
        Ok(None)
    }

    /// Says a line, if that does not make the screen wait.
    fn say(&mut self, clock: &str, line: &str) {
        if let Err(error) = self.connection.try_send(line) {
            self.ui.entries.unsay();
            self.ui.note(clock, &format!("not said: {line}: {error}"));
        }
    }

    /// The secret that was made is kept, and told.
    fn remember(&mut self, clock: &str) {
        if let (Some(name), Some(secret)) = (&self.options.name, self.connection.secret()) {
            let words = self.options.keep(name, &Zeroizing::new(secret.to_owned()));
            self.ui.note(clock, &words);
        }
    }
}

/// Logs out, and says what of it went wrong.
fn farewell(connection: &Connection, happenings: &Receiver<Happening>, online: bool) -> Exit {
    connection.end();
    let until = Instant::now() + if online { FAREWELL } else { Duration::ZERO };
    loop {
        match happenings.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Happening::Over(Over::LoggedOut)) => return Exit::Done,
            Ok(Happening::Over(over)) => {
                tell(&over.to_string());
                return Exit::of(&over);
            }
            Ok(Happening::Signal(_)) | Err(_) => break,
            Ok(_) => {}
        }
    }
    tell("left without a logout, as no server answered; a registered name stays owed what is said");
    Exit::ConnectionFailed
}

/// What the clock on the wall shows.
fn clock() -> String {
    jiff::Zoned::now().strftime("%H:%M").to_string()
}
