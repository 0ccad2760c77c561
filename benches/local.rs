//! What goroutine-local storage costs, beside std's `thread_local!`, tokio's `task_local!` and may's `coroutine_local!`
//! (Go's context values are in benches/peers); and what the exit path costs, patched and not. With the optimisations of the
//! bench profile; `cargo bench --profile release --bench local` tells what a release build without them has.

#![allow(unsafe_code, reason = "may's spawn is unsafe")]

use criterion::{Criterion, criterion_group, criterion_main};
use gorun::runtime::{Builder, ThreadLocals};
use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

gorun::goroutine_local! {
    static GOROUTINE: Cell<u64> = const { Cell::new(0) };
}

gorun::goroutine_local! {
    #[inherit]
    static INHERITED: Cell<u64> = const { Cell::new(0) };
}

thread_local! {
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

tokio::task_local! {
    static TASK: Cell<u64>;
}

may::coroutine_local!(static COROUTINE: Cell<u64> = Cell::new(0));

fn on_task(body: impl FnOnce()) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(TASK.scope(Cell::new(1), async {
        let start = Instant::now();
        body();
        start.elapsed()
    }))
}

fn on_coroutine(body: impl FnOnce() + Send + 'static) -> Duration {
    let timed = move || {
        let start = Instant::now();
        body();
        start.elapsed()
    };
    // SAFETY: it is as deep as a closure and a loop, and touches no thread-local.
    unsafe { may::coroutine::spawn(timed) }.join().expect("it does not panic")
}

fn on_goroutine(body: impl FnOnce() + Send) -> Duration {
    on_runtime(Builder::new(), body)
}

fn on_pinned(body: impl FnOnce() + Send) -> Duration {
    on_runtime(Builder::new().thread_locals(ThreadLocals::Pinned), body)
}

fn on_runtime(builder: Builder, body: impl FnOnce() + Send) -> Duration {
    builder.workers(1).build().expect("a runtime").run(|| on_thread(body))
}

fn on_thread(body: impl FnOnce()) -> Duration {
    let start = Instant::now();
    body();
    start.elapsed()
}

fn get(n: u64) {
    GOROUTINE.set(1);
    (0..n).for_each(|_| {
        black_box(GOROUTINE.get());
    });
}

fn set(n: u64) {
    (0..n).for_each(|i| GOROUTINE.set(black_box(i)));
}

fn access(c: &mut Criterion) {
    let mut group = c.benchmark_group("local");
    group.bench_function("typed get", |b| {
        b.iter_custom(|n| on_goroutine(|| get(n)));
    });
    group.bench_function("std thread_local get", |b| {
        b.iter_custom(|n| {
            on_goroutine(|| {
                (0..n).for_each(|_| {
                    black_box(THREAD.get());
                })
            })
        });
    });
    group.bench_function("typed set", |b| {
        b.iter_custom(|n| on_goroutine(|| set(n)));
    });
    group.bench_function("typed get, pinned", |b| b.iter_custom(|n| on_pinned(|| get(n))));
    group.bench_function("typed set, pinned", |b| b.iter_custom(|n| on_pinned(|| set(n))));
    group.bench_function("typed get, plain thread", |b| b.iter_custom(|n| on_thread(|| get(n))));
    group.bench_function("typed set, plain thread", |b| b.iter_custom(|n| on_thread(|| set(n))));
    group.bench_function("std thread_local set", |b| {
        b.iter_custom(|n| on_goroutine(|| (0..n).for_each(|i| THREAD.set(black_box(i)))));
    });
    group.bench_function("tokio task_local get", |b| {
        b.iter_custom(|n| {
            on_task(|| {
                (0..n).for_each(|_| {
                    black_box(TASK.with(Cell::get));
                })
            })
        });
    });
    group.bench_function("tokio task_local set", |b| {
        b.iter_custom(|n| on_task(|| (0..n).for_each(|i| TASK.with(|cell| cell.set(black_box(i))))));
    });
    group.bench_function("may coroutine_local get", |b| {
        b.iter_custom(|n| {
            on_coroutine(move || {
                (0..n).for_each(|_| {
                    black_box(COROUTINE.with(Cell::get));
                })
            })
        });
    });
    group.bench_function("may coroutine_local set", |b| {
        b.iter_custom(|n| on_coroutine(move || (0..n).for_each(|i| COROUTINE.with(|cell| cell.set(black_box(i))))));
    });
    group.bench_function("dynamic get", |b| {
        b.iter_custom(|n| {
            on_goroutine(|| {
                gorun::local::set(1u32, 7u64);
                (0..n).for_each(|_| {
                    black_box(gorun::local::get::<u32, u64>(&1));
                });
            })
        });
    });
    group.bench_function("dynamic set", |b| {
        b.iter_custom(|n| on_goroutine(|| (0..n).for_each(|i| gorun::local::set(1u32, i))));
    });
    group.bench_function("typed, first use in a goroutine that gave it up", |b| {
        b.iter_custom(|n| {
            on_goroutine(|| {
                (0..n).for_each(|i| {
                    GOROUTINE.set(black_box(i));
                    gorun::local::reset();
                });
            })
        });
    });
    group.bench_function("dynamic, first use and its end", |b| {
        b.iter_custom(|n| {
            on_goroutine(|| {
                (0..n).for_each(|i| {
                    gorun::local::set(1u32, i);
                    black_box(gorun::local::del(&1u32));
                });
            })
        });
    });
    group.finish();
}

fn spawn_each(n: u64, f: fn()) -> Duration {
    on_goroutine(|| (0..n).for_each(|_| gorun::go(f).join().unwrap()))
}

fn exit_path(c: &mut Criterion) {
    let mut group = c.benchmark_group("spawn + join");
    group.bench_function("bare exit", |b| b.iter_custom(|n| spawn_each(n, || ())));
    group.bench_function("cleaning exit, one value", |b| b.iter_custom(|n| spawn_each(n, || GOROUTINE.set(1))));
    group.bench_function("cleaning exit, one handler", |b| {
        b.iter_custom(|n| spawn_each(n, || gorun::at_exit(|| ())));
    });
    group.bench_function("one value inherited", |b| {
        b.iter_custom(|n| {
            on_goroutine(|| {
                INHERITED.set(1);
                (0..n).for_each(|_| gorun::go(|| ()).join().unwrap());
            })
        });
    });
    group.bench_function("patched and patched back", |b| {
        b.iter_custom(|n| {
            spawn_each(n, || {
                GOROUTINE.set(1);
                gorun::local::unload();
            })
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = access, exit_path
}
criterion_main!(benches);
