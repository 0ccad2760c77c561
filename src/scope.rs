//! Goroutines that borrow from their spawner's stack, as `std::thread::scope` for threads.
//!
//! * **B1.** [`scope`] does not return, unwind or get aborted past its frame before every goroutine spawned in it
//!   has ended, exit path included: its wait is shielded from aborts. That is what makes the borrows sound.

use crate::go::Builder;
use crate::join::{AtEnd, JoinError, JoinHandle};
use crate::sync::WaitGroup;
use gorun_scheduler::{GoroutineId, SpawnError, unwind_if_ending};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Runs `f`, in which goroutines may be spawned that borrow what outlives the call; waits for all of them.
///
/// All that they did, their at-exit handlers and the drop of their storage included, happens before `scope` returns.
///
/// Works from a goroutine and from a plain thread. If the calling goroutine is aborted while it waits, it goes on waiting
/// for the goroutines of the scope and is unwound then: the end of a scope is a cancellation point. So a scope whose
/// goroutines were aborted by the end of their runtime never returns as if they had finished.
///
/// # Panics
/// If `f` panics, with its payload; if a goroutine of the scope panicked and was not joined; or in the child of a `fork`
/// inside the scope, because its goroutines do not exist there.
///
/// ```
/// let words = vec!["to", "be", "or", "not"];
/// let total = gorun::scope(|s| {
///     let halves: Vec<_> = words.chunks(2).map(|half| s.go(|| half.iter().map(|w| w.len()).sum::<usize>())).collect();
///     halves.into_iter().map(|h| h.join().unwrap()).sum::<usize>()
/// });
/// assert_eq!(total, 9);
/// ```
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let scope = Scope {
        running: WaitGroup::new(),
        process: gorun_scheduler::process(),
        panicked: Arc::new(AtomicUsize::new(0)),
        scope: PhantomData,
        env: PhantomData,
    };
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    if scope.process != gorun_scheduler::process() {
        // B1: here its goroutines never run.
        panic!("gorun::scope: this process was forked inside the scope, whose goroutines are in the parent");
    }
    // B1.
    scope.running.wait_shielded();
    match result {
        Err(payload) => resume_unwind(payload),
        // Relaxed: the wait group orders it after all the counts (B1).
        Ok(_) if scope.panicked.load(Ordering::Relaxed) != 0 => panic!("a scoped goroutine panicked"),
        Ok(value) => {
            unwind_if_ending();
            value
        }
    }
}

/// Where scoped goroutines are spawned: see [`scope`].
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    running: WaitGroup,
    /// Where its goroutines run.
    process: u64,
    panicked: Arc<AtomicUsize>,
    /// Invariant, as in std: `'scope` must not shrink.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// What a scoped goroutine runs.
struct Body<F, T> {
    f: F,
    slot: Slot<T>,
    panicked: Arc<AtomicUsize>,
}

/// Where the value, or the panic, is left for the handle. Not in the control block, which outlives the scope.
type Slot<T> = Arc<Mutex<Option<std::thread::Result<T>>>>;

/// Says that the goroutine has ended, however it did: dropped after its exit path.
#[derive(Debug)]
struct Ended(WaitGroup);

impl AtEnd for Ended {
    const FOREIGN: bool = false;
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.done();
    }
}

