//! What several benches share: lines like those that clients send, and how long is measured.
#![allow(dead_code, reason = "each bench uses its part")]

use std::time::Duration;

use criterion::Criterion;

/// A line with its activity, `bytes` long without line end: a note with as many tags as there is room for.
pub fn activity_message(bytes: usize) -> String {
    const HEAD: &str = r#"{"command":"ACTIVITY_MESSAGE","username":"anonymous","activity":{"type":"Note","#;
    let tag = r#"{"type":"Mention","href":"https://social.example/users/alice","name":"@alice","n":17},"#;
    let tags = tag.repeat((bytes - 150) / (2 * tag.len()));
    let tags = tags.trim_end_matches(',');
    let front = format!(r#"{HEAD}"tag":[{tags}],"content":""#);
    let back = r#""}}"#;
    let words = "What any client says, every connected client hears. ".repeat(bytes / 50 + 1);
    format!("{front}{}{back}", &words[..bytes - front.len() - back.len()])
}

/// Enough for ratios that hold, and all benches done in a few minutes.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50)
}
