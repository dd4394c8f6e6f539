//! What a delivery costs inside the node: no sockets, every write takes everything.

mod common;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use activitystreamer::base::limits::Limits;
use activitystreamer::base::time::Time;
use activitystreamer::node::{Input, Node, Seeds};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const LOGIN: &[u8] = br#"{"command":"LOGIN","username":"anonymous"}"#;

/// Writes to everybody who is owed something.
fn flush(node: &mut Node) {
    while let Some(link) = node.writable() {
        let transmit = node.transmit(link);
        let n = transmit.bytes();
        black_box(transmit);
        node.sent(link, n);
    }
}

fn fanout(c: &mut Criterion) {
    let mut group = c.benchmark_group("fanout");
    let line = common::activity_message(176);
    for sessions in [100, 1_000, 10_000] {
        let mut node = Node::new(Limits::default(), &Seeds::fixed(1));
        let now = Time::START;
        let links: Vec<_> =
            (0..sessions).map(|_| node.connect(now, IpAddr::V4(Ipv4Addr::LOCALHOST))).collect();
        for link in &links {
            node.line(now, *link, LOGIN);
        }
        flush(&mut node);
        for messages in [1, 64] {
            group.throughput(Throughput::Elements(sessions * messages));
            group.bench_function(BenchmarkId::new(format!("{messages}_a_turn"), sessions), |b| {
                b.iter(|| {
                    node.handle(now, Input::Time);
                    for _ in 0..messages {
                        node.line(now, links[0], black_box(line.as_bytes()));
                    }
                    flush(&mut node);
                });
            });
        }
    }
}

criterion_group! { name = benches; config = common::criterion(); targets = fanout }
criterion_main!(benches);
