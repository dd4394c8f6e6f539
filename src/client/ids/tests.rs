use super::*;

#[test]
fn what_is_kept_goes_on_as_it_was() {
    let (a, b) = (StreamId(0xa1), StreamId(0xa2));
    let own = "0b".repeat(16);
    let mut ids = Ids::new([7; 16]);
    ids.keep_changes();
    let mut kept = vec![ids.state()];
    ids.say("{\"n\":1}");
    ids.say("{\"n\":2}");
    let welcome = format!(r#"{{"id":"{own}","cseq":0,"lost":2,"at":{{"00000000000000a1":5}}}}"#);
    assert_eq!(ids.welcome(&welcome), Some(0));
    let id = format!("{}-1", "0a".repeat(16));
    assert!(ids.hear(a, 6, Some(&id)));
    assert!(ids.hear(a, 7, None));
    assert!(!ids.hear(b, 1, Some(&id)), "by its number");
    assert!(!ids.hear(a, 7, None), "by its position");
    assert!(!ids.hear(a, 3, None), "from before its begin");
    assert!(ids.hear(b, 2, Some(&format!("{own}-1"))));
    assert!(!ids.hear(a, 8, Some(&format!("{own}-1"))), "its own, by its number");
    ids.ack(1);
    kept.extend(ids.changes());
    let text: Vec<String> = kept.iter().map(|change| serde_json::to_string(change).unwrap()).collect();
    let again = Ids::restore(text.iter().map(|text| serde_json::from_str(text).unwrap())).unwrap();
    assert_eq!(again.state(), ids.state());
    assert_eq!((again.said(), again.acked()), (2, 1));
    assert_eq!(again.ext(), ids.ext());
    let end =
        r#","from":1,"at":{"00000000000000a1":8,"00000000000000a2":2},"own":[[1,"00000000000000a2",2]]}"#;
    assert!(again.ext().ends_with(end), "{}", again.ext());
    let state = again.state();
    assert_eq!(Ids::restore([state.clone()]).unwrap().state(), state);
}

#[test]
fn of_what_is_safe_the_last_are_kept() {
    let mut ids = Ids::new([7; 16]);
    for n in 0..3_000 {
        ids.say(&format!("{{\"n\":{n}}}"));
    }
    ids.ack(2_000);
    assert_eq!(ids.behind(0).next().map(|(n, _)| n), Some(2_000 - RING as u64 + 1));
    assert_eq!(ids.behind(2_500).count(), 500);
    ids.say(&"x".repeat(RING_BYTES));
    ids.ack(3_001);
    assert_eq!(ids.behind(0).count(), 1);
    ids.ack(5_000);
    assert_eq!((ids.acked(), ids.said()), (3_001, 3_001));
}
