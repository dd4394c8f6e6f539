use super::*;

fn read(flags: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
    let args: Vec<OsString> = format!("as server {flags}").split_whitespace().map(OsString::from).collect();
    Settings::read(&args, variables.iter().map(|(name, text)| (name.into(), text.into())))
}

#[test]
fn a_stronger_place_wins_and_takes_the_other_way_to_say_it_along() {
    let env = [("AS_SECRET", "a"), ("AS_AWAY", "2m"), ("HOME", "/"), ("AS_EPHEMERAL", "true")];
    let args = read("--secret-file f --ephemeral=false", &env).unwrap().flags().unwrap();
    assert_eq!((args.secret.is_none(), args.secret_file.is_some(), args.ephemeral), (true, true, false));
    assert_eq!(args.away, std::time::Duration::from_secs(120));
    assert!(read("--ephemeral", &[]).unwrap().flags().unwrap().ephemeral);
}

#[test]
fn what_is_no_setting_is_refused_with_the_nearest_that_is() {
    for (name, nearest) in
        [("AS_DRAINS", "AS_DRAIN"), ("AS_away", "AS_AWAY"), ("AS_HELP", "AS_"), ("AS_", "AS_")]
    {
        let error = read("", &[(name, "1")]).unwrap_err();
        assert!(
            error.contains(&format!("`{name}`")) && error.contains(&format!("nearest is `{nearest}")),
            "{error}"
        );
    }
}

#[test]
fn what_may_change_does_and_the_rest_is_named() {
    let old = read("--away 1m --drain 1 --feed-bytes 64M -s x", &[]).unwrap();
    let new = read("--away 2m --feed-bytes 32M --names 5 -s y", &[]).unwrap();
    let change = old.change(&new);
    assert_eq!(change.changed, ["away", "drain", "names"]);
    assert_eq!(change.restart, ["feed-bytes", "secret"]);
    let args = change.settings.flags().unwrap();
    assert_eq!((args.names, args.feed_bytes), (5, 64 << 20));
    assert_eq!(args.drain, std::time::Duration::from_secs(30), "back to what is usual");
    assert!(change.settings.change(&new).changed.is_empty());
}

#[test]
fn all_that_changes_at_once_is_a_setting() {
    let all: Vec<String> = arguments().iter().map(key).collect();
    for key in CHANGING.iter().chain(&EITHER) {
        assert!(all.iter().any(|other| other == key), "{key}");
    }
    assert!(NO_SETTINGS.iter().all(|key| !all.iter().any(|other| other == key)));
}
