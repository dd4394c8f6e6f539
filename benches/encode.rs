//! An activity → the broadcast line, in the three forms it can come in.

mod common;

use std::hint::black_box;

use activitystreamer::wire::decode::Decoder;
use activitystreamer::wire::encode;
use activitystreamer::wire::message::ClientMessage;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    for bytes in [176, 1 << 10] {
        let plain = common::activity_message(bytes);
        let forms = [
            ("plain", plain.clone()),
            ("beyond_ascii", plain.replace("What any", "Wäs änÿ").replace("hears", "hört 👂")),
            ("field_cut", plain.replace(r#""content""#, r#""authenticated_user":"eve","content""#)),
        ];
        for (form, line) in forms {
            let mut decoder = Decoder::default();
            let Ok(ClientMessage::Activity { username, activity, .. }) = decoder.decode(line.as_bytes())
            else {
                panic!("an activity");
            };
            let mut out = Vec::new();
            group.throughput(Throughput::Bytes(line.len() as u64));
            group.bench_function(BenchmarkId::new(form, bytes), |b| {
                b.iter(|| {
                    out.clear();
                    encode::broadcast(&mut out, black_box(&activity), username, 1 << 20)
                });
            });
        }
    }
}

criterion_group! { name = benches; config = common::criterion(); targets = encode }
criterion_main!(benches);
