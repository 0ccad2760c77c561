//! What timers and contexts cost. Each on a goroutine of a runtime with one worker, except where it says so.

use criterion::{Criterion, criterion_group, criterion_main};
use gorun::context::background;
use gorun::runtime::Builder;
use gorun::time::{Duration, Instant, Ticker, Timer, after, timeout};
use std::hint::black_box;

const LONG: Duration = Duration::from_secs(3600);

/// Runs `body(n)` as a goroutine of a one-worker runtime, so that its time is the time of the operation.
fn on_goroutine(iterations: u64, body: impl FnOnce(u64) -> Duration + Send) -> Duration {
    Builder::new().workers(1).build().expect("a runtime").run(|| body(iterations))
}

fn timed(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}

/// A timer that is more than a time: its channel has been asked for.
fn with_channel(timer: Timer) -> Timer {
    let _channel = timer.channel();
    timer
}

/// `n` pending timers, at times that are not in order.
fn pending(n: u64) -> Vec<Timer> {
    (0..n).map(|i| with_channel(Timer::new(LONG + Duration::from_micros(i * 7919 % 1_000_003)))).collect()
}

fn timers(c: &mut Criterion) {
    let mut group = c.benchmark_group("timer");
    for (name, others) in [("start + stop, alone", 0), ("start + stop, among a million", 1_000_000)] {
        group.bench_function(name, |b| {
            b.iter_custom(|n| {
                on_goroutine(n, |n| {
                    let others = pending(others);
                    let timer = with_channel(Timer::new(LONG));
                    let at = Instant::now() + LONG;
                    let time = timed(|| {
                        for _ in 0..n {
                            black_box(timer.reset_at(at));
                            black_box(timer.stop());
                        }
                    });
                    drop(others);
                    time
                })
            })
        });
    }
    group.bench_function("start + stop, from another thread", |b| {
        let timer = with_channel(Timer::new(LONG));
        let at = Instant::now() + LONG;
        b.iter(|| (black_box(timer.reset_at(at)), black_box(timer.stop())));
    });
    group.bench_function("reset in the middle of a million", |b| {
        b.iter_custom(|n| {
            on_goroutine(n, |n| {
                let timers = pending(1_000_000);
                let at = Instant::now() + LONG;
                timed(|| {
                    for i in 0..n {
                        let later = at + Duration::from_micros(i * 31 % 1_000_003);
                        black_box(timers[(i * 7919 % 1_000_000) as usize].reset_at(later));
                    }
                })
            })
        });
    });
    group.bench_function("new + stop, nobody asks for its channel", |b| {
        b.iter_custom(|n| {
            on_goroutine(n, |n| timed(|| (0..n).for_each(|_| _ = black_box(black_box(Timer::new(LONG)).stop()))))
        });
    });
    group.bench_function("new + channel + drop", |b| {
        b.iter_custom(|n| {
            on_goroutine(n, |n| timed(|| (0..n).for_each(|_| drop(black_box(with_channel(Timer::new(LONG)))))))
        });
    });
    group.bench_function("after + fire + receive", |b| {
        b.iter_custom(|n| {
            on_goroutine(n, |n| timed(|| (0..n).for_each(|_| _ = black_box(after(Duration::ZERO).recv()))))
        });
    });
    group.bench_function("ticker, how late a tick of 50 us is", |b| {
        b.iter_custom(|n| {
            on_goroutine(n, |n| {
                let period = Duration::from_micros(50);
                let ticker = Ticker::new(period);
                let mut late = Duration::ZERO;
                let mut last = Instant::now();
                for _ in 0..n {
                    let at = ticker.channel().recv().expect("a tick");
                    late += (at - last).saturating_sub(period);
                    last = at;
                }
                late
            })
        });
    });
    group.bench_function("timeout that is not hit", |b| {
        b.iter_custom(|n| on_goroutine(n, |n| timed(|| (0..n).for_each(|i| _ = black_box(timeout(LONG, || i))))));
    });
    group.finish();
}

fn contexts(c: &mut Criterion) {
    let mut group = c.benchmark_group("context");
    group.bench_function("with_cancel + cancel", |b| {
        let (parent, _cancel) = background().with_cancel();
        b.iter(|| black_box(parent.with_cancel()).1.cancel());
    });
    group.bench_function("with_timeout + cancel", |b| {
        b.iter_custom(|n| {
            on_goroutine(n, |n| {
                let (parent, _cancel) = background().with_cancel();
                timed(|| (0..n).for_each(|_| black_box(parent.with_timeout(LONG)).1.cancel()))
            })
        });
    });
    group.bench_function("err", |b| {
        let (ctx, _cancel) = background().with_cancel();
        b.iter(|| black_box(&ctx).err());
    });
    group.bench_function("cancel of 100,000 children, per child", |b| {
        b.iter_custom(|n| {
            const CHILDREN: u64 = 100_000;
            let mut time = Duration::ZERO;
            for _ in 0..n.div_ceil(CHILDREN) {
                let (parent, cancel) = background().with_cancel();
                let children: Vec<_> = (0..CHILDREN).map(|_| parent.with_cancel()).collect();
                time += timed(|| cancel.cancel());
                drop(children);
            }
            time.mul_f64(n as f64 / (n.div_ceil(CHILDREN) * CHILDREN) as f64)
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800));
    targets = timers, contexts
}
criterion_main!(benches);
