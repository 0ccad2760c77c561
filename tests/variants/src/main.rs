//! Runs goroutines that allocate and hold a thread-local over waits, and prints which mode they had.

use gorun::runtime::{Builder, ThreadLocals};
use std::cell::Cell;

#[cfg(feature = "rpmalloc")]
#[global_allocator]
static GLOBAL: rpmalloc::RpMalloc = rpmalloc::RpMalloc;

thread_local! {
    static MINE: Cell<usize> = const { Cell::new(0) };
}

fn main() {
    if std::env::args().nth(1).is_some_and(|what| what == "goexit") {
        gorun::run(|| drop(gorun::go(|| gorun::goexit()).join()));
        return;
    }
    let mode = Builder::new().build().expect("a runtime").thread_locals();
    gorun::run(|| {
        // Left when `run` ends: one that waits, and one that does not.
        let (keep, wait) = gorun::channel::<()>(0);
        gorun::go(move || wait.recv());
        gorun::go(|| {
            loop {
                gorun::yield_now();
            }
        });
        std::mem::forget(keep);
        for _ in 0..3 {
            let handles: Vec<_> = (1..=1000).map(|n| gorun::go(move || work(n, mode))).collect();
            for (n, handle) in (1..).zip(handles) {
                assert_eq!(handle.join().expect("it does not panic"), 20 * n + 10 * 19);
            }
        }
    });
    println!("{mode}");
}

fn work(n: usize, mode: ThreadLocals) -> usize {
    let isolated = mode == ThreadLocals::Isolated;
    assert!(MINE.replace(n) == 0 || !isolated, "fresh");
    let mut kept = Vec::new();
    for i in 0..20 {
        kept.push(Box::new(n + i));
        gorun::yield_now();
        assert!(MINE.get() == n || !isolated, "its own");
    }
    kept.iter().map(|value| **value).sum()
}
