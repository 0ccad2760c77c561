//! What it costs to hand a value over: channels between goroutines of one worker, of several, and between goroutines
//! and threads, with crossbeam-channel's between plain threads beside them.

#![expect(clippy::disallowed_methods, reason = "crossbeam-channel is compared with, on plain threads")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gorun::runtime::Builder;
use std::hint::black_box;
use std::thread;
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

/// Nobody waits: the price of the lock and the buffer.
fn uncontended(c: &mut Criterion) {
    let mut group = c.benchmark_group("channel, send then receive in one place");
    let (tx, rx) = gorun::channel(1);
    group.bench_function("goroutine", |b| {
        b.iter_custom(|n| {
            on_goroutine(1, || {
                timed(|| {
                    for i in 0..n {
                        tx.send(i).unwrap();
                        black_box(rx.recv().unwrap());
                    }
                })
            })
        });
    });
    group.bench_function("thread", |b| {
        b.iter(|| {
            tx.send(1).unwrap();
            black_box(rx.recv().unwrap())
        });
    });
    let (tx, rx) = crossbeam_channel::bounded(1);
    group.bench_function("crossbeam, thread", |b| {
        b.iter(|| {
            tx.send(1).unwrap();
            black_box(rx.recv().unwrap())
        });
    });
    group.finish();
}

/// There and back without capacity, per round trip; and per hop of a ring.
fn ping_pong(c: &mut Criterion) {
    let mut group = c.benchmark_group("channel, round trip");
    for workers in [1, 2] {
        group.bench_function(format!("{workers} workers"), |b| {
            b.iter_custom(|n| {
                on_goroutine(workers, || {
                    let (tx, rx) = gorun::channel(0);
                    let (back_tx, back) = gorun::channel(0);
                    gorun::go(move || rx.iter().try_for_each(|i: u64| back_tx.send(i)));
                    timed(|| {
                        for i in 0..n {
                            tx.send(i).unwrap();
                            black_box(back.recv().unwrap());
                        }
                    })
                })
            });
        });
    }
    group.finish();
}

fn ring(c: &mut Criterion) {
    let mut group = c.benchmark_group("channel, hop in a ring of 503");
    for workers in [1, 2] {
        group.bench_function(format!("{workers} workers"), |b| {
            b.iter_custom(|n| {
                on_goroutine(workers, || {
                    let (first, mut last) = gorun::channel::<u64>(0);
                    for _ in 1..503 {
                        let (tx, rx) = gorun::channel(0);
                        let from = std::mem::replace(&mut last, rx);
                        gorun::go(move || from.iter().try_for_each(|left| tx.send(left - 1)));
                    }
                    let mut left = n + 503;
                    timed(|| {
                        while left > 503 {
                            first.send(left - 1).unwrap();
                            left = last.recv().unwrap();
                        }
                    })
                })
            });
        });
    }
    group.finish();
}

/// One sender, one receiver, per value.
fn pipe(c: &mut Criterion) {
    let mut group = c.benchmark_group("channel, one to one");
    group.throughput(Throughput::Elements(1));
    for capacity in [0, 1, 128] {
        for workers in [1, 2] {
            group.bench_function(BenchmarkId::new(format!("goroutines, {workers} workers"), capacity), |b| {
                b.iter_custom(|n| {
                    on_goroutine(workers, || {
                        let (tx, rx) = gorun::channel(capacity);
                        timed(|| {
                            gorun::go(move || (0..n).for_each(|i| tx.send(i).unwrap()));
                            black_box(rx.iter().count());
                        })
                    })
                });
            });
        }
        group.bench_function(BenchmarkId::new("threads", capacity), |b| {
            b.iter_custom(|n| {
                let (tx, rx) = gorun::channel(capacity);
                timed(|| {
                    let sender = thread::spawn(move || (0..n).for_each(|i| tx.send(i).unwrap()));
                    black_box(rx.iter().count());
                    sender.join().unwrap();
                })
            });
        });
        group.bench_function(BenchmarkId::new("crossbeam, threads", capacity), |b| {
            b.iter_custom(|n| {
                let (tx, rx) = crossbeam_channel::bounded(capacity);
                timed(|| {
                    let sender = thread::spawn(move || (0..n).for_each(|i| tx.send(i).unwrap()));
                    black_box(rx.iter().count());
                    sender.join().unwrap();
                })
            });
        });
    }
    group.finish();
}

/// Eight senders, eight receivers, per value.
fn crowd(c: &mut Criterion) {
    let mut group = c.benchmark_group("channel, eight to eight");
    group.throughput(Throughput::Elements(1));
    for capacity in [0, 128] {
        group.bench_function(BenchmarkId::new("goroutines, 2 workers", capacity), |b| {
            b.iter_custom(|n| {
                on_goroutine(2, || {
                    let (tx, rx) = gorun::channel(capacity);
                    timed(|| {
                        for _ in 0..8 {
                            let tx = tx.clone();
                            gorun::go(move || (0..n / 8).for_each(|i| tx.send(i).unwrap()));
                        }
                        drop(tx);
                        let receivers: Vec<_> = (0..8)
                            .map(|_| {
                                let rx = rx.clone();
                                gorun::go(move || rx.iter().count())
                            })
                            .collect();
                        receivers.into_iter().for_each(|r| drop(black_box(r.join())));
                    })
                })
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = uncontended, ping_pong, ring, pipe, crowd
}
criterion_main!(benches);
