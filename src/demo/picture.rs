//! What is shown: a small picture that is drawn over itself on a terminal, plain lines elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

/// One server, as it is shown.
pub struct Row {
    pub port: u16,
    pub runs: bool,
    pub clients: usize,
}

/// All of a moment.
pub struct Scene {
    pub rows: Vec<Row>,
    pub said: u64,
    pub heard: u64,
    pub moved: u64,
    pub repeats: u64,
    pub lost_way: usize,
}

impl Scene {
    fn figures(&self) -> String {
        let Scene { said, heard, moved, repeats, .. } = self;
        format!("{said} said, {heard} heard, {moved} moved, {repeats} came twice")
    }

    fn line(&self) -> String {
        let rows = self.rows.iter().map(|row| match row.runs {
            true => format!("{}: {} clients", row.port, row.clients),
            false => format!("{}: killed", row.port),
        });
        let mut text = rows.collect::<Vec<_>>().join(", ");
        if self.lost_way > 0 {
            write!(text, ", {} on their way", self.lost_way).expect("a String takes every write");
        }
        format!("  {text}; {}", self.figures())
    }

    fn picture(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let dots = match row.runs {
                true => "●".repeat(row.clients),
                false => "✗ killed".to_owned(),
            };
            writeln!(text, "\x1b[K  server {:<6}{:>3}  {dots}", row.port, row.clients)
                .expect("a String takes every write");
        }
        let way = "○".repeat(self.lost_way);
        writeln!(text, "\x1b[K  on their way {:>2}  {way}", self.lost_way)
            .expect("a String takes every write");
        writeln!(text, "\x1b[K  {}", self.figures()).expect("a String takes every write");
        text
    }
}

/// Standard output. That nobody reads it changes nothing.
pub struct Picture {
    is_terminal: bool,
    /// Lines of the picture that stands at the end.
    lines: usize,
}

impl Picture {
    pub fn new() -> Picture {
        Picture { is_terminal: io::stdout().is_terminal(), lines: 0 }
    }

    /// On a terminal a picture is drawn often, as a line elsewhere rarely.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Draws the scene in the place of the one before.
    pub fn show(&mut self, scene: &Scene) {
        if !self.is_terminal {
            self.print(&(scene.line() + "\n"));
            return;
        }
        let text = scene.picture();
        let over = self.over();
        // What is too long for a line is cut: a line that became two would not be drawn over.
        self.print(&format!("{over}\x1b[?7l{text}\x1b[?7h"));
        self.lines = text.lines().count();
    }

    /// Says what happens, above the next picture.
    pub fn tell(&mut self, words: &str) {
        let over = self.over();
        self.lines = 0;
        self.print(&format!("{over}{words}\n"));
    }

    /// What goes back to where the picture began.
    fn over(&self) -> String {
        match self.lines {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    fn print(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
