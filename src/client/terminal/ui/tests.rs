//! Screens as text: keys and news in, lines out.

use std::borrow::Cow;

use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::client::terminal::draw::draw;

struct Stage {
    ui: Ui,
    now: Duration,
}

impl Stage {
    fn new() -> Stage {
        Stage { ui: Ui::new("bob", "localhost:3780"), now: Duration::ZERO }
    }

    /// One that is logged in.
    fn online() -> Stage {
        let mut stage = Stage::new();
        stage.hear(News::Connected { host: "localhost".to_owned(), port: 3780 });
        stage.hear(News::LoggedIn { info: "logged in as user bob".to_owned() });
        stage
    }

    fn hear(&mut self, news: News<'_>) {
        self.ui.hear(self.now, "12:00", news);
    }

    fn says(&mut self, who: &str, text: &str) {
        let activity = serde_json::json!({ "message": text, "authenticated_user": who }).to_string();
        self.hear(News::Broadcast { activity: Cow::Owned(activity) });
    }

    fn key(&mut self, code: KeyCode, modifiers: KeyModifiers) -> Act {
        self.ui.key("12:01", KeyEvent::new(code, modifiers))
    }

    /// Writes a line and says it.
    fn enter(&mut self, line: &str) -> Act {
        self.ui.paste("12:01", line);
        self.key(KeyCode::Enter, KeyModifiers::NONE)
    }

    /// The screen's lines without the blanks behind them, and where the cursor is.
    fn screen(&mut self, columns: u16, rows: u16) -> (Vec<String>, (u16, u16)) {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a screen");
        terminal.draw(|frame| draw(&mut self.ui, self.now, frame)).expect("it is drawn");
        let buffer = terminal.backend().buffer();
        let line = |row| {
            let mut line = String::new();
            let mut hidden = 0;
            for column in 0..columns {
                let symbol = buffer[(column, row)].symbol();
                if hidden == 0 {
                    line.push_str(symbol);
                    hidden = super::super::text::width(symbol).max(1);
                }
                hidden -= 1;
            }
            line.trim_end().to_owned()
        };
        let lines = (0..rows).map(line).collect();
        let cursor = terminal.get_cursor_position().expect("it has one");
        (lines, (cursor.x, cursor.y))
    }
}

#[test]
fn a_talk_is_shown_with_names_times_and_ticks() {
    let mut stage = Stage::online();
    stage.says("ann", "hello bob");
    assert_eq!(stage.enter("hi ann"), Act::Say("hi ann".to_owned()));
    assert_eq!(
        stage.enter("{\"type\": \"Note\", \"n\": 1}"),
        Act::Say("{\"type\": \"Note\", \"n\": 1}".to_owned())
    );
    stage.says("bob", "hi ann");
    stage.ui.paste("12:01", "日本");
    let (lines, cursor) = stage.screen(50, 8);
    assert_eq!(
        lines,
        [
            "",
            "",
            "12:00  logged in as user bob at localhost:3780",
            "12:00 ann: hello bob",
            "12:00✓bob: hi ann",
            "12:01…bob: {\"n\":1,\"type\":\"Note\"}",
            " bob at localhost:3780: online              /help",
            "> 日本",
        ]
    );
    assert_eq!(cursor, (6, 7));
    stage.hear(News::Acknowledged { cseq: 2 });
    assert_eq!(stage.screen(50, 8).0[5], "12:01✓bob: {\"n\":1,\"type\":\"Note\"}");
    let activity = r#"{"type": "Note", "n": 1,"authenticated_user":"bob"}"#;
    stage.hear(News::Broadcast { activity: activity.into() });
    assert_eq!(stage.screen(50, 8).0[5], "12:00✓bob: {\"n\":1,\"type\":\"Note\"}");
}

#[test]
fn the_connection_is_shown_as_it_changes() {
    let mut stage = Stage::new();
    let status = |stage: &mut Stage| stage.screen(80, 4).0[2].clone();
    assert!(status(&mut stage).starts_with(" bob at localhost:3780: connecting "));
    stage.hear(News::Connected { host: "localhost".to_owned(), port: 3780 });
    assert!(status(&mut stage).contains("logging in"));
    stage.hear(News::LoggedIn { info: "in".to_owned() });
    stage.hear(News::Redirected { host: "two".to_owned(), port: 1 });
    stage.hear(News::Connected { host: "two".to_owned(), port: 1 });
    stage.hear(News::LoggedIn { info: "in".to_owned() });
    assert!(status(&mut stage).starts_with(" bob at two:1: online "));
    assert_eq!(stage.enter("under way"), Act::Say("under way".to_owned()));
    for _ in 0..3 {
        stage.hear(News::Lost { why: "the connection broke (reset)".to_owned() });
        stage.hear(News::Waiting { pause: Duration::from_millis(2100), host: "three".to_owned(), port: 2 });
    }
    assert!(
        status(&mut stage).starts_with(" bob at two:1: no connection; tries three:2 in 3 s, 1 on their way")
    );
    stage.now += Duration::from_millis(1200);
    assert!(status(&mut stage).contains("in 1 s"));
    stage.ui.over("12:02", Over::Circling);
    assert_eq!(stage.enter("more"), Act::Nothing);
    let lines = stage.screen(70, 12).0;
    let story = [
        "12:00  in at localhost:3780",
        "12:00  sent on to two:1",
        "12:00  in at two:1",
        "12:00  the connection broke (reset)",
    ];
    let at = lines.iter().position(|line| line == story[0]).expect("it is there");
    assert_eq!(lines[at..at + 4], story);
    assert!(lines.iter().any(|line| line.contains("redirected more than 16 times")), "{lines:#?}");
    assert!(lines[10].contains("over; /quit leaves"));
}

