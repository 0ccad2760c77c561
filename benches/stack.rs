//! What a stack costs: taken from those kept warm or new from the arena, its pages touched for the first time or again.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use gorun::runtime::Builder;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Frames of so many bytes.
const DEPTHS: [usize; 3] = [1 << 10, 16 << 10, 48 << 10];

/// Calls itself until it has used so much of the stack.
#[inline(never)]
fn descend(bytes: usize) -> u64 {
    let frame = black_box([bytes as u64; 64]);
    match bytes.checked_sub(size_of_val(&frame)) {
        Some(rest) => frame[1] ^ descend(rest),
        None => frame[0],
    }
}

/// `n` goroutines, one after the other, each of which goes so deep; `warm` stacks are kept.
fn one_after_the_other(n: u64, warm: usize, bytes: usize) -> Duration {
    let runtime = Builder::new().workers(1).warm_stacks(warm).idle_stacks(Duration::ZERO).build().expect("a runtime");
    runtime.run(move || {
        let start = Instant::now();
        for _ in 0..n {
            black_box(gorun::go(move || descend(bytes)).join().unwrap());
        }
        start.elapsed()
    })
}

fn stack(c: &mut Criterion) {
    let mut group = c.benchmark_group("spawn, go so many bytes deep, join");
    for bytes in DEPTHS {
        group.bench_function(BenchmarkId::new("reuse: the pages are there", bytes), |b| {
            b.iter_custom(|n| one_after_the_other(n, 256, bytes));
        });
        group.bench_function(BenchmarkId::new("first touch: a stack that has no pages", bytes), |b| {
            b.iter_custom(|n| one_after_the_other(n, 0, bytes));
        });
    }
    group.finish();
}

fn grow(c: &mut Criterion) {
    let mut group = c.benchmark_group("grow, go so many bytes deep, come back");
    for bytes in DEPTHS {
        group.bench_function(BenchmarkId::from_parameter(bytes), |b| {
            b.iter_custom(|n| {
                Builder::new().workers(1).build().expect("a runtime").run(|| {
                    let start = Instant::now();
                    for _ in 0..n {
                        black_box(gorun::grow(64 << 10, || descend(bytes)));
                    }
                    start.elapsed()
                })
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = stack, grow
}
criterion_main!(benches);
