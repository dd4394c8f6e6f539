use std::fs;
use std::path::Path;

use activitystreamer::store::{Found, Records, Row, Table};
use proptest::prelude::*;

use crate::stage::Folder;

type Rows = Vec<(Table, Vec<u8>, Vec<u8>)>;

fn open(path: &Path) -> (Records, bool, Rows) {
    let mut rows = Rows::new();
    let mut keep = |found: Found<'_>| match found {
        Found::Row { table, key, value } => rows.push((table, key.to_vec(), value.to_vec())),
        Found::ForgetRows => rows.clear(),
        other => panic!("no row: {other:?}"),
    };
    let (records, aside) = Records::open(path, 77, &mut keep).unwrap();
    if let Some(aside) = &aside {
        assert_eq!(aside.file_name().unwrap(), "records.redb.damaged-77");
        assert!(aside.exists());
    }
    (records, aside.is_some(), rows)
}

fn put(table: Table, key: &str, value: Option<&str>) -> Row {
    let value = value.map(|value| value.as_bytes().into());
    (table, key.as_bytes().into(), value)
}

fn row(table: Table, key: &str, value: &str) -> (Table, Vec<u8>, Vec<u8>) {
    (table, key.as_bytes().to_vec(), value.as_bytes().to_vec())
}

#[test]
fn rows_come_back_by_table_and_key() {
    let folder = Folder::new();
    let path = folder.path().join("records.redb");
    let (mut records, _, rows) = open(&path);
    assert_eq!(rows, []);
    let batches = [
        put(Table::Sessions, "x", Some("1")),
        put(Table::Names, "bob", Some("2")),
        put(Table::Names, "alice", Some("3")),
        put(Table::Names, "bob", None),
        put(Table::Names, "alice", Some("4")),
        put(Table::Meta, "", Some("")),
    ];
    records.commit(batches.iter()).unwrap();
    drop(records);
    let want = [row(Table::Meta, "", ""), row(Table::Names, "alice", "4"), row(Table::Sessions, "x", "1")];
    assert_eq!(open(&path).2, want);
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    let folder = Folder::new();
    let path = folder.path().join("records.redb");
    for text in ["x".repeat(10), "no database".repeat(10_000), "\0".repeat(1 << 20)] {
        fs::write(&path, &text).unwrap();
        let (mut records, is_damaged, rows) = open(&path);
        assert!(is_damaged && rows.is_empty());
        records.commit([put(Table::Meta, "new", Some("1"))].iter()).unwrap();
        drop(records);
        assert_eq!(open(&path).2, [row(Table::Meta, "new", "1")]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_damaged_file_gives_the_rows_that_were_written_or_is_set_aside(
        hits in prop::collection::vec((0f64..1.0, 1u8..=255), 1..4),
        zone in 0.05f64..1.0,
        cut in 0.5f64..1.5,
    ) {
        let folder = Folder::new();
        let path = folder.path().join("records.redb");
        let mut records = open(&path).0;
        let mut want = Rows::new();
        for i in 0..60 {
            let (key, value) = (format!("name{i:03}"), format!("value{i}").repeat(20));
            records.commit([put(Table::Names, &key, Some(&value))].iter()).unwrap();
            want.push(row(Table::Names, &key, &value));
        }
        drop(records);
        let mut bytes = fs::read(&path).unwrap();
        for (place, mask) in hits {
            let at = (bytes.len() as f64 * zone * place) as usize;
            bytes[at] ^= mask;
        }
        bytes.truncate((bytes.len() as f64 * cut) as usize);
        fs::write(&path, &bytes).unwrap();
        let (mut records, is_damaged, rows) = open(&path);
        if is_damaged {
            prop_assert_eq!(rows, Rows::new());
        } else {
            // The newest commit may be what is damaged; then there are those before it, whole.
            prop_assert!(want.starts_with(&rows), "{} rows", rows.len());
        }
        records.commit([put(Table::Meta, "new", Some("1"))].iter()).unwrap();
        drop(records);
        let (_, is_damaged, rows) = open(&path);
        prop_assert!(!is_damaged && rows.contains(&row(Table::Meta, "new", "1")));
    }
}
