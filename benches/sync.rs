//! What locks cost: alone, between goroutines and for those who wait long, with std's and parking_lot's beside them.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gorun::runtime::Builder;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs `body` as a goroutine of a runtime with that many workers.
fn on_goroutine(workers: usize, body: impl FnOnce() -> Duration + Send) -> Duration {
    Builder::new().workers(workers).build().expect("a runtime").run(body)
}

fn timed(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}

/// `n` turns in all of `turn`, on eight goroutines.
fn of_eight(n: u64, turn: impl Fn() + Clone + Send + 'static) -> Duration {
    timed(|| {
        let each = n / 8 + 1;
        let goroutines: Vec<_> = (0..8)
            .map(|_| {
                let turn = turn.clone();
                gorun::go(move || (0..each).for_each(|_| turn()))
            })
            .collect();
        goroutines.into_iter().for_each(|g| g.join().unwrap());
    })
}

fn uncontended(c: &mut Criterion) {
    let mut group = c.benchmark_group("uncontended, lock and unlock");
    let mutex = gorun::sync::Mutex::new(0u64);
    group.bench_function("mutex", |b| b.iter(|| *black_box(&mutex).lock() += 1));
    let mutex = std::sync::Mutex::new(0u64);
    group.bench_function("mutex, std", |b| b.iter(|| *black_box(&mutex).lock().unwrap() += 1));
    let mutex = parking_lot::Mutex::new(0u64);
    group.bench_function("mutex, parking_lot", |b| b.iter(|| *black_box(&mutex).lock() += 1));
    group.finish();
}

/// Eight goroutines that do nothing but lock and unlock.
fn contended(c: &mut Criterion) {
    let mut group = c.benchmark_group("eight goroutines, lock and unlock");
    group.throughput(Throughput::Elements(1));
    for workers in [1, 2] {
        group.bench_function(format!("mutex, {workers} workers"), |b| {
            b.iter_custom(|n| {
                on_goroutine(workers, || {
                    let mutex = Arc::new(gorun::sync::Mutex::new(0u64));
                    of_eight(n, move || *mutex.lock() += 1)
                })
            });
        });
        group.bench_function(format!("mutex, parking_lot, {workers} workers"), |b| {
            b.iter_custom(|n| {
                on_goroutine(workers, || {
                    let mutex = Arc::new(parking_lot::Mutex::new(0u64));
                    of_eight(n, move || *mutex.lock() += 1)
                })
            });
        });
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800))
}

criterion_group! {
    name = benches;
    config = quick();
    targets = uncontended, contended
}
criterion_main!(benches);
