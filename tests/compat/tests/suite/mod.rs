//! The tests proper: one module for each kind of thing that believes in threads.
//!
//! Compiled into three programs, which differ in their allocator only (`glibc.rs`, `jemalloc.rs`, `mimalloc.rs`). To be
//! run with and without `GORUN_TEST_MIGRATE=1`, which makes goroutines change threads at almost every suspension. Each
//! test says in which mode its claim holds: isolated ([`at_once`] with `ISOLATED`), or `BOTH`.

mod c_library;
mod dynamic;
mod held;
mod libraries;
mod panics;
mod threads;

use gorun::runtime::{Builder, ThreadLocals, isolation};
use gorun_compat::kernel_thread;
use std::sync::Arc;

pub const ISOLATED: &[ThreadLocals] = &[ThreadLocals::Isolated];
pub const BOTH: &[ThreadLocals] = &[ThreadLocals::Isolated, ThreadLocals::Pinned];
/// For things that cost much for each goroutine.
pub const SOME: usize = 200;
pub const MANY: usize = 2000;

/// Runs `f` in `n` goroutines, none of which begins before all are there, in each of `modes`.
pub fn at_once(modes: &[ThreadLocals], n: usize, f: impl Fn(usize) + Send + Sync + 'static) {
    let f = Arc::new(f);
    for &mode in modes {
        let runtime = Builder::new().workers(4).thread_locals(mode).build().expect("this platform has it");
        let f = f.clone();
        runtime.run(move || {
            let (open, gate) = gorun::channel::<()>(0);
            let goroutines: Vec<_> = (0..n)
                .map(|i| {
                    let (f, gate) = (f.clone(), gate.clone());
                    gorun::go(move || {
                        // Each has its stack, and its thread-locals, before the first goes on.
                        assert!(gate.recv().is_err());
                        f(i);
                    })
                })
                .collect();
            for _ in 0..4 {
                gorun::yield_now();
            }
            drop(open);
            for (i, goroutine) in goroutines.into_iter().enumerate() {
                goroutine.join().unwrap_or_else(|error| panic!("goroutine {i}, {mode}: {error}"));
            }
        });
    }
}

/// Suspends, and tells whether another thread resumed the goroutine.
pub fn suspend() -> bool {
    let before = kernel_thread();
    gorun::yield_now();
    kernel_thread() != before
}

#[test]
fn there_is_isolation_to_be_tested() {
    assert_eq!(isolation(), Ok(()));
}

#[test]
fn goroutines_do_migrate_when_told_to() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    static MIGRATIONS: AtomicUsize = AtomicUsize::new(0);
    at_once(ISOLATED, MANY, |_| {
        for _ in 0..50 {
            MIGRATIONS.fetch_add(usize::from(suspend()), SeqCst);
        }
    });
    let wanted = if std::env::var_os("GORUN_TEST_MIGRATE").is_some() { MANY * 50 / 20 } else { 1 };
    assert!(MIGRATIONS.load(SeqCst) >= wanted, "{} of {}", MIGRATIONS.load(SeqCst), MANY * 50);
}
