//! Every seed in `fuzz/corpus/` through its fuzz body, so that a plain `cargo test` holds what the fuzzer
//! found once.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use activitystreamer::fuzz;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut seeds: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(seeds.len() >= 10, "fuzz/corpus/{target} has {} seeds; were they deleted?", seeds.len());
    let fails = |seed: &Path| {
        let input = fs::read(seed).unwrap();
        catch_unwind(AssertUnwindSafe(|| body(&input))).is_err()
    };
    for seed in seeds {
        let name = seed.file_name().unwrap_or_default().to_string_lossy();
        assert!(
            !fails(&seed),
            "the seed above fails; for it alone: cargo fuzz run -s none {target} fuzz/corpus/{target}/{name}"
        );
    }
}

#[test]
fn client_lines_are_read_as_serde_json_reads_them() {
    replay("client_line", fuzz::client_line);
}

#[test]
fn a_journal_of_any_bytes_gives_lines_that_were_written() {
    replay("journal", fuzz::journal);
}

#[test]
fn lines_are_the_same_in_any_pieces() {
    replay("line_splitting", fuzz::line_splitting);
}

#[test]
fn sessions_follow_the_protocol_under_any_schedule() {
    replay("session", fuzz::session);
}

#[test]
fn only_servers_of_the_network_prove_to_be_that() {
    replay("handshake", fuzz::handshake);
}

#[test]
fn frames_are_the_same_in_any_pieces_and_say_what_can_be_said() {
    replay("peer_frames", fuzz::peer_frames);
}