#[test]
fn scrolling_keeps_the_place_and_counts_what_is_below() {
    let mut stage = Stage::online();
    (0..30).for_each(|n| stage.says("ann", &n.to_string()));
    assert_eq!(stage.screen(40, 6).0[..4], [26, 27, 28, 29].map(|n| format!("12:00 ann: {n}")));
    stage.key(KeyCode::PageUp, KeyModifiers::NONE);
    let lines = stage.screen(40, 6).0;
    assert_eq!(lines[..4], [23, 24, 25, 26].map(|n| format!("12:00 ann: {n}")));
    assert!(lines[4].ends_with("3 below, Esc"), "{}", lines[4]);
    stage.says("ann", "30");
    let later = stage.screen(40, 6).0;
    assert_eq!(later[..4], lines[..4]);
    assert!(later[4].ends_with("4 below, Esc"));
    stage.key(KeyCode::Home, KeyModifiers::CONTROL);
    assert!(stage.screen(40, 6).0[0].contains("logged in"));
    stage.key(KeyCode::PageDown, KeyModifiers::NONE);
    assert_eq!(stage.screen(40, 6).0[..2], [1, 2].map(|n| format!("12:00 ann: {n}")));
    stage.key(KeyCode::Esc, KeyModifiers::NONE);
    assert_eq!(stage.screen(40, 6).0[3], "12:00 ann: 30");
    stage.key(KeyCode::PageUp, KeyModifiers::NONE);
    assert_eq!(stage.enter("mine"), Act::Say("mine".to_owned()));
    assert_eq!(stage.screen(40, 6).0[3], "12:01…bob: mine", "who speaks wants to see it");
}

#[test]
fn strangers_cannot_write_on_the_screen_but_in_their_place() {
    let mut stage = Stage::online();
    stage.says("eve\x1b]0;x\x07\nann", "\x1b[2J\x1b[1;1Hboo\r\n12:00 ann: I am ann\u{202e}");
    let lines = stage.screen(60, 6).0;
    assert_eq!(lines[2], "12:00 eve␛]0;x␇ ann: ␛[2J␛[1;1Hboo");
    assert_eq!(lines[3], "      12:00 ann: I am ann\u{fffd}");
    stage.hear(News::LoggedIn { info: "\x1b[31min".to_owned() });
    assert!(stage.screen(60, 6).0[3].contains("␛[31min at"));
}

#[test]
fn commands_are_for_the_client_and_two_slashes_for_everybody() {
    let mut stage = Stage::online();
    assert_eq!(stage.enter("/quit"), Act::Leave { logout: true });
    assert_eq!(stage.enter("  "), Act::Nothing);
    assert_eq!(stage.enter("//quit"), Act::Say("/quit".to_owned()));
    assert_eq!(stage.enter("/nonsense"), Act::Nothing);
    assert!(stage.screen(80, 6).0.iter().any(|line| line.contains("there is no /nonsense")));
    assert_eq!(stage.enter("/help"), Act::Nothing);
    assert!(stage.screen(80, 24).0.iter().any(|line| line.contains("log out and leave")));
    assert_eq!(stage.key(KeyCode::Char('c'), KeyModifiers::CONTROL), Act::Leave { logout: false });
    stage.ui.paste("12:00", "x");
    stage.key(KeyCode::Left, KeyModifiers::NONE);
    assert_eq!(stage.key(KeyCode::Char('d'), KeyModifiers::CONTROL), Act::Nothing, "it erases");
    assert_eq!(stage.key(KeyCode::Char('d'), KeyModifiers::CONTROL), Act::Leave { logout: true });
}

proptest! {
    #[test]
    fn no_size_and_no_text_breaks_it(
        texts in prop::collection::vec(".*|\\PC{0,200}|[\\x00-\\x7f]{0,80}", 0..20),
        sizes in prop::collection::vec((1..60_u16, 1..20_u16, 0..5_usize), 1..8),
    ) {
        let mut stage = Stage::online();
        texts.iter().enumerate().for_each(|(i, text)| stage.says(if i % 2 == 0 { "ann" } else { text }, text));
        let keys = [KeyCode::PageUp, KeyCode::PageDown, KeyCode::Home, KeyCode::Esc, KeyCode::PageUp];
        for (columns, rows, key) in sizes {
            let modifiers = if key == 2 { KeyModifiers::CONTROL } else { KeyModifiers::NONE };
            stage.key(keys[key], modifiers);
            let (lines, (x, y)) = stage.screen(columns, rows);
            prop_assert!(lines.iter().all(|line| !line.chars().any(char::is_control)));
            prop_assert!(x < columns && y < rows);
        }
    }
}
