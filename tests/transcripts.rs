//! Plays the transcripts in `tests/transcripts/`; `README.md` there says how they are written.

mod common;

#[path = "transcripts/stage.rs"]
mod stage;

use std::path::Path;

/// A test for each file, and one that no file is left out.
macro_rules! transcripts {
    ($($file:ident: $sentence:ident,)+) => {
        $(#[test]
        fn $sentence() {
            stage::play(&folder().join(concat!(stringify!($file), ".txt")));
        })+

        #[test]
        fn every_transcript_is_played() {
            let files = std::fs::read_dir(folder()).expect("the folder of transcripts is here");
            for file in files {
                let path = file.expect("its files can be listed").path();
                let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
                let played = [$(stringify!($file)),+].contains(&name);
                assert!(played || path.extension().is_none_or(|end| end != "txt"), "no test plays {path:?}");
            }
        }
    };
}

transcripts! {
    echo: what_one_says_all_hear_in_one_order,
    silent: a_registration_is_a_session_at_once,
    login: logging_in_and_again,
    register: a_name_is_had_by_one,
    activity: an_activity_needs_the_right_name_and_secret,
    framing: lines_may_look_as_clients_write_them,
    patience: a_server_waits_so_long_and_not_longer,
    owed: a_broken_session_is_owed_what_it_missed,
    logout: a_logout_ends_what_is_owed,
    ids: a_client_with_an_id_is_heard_once_and_hears_once,
    closing: every_close_gives_what_is_owed_first,
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts"))
}
