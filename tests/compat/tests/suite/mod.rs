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

use gorun::runtime::{ThreadLocals, isolation};
use gorun_compat::kernel_thread;

pub use gorun_compat::{ISOLATED, SOME, at_once};

pub const BOTH: &[ThreadLocals] = &[ThreadLocals::Isolated, ThreadLocals::Pinned];
pub const MANY: usize = 2000;

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
