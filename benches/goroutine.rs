//! What a goroutine costs: spawn, join, yield, hand-over. One question each; std's threads are no fair twin here, so
//! there is none.

use criterion::{Criterion, criterion_group, criterion_main};
use gorun::runtime::Builder;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Runs `body(n)` as a goroutine of a one-worker runtime, so that its time is the time of the operation.
fn on_goroutine(iterations: u64, body: impl FnOnce(u64) -> Duration + Send) -> Duration {
    Builder::new().workers(1).build().expect("a runtime").run(|| body(iterations))
}

fn timed(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}

fn goroutine(c: &mut Criterion) {
    let mut group = c.benchmark_group("goroutine");
    group.bench_function("spawn + join", |b| {
        b.iter_custom(|n| {
            on_goroutine(n, |n| {
                timed(|| {
                    for i in 0..n {
                        black_box(gorun::go(move || i).join().unwrap());
                    }
                })
            })
        });
    });
    group.bench_function("spawn, then wait for all", |b| {
        b.iter_custom(|n| {
            on_goroutine(n, |n| {
                timed(|| {
                    let all = gorun::sync::WaitGroup::new();
                    all.add(n as usize);
                    for _ in 0..n {
                        let all = all.clone();
                        gorun::go(move || all.done());
                    }
                    all.wait();
                })
            })
        });
    });
    group.bench_function("yield, alone", |b| {
        b.iter_custom(|n| on_goroutine(n, |n| timed(|| (0..n).for_each(|_| gorun::yield_now()))));
    });
    group.bench_function("yield, two take turns", |b| {
        b.iter_custom(|n| {
            on_goroutine(n, |n| {
                timed(|| {
                    let other = gorun::go(move || (0..n / 2).for_each(|_| gorun::yield_now()));
                    (0..n / 2).for_each(|_| gorun::yield_now());
                    other.join().unwrap();
                })
            })
        });
    });
    group.bench_function("unbuffered channel, round trip", |b| {
        b.iter_custom(|n| {
            on_goroutine(n, |n| {
                let (ping, pings) = gorun::channel(0);
                let (pong, pongs) = gorun::channel(0);
                let echo = gorun::go(move || pings.iter().for_each(|v: u64| pong.send(v).unwrap()));
                let time = timed(|| {
                    for i in 0..n {
                        ping.send(i).unwrap();
                        black_box(pongs.recv().unwrap());
                    }
                });
                drop(ping);
                echo.join().unwrap();
                time
            })
        });
    });
    group.bench_function("channel of 128, per item", |b| {
        b.iter_custom(|n| {
            on_goroutine(n, |n| {
                let (tx, rx) = gorun::channel(128);
                timed(|| {
                    gorun::go(move || (0..n).for_each(|i| tx.send(i).unwrap()));
                    black_box(rx.iter().count());
                })
            })
        });
    });
    group.bench_function("mutex, uncontended", |b| {
        let mutex = gorun::sync::Mutex::new(0u64);
        b.iter(|| *mutex.lock() += 1);
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = goroutine
}
criterion_main!(benches);