impl<F: FnOnce() -> T, T> Body<F, T> {
    fn run(self) {
        let result = match catch_unwind(AssertUnwindSafe(self.f)) {
            Err(payload) if !gorun_scheduler::is_panic(&*payload) => resume_unwind(payload),
            Err(payload) => {
                // Relaxed: it comes before `Ended`'s count down, which `scope` waits for.
                self.panicked.fetch_add(1, Ordering::Relaxed);
                Err(payload)
            }
            value => value,
        };
        let Body { slot, panicked, .. } = self;
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        // If nobody joins the goroutine any more its value goes here, and that is a user's drop.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(slot))) {
            panicked.fetch_add(usize::from(gorun_scheduler::is_panic(&*payload)), Ordering::Relaxed); // as above
            resume_unwind(payload);
        }
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a goroutine that may borrow what outlives the scope.
    ///
    /// # Panics
    /// As [`gorun::go`](crate::go).
    ///
    /// ```
    /// let mut numbers = [1, 2, 3];
    /// gorun::scope(|s| {
    ///     for n in &mut numbers {
    ///         s.go(move || *n *= 10);
    ///     }
    /// });
    /// assert_eq!(numbers, [10, 20, 30]);
    /// ```
    #[track_caller]
    pub fn go<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        match self.spawn(Builder::new(), f) {
            Ok(handle) => handle,
            Err(error) => panic!("gorun::Scope::go: {error}"),
        }
    }

    /// As [`Scope::go`], with a name or a stack size.
    ///
    /// # Errors
    /// As [`Builder::go`].
    ///
    /// # Panics
    /// As [`Builder::go`].
    ///
    /// ```
    /// let text = String::from("borrowed");
    /// let length = gorun::scope(|s| {
    ///     let named = s.spawn(gorun::Builder::new().name("length"), || text.len())?;
    ///     Ok::<usize, gorun::SpawnError>(named.join().unwrap())
    /// });
    /// assert_eq!(length, Ok(8));
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, builder: Builder, f: F) -> Result<ScopedJoinHandle<'scope, T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        if self.process != gorun_scheduler::process() {
            // B1: the scope does not wait in a child that was forked inside it, so nothing may begin there.
            return Err(SpawnError::Forked);
        }
        self.running.add(1);
        let slot: Slot<T> = Arc::new(Mutex::new(None));
        let body = Body { f, slot: slot.clone(), panicked: self.panicked.clone() };
        // Without a goroutine it is dropped here, and counts down all the same.
        let ended = Ended(self.running.clone());
        // SAFETY: F and T are Send. B1: the scope outlives `body`, all of it, and `ended`: what follows in the goroutine
        // is a unit result that borrows nothing.
        let handle = unsafe { builder.spawn_until(None, move || body.run(), ended) }?;
        Ok(ScopedJoinHandle { handle: Some(handle), slot, panicked: self.panicked.clone(), scope: PhantomData })
    }
}

/// A scoped goroutine's owner.
#[derive(Debug)]
pub struct ScopedJoinHandle<'scope, T> {
    handle: Option<JoinHandle<()>>,
    slot: Slot<T>,
    panicked: Arc<AtomicUsize>,
    scope: PhantomData<&'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the goroutine and gives its result.
    ///
    /// # Errors
    /// [`JoinError`] if it panicked, was aborted, or called [`goexit`](crate::goexit).
    ///
    /// # Panics
    /// Never.
    ///
    /// ```
    /// let sum = gorun::scope(|s| s.go(|| 1 + 1).join().unwrap());
    /// assert_eq!(sum, 2);
    /// ```
    pub fn join(mut self) -> Result<T, JoinError> {
        let mut handle = self.handle.take().expect("joined once");
        handle.join_shielded()?;
        let result = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.expect("a goroutine that returned has left its value").map_err(|payload| {
            // The caller has it now, so `scope` need not panic for it. Relaxed: `scope` runs after us or does not
            // count on us.
            self.panicked.fetch_sub(1, Ordering::Relaxed);
            JoinError::panicked(&handle, payload)
        })
    }

    /// Asks it to end: see [`JoinHandle::abort`].
    ///
    /// ```
    /// gorun::scope(|s| {
    ///     let stuck = s.go(|| gorun::time::sleep(std::time::Duration::from_secs(3600)));
    ///     stuck.abort();
    ///     assert!(stuck.join().unwrap_err().is_aborted());
    /// });
    /// ```
    pub fn abort(&self) {
        if let Some(handle) = &self.handle {
            handle.abort();
        }
    }

    /// Returns true if it has ended.
    ///
    /// ```
    /// gorun::scope(|s| {
    ///     let (go_on, goes_on) = gorun::channel::<()>(0);
    ///     let waits = s.go(move || goes_on.recv().unwrap_err());
    ///     assert!(!waits.is_finished());
    ///     drop(go_on);
    /// });
    /// ```
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Its number, while it has not been joined.
    ///
    /// ```
    /// gorun::scope(|s| {
    ///     let handle = s.go(gorun::id);
    ///     let id = handle.id();
    ///     assert_eq!(Some(handle.join().unwrap()), id);
    /// });
    /// ```
    #[must_use]
    pub fn id(&self) -> Option<GoroutineId> {
        self.handle.as_ref().map(JoinHandle::id)
    }
}
