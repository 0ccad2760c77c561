//! Substitutes for std's atomics and for `membarrier`'s fences in loom models.
//!
//! loom treats a SeqCst access as AcqRel, but supports SeqCst fences. So a fence is placed between a SeqCst store of a
//! thread and its next SeqCst load, which is what a Dekker pair of accesses relies on: it is there only if both accesses
//! are SeqCst, so a model fails if one of them is not. (It also orders the thread's other accesses around it, which the
//! language does not promise: a protocol may not rely on that.)
//!
//! The fences of `membarrier` are accesses to one location for each thread: a light fence accesses its own thread's, and a
//! heavy fence every thread's. So of a light and a heavy fence one comes first, and writes before it are visible after the
//! other; two light fences order nothing, as they are no instructions.
//!
//! What loom's search does not reach: it keeps only one last access for each atomic, so if one thread loads and another one
//! guesses by a load and then exchanges, it does not try the exchange before the first load. Models in which that matters
//! call `yield_now` there, which lets the other thread go first. And an exchange always finds the newest store.

use loom::sync::atomic::{self as inner, Ordering, fence};
use std::cell::Cell;

loom::thread_local! {
    /// A SeqCst store was made, and no fence has followed yet.
    static STORED: Cell<bool> = Cell::new(false);
}

fn before_load(order: Ordering) {
    if order == Ordering::SeqCst && STORED.with(|stored| stored.replace(false)) {
        fence(Ordering::SeqCst);
    }
}

fn after_store(order: Ordering) {
    if order == Ordering::SeqCst {
        STORED.with(|stored| stored.set(true));
    }
}

macro_rules! atomic {
    ($name:ident $(<$t:ident>)?, $value:ty $(, $($op:ident),*)?) => {
        #[derive(Debug)]
        pub(crate) struct $name$(<$t>)?(inner::$name$(<$t>)?);

        #[allow(dead_code, reason = "each is used in part")]
        impl$(<$t>)? $name$(<$t>)? {
            #[track_caller]
            pub(crate) fn new(value: $value) -> Self {
                Self(inner::$name::new(value))
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $value {
                before_load(order);
                self.0.load(order)
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.0.store(value, order);
                after_store(order);
            }

            #[track_caller]
            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                before_load(order);
                let before = self.0.swap(value, order);
                after_store(order);
                before
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                won: Ordering,
                lost: Ordering,
            ) -> Result<$value, $value> {
                before_load(won);
                let result = self.0.compare_exchange(old, new, won, lost);
                if result.is_ok() {
                    after_store(won);
                }
                result
            }

            /// A model with failures out of nothing never ends.
            #[track_caller]
            pub(crate) fn compare_exchange_weak(
                &self,
                old: $value,
                new: $value,
                won: Ordering,
                lost: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(old, new, won, lost)
            }

            $($(
                #[track_caller]
                pub(crate) fn $op(&self, value: $value, order: Ordering) -> $value {
                    before_load(order);
                    let before = self.0.$op(value, order);
                    after_store(order);
                    before
                }
            )*)?
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicU8, u8, fetch_or, fetch_and, fetch_max);
atomic!(AtomicU32, u32, fetch_add, fetch_sub, fetch_or, fetch_and);
atomic!(AtomicU64, u64, fetch_add, fetch_sub, fetch_or, fetch_and);
atomic!(AtomicUsize, usize, fetch_add, fetch_sub, fetch_max);
atomic!(AtomicPtr<T>, *mut T);

impl AtomicU32 {
    #[track_caller]
    pub(crate) fn with_mut<R>(&mut self, f: impl FnOnce(&mut u32) -> R) -> R {
        self.0.with_mut(f)
    }
}

/// `shim::Lock`, as loom's. Made at its first use, as loom has no constants: a model does that before it has other threads.
#[derive(Debug)]
pub(crate) struct ModelledLock<T> {
    first: std::sync::Mutex<Option<T>>,
    inner: std::sync::OnceLock<loom::sync::Mutex<T>>,
}

impl<T> ModelledLock<T> {
    pub(crate) const fn new(value: T) -> ModelledLock<T> {
        ModelledLock { first: std::sync::Mutex::new(Some(value)), inner: std::sync::OnceLock::new() }
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        let first = || self.first.lock().unwrap().take().expect("not made yet");
        self.inner.get_or_init(|| loom::sync::Mutex::new(first())).lock().unwrap()
    }
}

/// As many threads of a model may pass light fences.
const THREADS: usize = 3;

struct Points {
    points: [inner::AtomicU32; THREADS],
    /// loom's threads run on one.
    used: std::sync::atomic::AtomicUsize,
}

loom::lazy_static! {
    static ref POINTS: Points = Points {
        points: std::array::from_fn(|_| inner::AtomicU32::new(0)),
        used: std::sync::atomic::AtomicUsize::new(0),
    };
}

loom::thread_local! {
    // Relaxed: see `used`.
    static MINE: usize = POINTS.used.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn light() {
    MINE.with(|mine| _ = POINTS.points[*mine].fetch_add(0, Ordering::AcqRel));
}

pub(crate) fn heavy() {
    fence(Ordering::SeqCst);
    POINTS.points.iter().for_each(|point| _ = point.fetch_add(0, Ordering::AcqRel));
}

/// Runs a model, with all its interleavings of so many preemptions.
#[track_caller]
pub(crate) fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(move || {
        // Made by the first thread, so that their making orders nothing.
        let _made = POINTS.points.len();
        body();
    });
}
