//! What a select costs, by the number of its arms: one that is ready, all ready, none (and it waits), and a poll.
//!
//! "Fed" is the workload of the peers' `select2` and `select8`: a goroutine per channel sends, one selects.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use gorun::select::Select;
use gorun::{Receiver, Sender, channel, select};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Runs `body` as a goroutine of a runtime with that many workers.
fn on_goroutine(workers: usize, body: impl FnOnce() -> Duration + Send) -> Duration {
    gorun::runtime::Builder::new().workers(workers).build().expect("a runtime").run(body)
}

fn timed(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}

fn channels(count: usize, capacity: usize) -> (Vec<Sender<u64>>, Vec<Receiver<u64>>) {
    (0..count).map(|_| channel(capacity)).unzip()
}

macro_rules! of {
    (2, $r:expr $(, $default:tt)?) => { of!(@ $r; [0 1] $($default)?) };
    (8, $r:expr $(, $default:tt)?) => { of!(@ $r; [0 1 2 3 4 5 6 7] $($default)?) };
    (@ $r:expr; [$($i:literal)*] $($default:tt)?) => {
        select! { $(recv($r[$i]) -> v => v.is_ok(),)* $($default => false,)? }
    };
}

fn once(r: &[Receiver<u64>]) -> bool {
    if r.len() == 2 { of!(2, r) } else { of!(8, r) }
}

/// A set, for as many as a macro is not written for.
fn once_in_set(set: &mut Select<'_>, r: &[Receiver<u64>]) -> bool {
    let operation = set.select();
    let index = operation.index();
    operation.recv(&r[index]).is_ok()
}

fn ready(c: &mut Criterion) {
    let mut group = c.benchmark_group("select, ready");
    for arms in [2, 8] {
        for all in [false, true] {
            let name = if all { "all" } else { "one" };
            group.bench_function(BenchmarkId::new(name, arms), |b| {
                b.iter_custom(|n| {
                    on_goroutine(1, || {
                        let (s, r) = channels(arms, 4);
                        s.iter().take(if all { arms } else { 1 }).for_each(|s| s.send(0).unwrap());
                        timed(|| {
                            for _ in 0..n {
                                // What is taken is put back, so that it stays as it is: the price of a send included.
                                black_box(once(&r));
                                if all {
                                    s.iter().find(|s| s.is_empty()).unwrap().send(0).unwrap();
                                } else {
                                    s[0].send(0).unwrap();
                                }
                            }
                        })
                    })
                });
            });
        }
    }
    for arms in [2, 8, 64] {
        group.bench_function(BenchmarkId::new("one, in a set", arms), |b| {
            b.iter_custom(|n| {
                on_goroutine(1, || {
                    let (s, r) = channels(arms, 1);
                    let mut set = Select::new();
                    r.iter().for_each(|r| _ = set.recv(r));
                    timed(|| {
                        for _ in 0..n {
                            s[0].send(0).unwrap();
                            black_box(once_in_set(&mut set, &r));
                        }
                    })
                })
            });
        });
    }
    group.finish();
}

fn none(c: &mut Criterion) {
    let mut group = c.benchmark_group("select, none ready, default");
    for arms in [2, 8] {
        let (_s, r) = channels(arms, 1);
        group.bench_function(BenchmarkId::from_parameter(arms), |b| {
            b.iter(|| if arms == 2 { of!(2, r, default) } else { of!(8, r, default) });
        });
    }
    group.finish();
}

fn fed(c: &mut Criterion) {
    let mut group = c.benchmark_group("select, fed");
    for workers in [1, 2] {
        for arms in [2, 8] {
            group.bench_function(BenchmarkId::new(format!("{workers} workers"), arms), |b| {
                b.iter_custom(|n| {
                    on_goroutine(workers, || {
                        let (s, r) = channels(arms, 0);
                        let each = n / arms as u64 + 1;
                        for s in s {
                            gorun::go(move || (0..each).try_for_each(|i| s.send(i)));
                        }
                        timed(|| {
                            for _ in 0..n {
                                black_box(once(&r));
                            }
                        })
                    })
                });
            });
        }
    }
    group.finish();
}

/// There and back, the select always waiting: a round trip of two hand-overs.
fn blocked(c: &mut Criterion) {
    let mut group = c.benchmark_group("select, blocked, round trip");
    for arms in [2, 8, 64] {
        group.bench_function(BenchmarkId::from_parameter(arms), |b| {
            b.iter_custom(|n| {
                on_goroutine(1, || {
                    let (s, r) = channels(arms, 0);
                    let (back_tx, back) = channel(0);
                    gorun::go(move || {
                        let mut set = Select::new();
                        r.iter().for_each(|r| _ = set.recv(r));
                        loop {
                            let more = if arms == 64 { once_in_set(&mut set, &r) } else { once(&r) };
                            if !more || back_tx.send(()).is_err() {
                                break;
                            }
                        }
                    });
                    timed(|| {
                        for i in 0..n {
                            s[i as usize % arms].send(i).unwrap();
                            back.recv().unwrap();
                        }
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
    targets = ready, none, fed, blocked
}
criterion_main!(benches);
