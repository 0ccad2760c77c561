//! What locks cost: alone, between goroutines and for those who wait long, with std's and parking_lot's beside them.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gorun::runtime::Builder;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    let lock = gorun::sync::RwLock::new(0u64);
    group.bench_function("read", |b| b.iter(|| *black_box(&lock).read()));
    group.bench_function("write", |b| b.iter(|| *black_box(&lock).write() += 1));
    let lock = std::sync::RwLock::new(0u64);
    group.bench_function("read, std", |b| b.iter(|| *black_box(&lock).read().unwrap()));
    group.bench_function("write, std", |b| b.iter(|| *black_box(&lock).write().unwrap() += 1));
    let lock = parking_lot::RwLock::new(0u64);
    group.bench_function("read, parking_lot", |b| b.iter(|| *black_box(&lock).read()));
    group.bench_function("write, parking_lot", |b| b.iter(|| *black_box(&lock).write() += 1));
    let once = gorun::sync::OnceLock::from(1u64);
    group.bench_function("once lock, get", |b| b.iter(|| *black_box(&once).get().unwrap()));
    let semaphore = gorun::sync::Semaphore::new(1);
    group.bench_function("semaphore", |b| b.iter(|| drop(black_box(&semaphore).acquire(1))));
    let pool = gorun::sync::Pool::new(|| 1u64);
    group.bench_function("pool, get and put", |b| b.iter(|| pool.put(black_box(&pool).get())));
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
        group.bench_function(format!("rwlock, one write in 10, {workers} workers"), |b| {
            b.iter_custom(|n| {
                on_goroutine(workers, || {
                    let lock = Arc::new((gorun::sync::RwLock::new(0u64), AtomicU64::new(0)));
                    of_eight(n, move || match lock.1.fetch_add(1, Ordering::Relaxed) % 10 {
                        0 => *lock.0.write() += 1,
                        _ => _ = black_box(*lock.0.read()),
                    })
                })
            });
        });
    }
    group.finish();
}

/// The lock is held over a yield: everybody else has to wait, in turn.
fn starving(c: &mut Criterion) {
    let mut group = c.benchmark_group("eight goroutines, a yield with the lock held");
    for workers in [1, 2] {
        group.bench_function(format!("mutex, {workers} workers"), |b| {
            b.iter_custom(|n| {
                on_goroutine(workers, || {
                    let mutex = Arc::new(gorun::sync::Mutex::new(0u64));
                    of_eight(n, move || {
                        let mut held = mutex.lock();
                        gorun::yield_now();
                        *held += 1;
                    })
                })
            });
        });
        group.bench_function(format!("rwlock, one write in 10, {workers} workers"), |b| {
            b.iter_custom(|n| {
                on_goroutine(workers, || {
                    let lock = Arc::new((gorun::sync::RwLock::new(0u64), AtomicU64::new(0)));
                    of_eight(n, move || match lock.1.fetch_add(1, Ordering::Relaxed) % 10 {
                        0 => {
                            let mut held = lock.0.write();
                            gorun::yield_now();
                            *held += 1;
                        }
                        _ => {
                            let held = lock.0.read();
                            gorun::yield_now();
                            black_box(*held);
                        }
                    })
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
    targets = uncontended, contended, starving
}
criterion_main!(benches);
