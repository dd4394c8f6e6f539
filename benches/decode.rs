//! One line → a message: ours beside three ways to use serde_json.

mod common;

use std::borrow::Cow;
use std::hint::black_box;

use activitystreamer::wire::decode::Decoder;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The obvious way: serde looks for `command`, keeping everything before it as a tree.
#[derive(Deserialize)]
#[serde(tag = "command", rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(dead_code, reason = "read to be measured")]
enum Tagged {
    Login { username: String, secret: Option<String> },
    Register { username: String, secret: Option<String> },
    ActivityMessage { username: String, secret: Option<String>, activity: Map<String, Value> },
    Logout,
}

/// Everything borrowed, the activity as its text.
#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be measured")]
struct Flat<'a> {
    #[serde(borrow)]
    command: Cow<'a, str>,
    #[serde(borrow)]
    username: Option<Cow<'a, str>>,
    #[serde(borrow)]
    secret: Option<Cow<'a, str>>,
    #[serde(borrow)]
    activity: Option<&'a RawValue>,
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for bytes in [176, 1 << 10, 16 << 10] {
        let line = common::activity_message(bytes);
        let line = line.as_bytes();
        assert_eq!(line.len(), bytes);
        assert!(serde_json::from_slice::<Tagged>(line).is_ok());
        group.throughput(Throughput::Bytes(bytes as u64));
        let mut decoder = Decoder::default();
        group.bench_function(BenchmarkId::new("ours", bytes), |b| {
            b.iter(|| black_box(decoder.decode(black_box(line))).is_ok());
        });
        group.bench_function(BenchmarkId::new("serde_flat_raw_value", bytes), |b| {
            b.iter(|| black_box(serde_json::from_slice::<Flat>(black_box(line))).is_ok());
        });
        group.bench_function(BenchmarkId::new("serde_tagged_enum", bytes), |b| {
            b.iter(|| black_box(serde_json::from_slice::<Tagged>(black_box(line))).is_ok());
        });
        group.bench_function(BenchmarkId::new("serde_dom", bytes), |b| {
            b.iter(|| black_box(serde_json::from_slice::<Value>(black_box(line))).is_ok());
        });
    }
}

criterion_group! { name = benches; config = common::criterion(); targets = decode }
criterion_main!(benches);
