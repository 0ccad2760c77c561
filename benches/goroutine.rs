//! What a goroutine costs: spawn, join, switch, yield, park and ready. One question each; std's threads are no fair twin
//! here, so there is none.

#![allow(unsafe_code, reason = "claims waits")]

use criterion::{Criterion, criterion_group, criterion_main};
use gorun::runtime::Builder;
use gorun_scheduler::{Blocker, Parker, Token, WaitReason};
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
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
    group.bench_function("join, of one that has ended", |b| {
        b.iter_custom(|n| {
            on_goroutine(n, |n| {
                // A few at a time, so that all of it is in the cache.
                let mut time = Duration::ZERO;
                for begin in (0..n).step_by(64) {
                    let ended: Vec<_> = (begin..n.min(begin + 64)).map(|i| gorun::go(move || i)).collect();
                    while ended.iter().any(|goroutine| !goroutine.is_finished()) {
                        gorun::yield_now();
                    }
                    time += timed(|| ended.into_iter().for_each(|goroutine| _ = black_box(goroutine.join())));
                }
                time
            })
        });
    });
    group.bench_function("switch, a coroutine of corosensei's there and back", |b| {
        b.iter_custom(|n| {
            let mut coroutine = corosensei::Coroutine::new(move |yielder: &corosensei::Yielder<(), ()>, ()| {
                (0..n).for_each(|_| yielder.suspend(()));
            });
            timed(|| while coroutine.resume(()).as_yield().is_some() {})
        });
    });
    group.bench_function("park and ready, two wake each other", |b| b.iter_custom(|n| on_goroutine(n, park_and_ready)));
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
    group.finish();
}

/// Each is woken `n / 2` times.
fn park_and_ready(n: u64) -> Duration {
    let waiting: Arc<[AtomicPtr<Parker>; 2]> = Arc::default();
    let turns = move |me: usize, waiting: &[AtomicPtr<Parker>; 2]| {
        let blocker = Blocker::current();
        for _ in 0..n / 2 {
            blocker.arm();
            // Release, and Acquire below: one has what the other wrote before its turn ended.
            waiting[me].store(blocker.parker().as_ptr(), Ordering::Release);
            if let Some(other) = NonNull::new(waiting[1 - me].swap(std::ptr::null_mut(), Ordering::Acquire)) {
                // SAFETY: it waits, and nobody else knows of it, so it is there.
                if let Some(wake) = unsafe { Parker::claim(other, Token::DONE) } {
                    wake.wake();
                }
            }
            black_box(blocker.park(WaitReason::Other, None));
        }
        // The other one's last wait.
        if let Some(other) = NonNull::new(waiting[1 - me].swap(std::ptr::null_mut(), Ordering::Acquire)) {
            // SAFETY: as above.
            if let Some(wake) = unsafe { Parker::claim(other, Token::DONE) } {
                wake.wake();
            }
        }
    };
    timed(|| {
        let theirs = waiting.clone();
        let other = gorun::go(move || turns(1, &theirs));
        turns(0, &waiting);
        other.join().unwrap();
    })
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = goroutine
}
criterion_main!(benches);
