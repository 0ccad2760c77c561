//! What the programs and tests of this crate and of `bindings` share: an allocator to choose, a silent panic, goroutines that all
//! live at once.

use gorun::runtime::{Builder, ThreadLocals};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The allocator of the programs in `src/bin`, by feature.
#[cfg(feature = "jemalloc")]
pub type Allocator = tikv_jemallocator::Jemalloc;
/// The allocator of the programs in `src/bin`, by feature.
#[cfg(all(feature = "mimalloc", not(feature = "jemalloc")))]
pub type Allocator = mimalloc::MiMalloc;
/// The allocator of the programs in `src/bin`, by feature.
#[cfg(not(any(feature = "mimalloc", feature = "jemalloc")))]
pub type Allocator = std::alloc::System;

/// Its value.
#[cfg(feature = "jemalloc")]
pub const ALLOCATOR: Allocator = tikv_jemallocator::Jemalloc;
/// Its value.
#[cfg(all(feature = "mimalloc", not(feature = "jemalloc")))]
pub const ALLOCATOR: Allocator = mimalloc::MiMalloc;
/// Its value.
#[cfg(not(any(feature = "mimalloc", feature = "jemalloc")))]
pub const ALLOCATOR: Allocator = std::alloc::System;

/// What panics on purpose panics with this, and is not reported.
#[derive(Debug, PartialEq, Eq)]
pub struct OnPurpose(pub u64);

/// Installs a hook that reports all panics but those on purpose, and may end the process with the first.
pub fn quiet(fatal: bool) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<OnPurpose>() {
                usual(info);
                if fatal {
                    std::process::exit(1);
                }
            }
        }));
    });
}

/// Runs `f`, which is to panic with [`OnPurpose`].
pub fn expect_panic(f: impl FnOnce()) -> u64 {
    let payload: Box<dyn Any + Send> = catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
    payload.downcast::<OnPurpose>().expect("with what was thrown").0
}

/// Where thread-locals are to be the goroutine's own.
pub const ISOLATED: &[ThreadLocals] = &[ThreadLocals::Isolated];

/// Goroutines of a test in which each costs much.
pub const SOME: usize = 200;

/// Runs `f` in `n` goroutines, none of which begins before all are there, in each of `modes`.
///
/// # Panics
/// When one of them does, or this platform has not the mode.
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

/// The kernel's number of the thread that we are on: changes when a goroutine migrates.
#[must_use]
pub fn kernel_thread() -> i32 {
    // SAFETY: no preconditions.
    unsafe { libc::gettid() }
}

/// A number in kilobytes of `/proc/self/status`, for example `VmRSS`.
#[must_use]
pub fn status_kib(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a line of it");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}
