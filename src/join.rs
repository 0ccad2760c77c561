//! The value side of a goroutine: its closure and its result in the control block's payload, and the handle.
//!
//! Used by `go`, `scope` and `runtime`. The scheduler sees three function pointers ([`Entry`]) and bytes.
//!
//! * **J1.** The payload is a `Stage<F, T, E>`: `f` from spawn until [`run`](Packet::run)/[`cancel`](Packet::cancel)
//!   takes it, `result` from then until it is taken or dropped. It lies inline if it fits, else behind a box whose
//!   pointer lies inline.
//! * **J2.** The result is taken or dropped once: by the handle if it sees the completion, by the goroutine if the
//!   handle was detached before (`gorun_scheduler::Completion`, C3).
//! * **J3.** `end` is dropped after the exit path and before the result is published, once; or with `f`, after it, if
//!   there is no goroutine. Its type is `()` where nobody asks for it.

use gorun_scheduler::{Entry, GoroutineId, Handle, PAYLOAD, Token, Unwound, WaitReason, classify, polled_in_vain};
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, align_of, needs_drop, size_of};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll};
use std::time::Instant;

/// How a goroutine ended, if not by returning.
pub(crate) enum End {
    Panic(Payload),
    Goexit,
    Aborted,
}

/// A panic's payload. A shared reference gives access only to its text.
pub(crate) struct Payload(Box<dyn Any + Send>);

// SAFETY: through `&Payload` the value is asked for its type, which touches none of it, and is looked at if it is a
// `&'static str` or a `String`, which are Sync. Everything else takes it by value.
unsafe impl Sync for Payload {}

impl Payload {
    pub(crate) fn into_inner(self) -> Box<dyn Any + Send> {
        self.0
    }

    fn text(&self) -> Option<&str> {
        let text = self.0.downcast_ref::<&'static str>().copied();
        text.or_else(|| self.0.downcast_ref::<String>().map(String::as_str))
    }
}

impl End {
    pub(crate) fn panic(payload: Box<dyn Any + Send>) -> End {
        End::Panic(Payload(payload))
    }

    /// Says on standard error who panicked, of a goroutine that nobody joins. The panic hook has said where, but knows the
    /// goroutine as a thread without a name, or by its worker's.
    fn report(&self, g: &Handle) {
        use std::io::Write;
        let End::Panic(payload) = self else { return };
        let name = g.name().map(|name| format!(" {name:?}")).unwrap_or_default();
        let text = payload.text().map(|text| format!(": {text}")).unwrap_or_default();
        let (id, site) = (g.id(), g.spawned_at());
        let _ = writeln!(
            std::io::stderr(),
            "gorun: goroutine {id}{name}, spawned at {site}, panicked, and nobody joins it{text}"
        );
    }
}

pub(crate) type Outcome<T> = Result<T, End>;

/// What is dropped when a goroutine has ended (J3).
pub(crate) trait AtEnd {
    /// True if its drop may run somebody else's code, which may store something.
    const FOREIGN: bool;
}

impl AtEnd for () {
    const FOREIGN: bool = false;
}

#[repr(C)]
struct Stage<F, T, E> {
    act: Act<F, T>,
    end: ManuallyDrop<E>,
}

#[repr(C)]
union Act<F, T> {
    f: ManuallyDrop<F>,
    result: ManuallyDrop<Outcome<T>>,
}

/// The entry points for one set of types.
struct Packet<F, T, E>(PhantomData<(F, T, E)>);

impl<F: FnOnce() -> T, T, E: AtEnd> Packet<F, T, E> {
    const INLINE: bool = size_of::<Stage<F, T, E>>() <= PAYLOAD && align_of::<Stage<F, T, E>>() <= 16;
    const ENTRY: &'static Entry = &Entry {
        run: Self::run,
        cancel: Self::cancel,
        ended: if needs_drop::<E>() { Some(Self::ended) } else { None },
        drop_result: Self::drop_result,
    };

    /// # Safety
    /// J1.
    unsafe fn stage(payload: *mut u8) -> *mut Stage<F, T, E> {
        if Self::INLINE {
            payload.cast()
        } else {
            // SAFETY: J1: the pointer written by `write`.
            unsafe { *payload.cast::<*mut Stage<F, T, E>>() }
        }
    }

    /// # Safety
    /// The payload is uninitialised, PAYLOAD bytes, 16-aligned.
    unsafe fn write(payload: *mut u8, f: F, end: E) {
        let stage = Stage { act: Act { f: ManuallyDrop::new(f) }, end: ManuallyDrop::new(end) };
        // SAFETY: by the caller, and it fits (INLINE); a pointer always does.
        unsafe {
            if Self::INLINE {
                payload.cast::<Stage<F, T, E>>().write(stage);
            } else {
                payload.cast::<*mut Stage<F, T, E>>().write(Box::into_raw(Box::new(stage)));
            }
        }
    }

    unsafe fn run(payload: *mut u8) {
        // SAFETY: J1: the closure is there, and is taken out here, once.
        let (stage, f) = unsafe {
            let stage = Self::stage(payload);
            (stage, ManuallyDrop::take(&mut (*stage).act.f))
        };
        let outcome = match catch_unwind(AssertUnwindSafe(f)) {
            Ok(value) => Ok(value),
            Err(payload) => Err(match classify(payload) {
                Unwound::Panic(payload) => {
                    gorun_scheduler::note_panic();
                    End::panic(payload)
                }
                Unwound::Goexit => End::Goexit,
                Unwound::Aborted => End::Aborted,
            }),
        };
        // SAFETY: J1: the place of the closure, which is gone.
        unsafe { (&raw mut (*stage).act.result).write(ManuallyDrop::new(outcome)) };
    }

    unsafe fn cancel(payload: *mut u8) {
        // SAFETY: as in `run`.
        let (stage, f) = unsafe {
            let stage = Self::stage(payload);
            (stage, ManuallyDrop::take(&mut (*stage).act.f))
        };
        let outcome = match catch_unwind(AssertUnwindSafe(move || drop(f))) {
            Ok(()) => End::Aborted,
            Err(payload) => End::panic(payload),
        };
        // SAFETY: as in `run`.
        unsafe { (&raw mut (*stage).act.result).write(ManuallyDrop::new(Err(outcome))) };
    }

    unsafe fn ended(payload: *mut u8) -> bool {
        // SAFETY: J3.
        unsafe { ManuallyDrop::drop(&mut (*Self::stage(payload)).end) };
        E::FOREIGN
    }

    unsafe fn drop_result(payload: *mut u8) -> bool {
        // SAFETY: J2.
        let outcome = unsafe { take_result::<F, T, E>(payload) };
        // Not asked for before there is an error: a handle of one's own is two locked exchanges.
        if let Err(end) = &outcome
            && let Some(g) = gorun_scheduler::current_goroutine()
        {
            end.report(&g);
        }
        // A box goes back to an allocator, which may be anybody's.
        outcome.is_err() || needs_drop::<T>() || !Self::INLINE
    }
}

/// # Safety
/// J2: the result is there and the caller's.
unsafe fn take_result<F: FnOnce() -> T, T, E: AtEnd>(payload: *mut u8) -> Outcome<T> {
    // SAFETY: by the caller; a box is freed together with its stage, which has nothing left to drop (J3).
    unsafe {
        let stage = Packet::<F, T, E>::stage(payload);
        // By its parts: as a whole it would be read in larger pieces than it was written in just before, which a processor's
        // store buffer can't answer.
        let result: &Outcome<T> = &(*stage).act.result;
        let outcome = match result {
            Ok(value) => Ok(ptr::read(value)),
            Err(end) => Err(ptr::read(end)),
        };
        if !Packet::<F, T, E>::INLINE {
            drop(Box::from_raw(stage));
        }
        outcome
    }
}

/// The entry and the writer for `f` and `end` (J3), to be given to a spawn.
///
/// # Safety
/// The closure, its result and `end` are used on other threads, and for as long as the goroutine lives: the caller
/// answers for `Send` and for the lifetimes. The drop of `end` does not unwind.
pub(crate) unsafe fn erase<F: FnOnce() -> T, T, E: AtEnd>(
    f: F,
    end: E,
) -> (&'static Entry, impl FnOnce(*mut u8), Take<T>) {
    let both = (f, end);
    let write = move |payload| {
        // As a whole: two captures would be dropped in an order that is not ours to choose (J3).
        let both = both;
        // SAFETY: the scheduler hands us an empty payload.
        unsafe { Packet::<F, T, E>::write(payload, both.0, both.1) }
    };
    (Packet::<F, T, E>::ENTRY, write, take_result::<F, T, E>)
}

/// Takes the result out of a payload.
pub(crate) type Take<T> = unsafe fn(*mut u8) -> Outcome<T>;

/// Why a goroutine gave no value.
pub struct JoinError {
    id: GoroutineId,
    name: Option<Box<str>>,
    end: End,
}

impl JoinError {
    /// For a goroutine whose panic was caught on the way (`scope`).
    pub(crate) fn panicked(handle: &JoinHandle<()>, payload: Box<dyn Any + Send>) -> JoinError {
        JoinError { id: handle.id(), name: handle.name().map(Into::into), end: End::panic(payload) }
    }

    /// It panicked.
    ///
    /// ```
    /// let failed = gorun::go(|| -> () { panic!("no") });
    /// assert!(failed.join().unwrap_err().is_panic());
    /// ```
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.end, End::Panic(_))
    }

    /// It was aborted, by [`JoinHandle::abort`] or by its runtime's shutdown.
    ///
    /// ```
    /// let stuck = gorun::go(|| gorun::time::sleep(std::time::Duration::from_secs(3600)));
    /// stuck.abort();
    /// assert!(stuck.join().unwrap_err().is_aborted());
    /// ```
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        matches!(self.end, End::Aborted)
    }

    /// It ended itself with [`goexit`](crate::goexit).
    ///
    /// ```
    /// assert!(gorun::go(|| -> () { gorun::goexit() }).join().unwrap_err().is_goexit());
    /// ```
    #[must_use]
    pub fn is_goexit(&self) -> bool {
        matches!(self.end, End::Goexit)
    }

    /// What it panicked with.
    ///
    /// # Errors
    /// Gives the error back if it did not panic.
    ///
    /// ```
    /// let failed = gorun::go(|| -> () { std::panic::panic_any(7) });
    /// let payload = failed.join().unwrap_err().into_panic().unwrap();
    /// assert_eq!(payload.downcast_ref(), Some(&7));
    /// ```
    pub fn into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self.end {
            End::Panic(payload) => Ok(payload.into_inner()),
            _ => Err(self),
        }
    }

    /// Which goroutine.
    ///
    /// ```
    /// let ended = gorun::go(|| -> () { gorun::goexit() });
    /// let id = ended.id();
    /// assert_eq!(ended.join().unwrap_err().id(), id);
    /// ```
    #[must_use]
    pub fn id(&self) -> GoroutineId {
        self.id
    }

    fn panic_text(&self) -> Option<&str> {
        let End::Panic(payload) = &self.end else { return None };
        payload.text()
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "goroutine {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        match (&self.end, self.panic_text()) {
            (End::Panic(_), Some(text)) => write!(f, " panicked: {text}"),
            (End::Panic(_), None) => write!(f, " panicked"),
            (End::Goexit, _) => write!(f, " ended itself with goexit"),
            (End::Aborted, _) => write!(f, " was aborted"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {}

/// A goroutine's owner: joins, awaits or aborts it. Dropping it lets the goroutine go on by itself; if it panics then, a
/// line on standard error says which goroutine it was.
pub struct JoinHandle<T> {
    /// Taken out when it is dropped.
    handle: ManuallyDrop<Handle>,
    take: Option<Take<T>>,
}

// SAFETY: the handle is Send and Sync; a `T` is only ever taken out by value through `&mut self` or `self`.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: as above; `&JoinHandle` gives no access to the `T`.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> Unpin for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    pub(crate) fn new(handle: Handle, take: Take<T>) -> JoinHandle<T> {
        JoinHandle { handle: ManuallyDrop::new(handle), take: Some(take) }
    }

    /// Waits until the goroutine has ended and gives its result. A goroutine waits parked, a plain thread blocks.
    ///
    /// All that the goroutine did, its exit path included, happens before `join` returns. A cancellation point:
    /// when the waiting goroutine is aborted the joined one is let go.
    ///
    /// # Errors
    /// [`JoinError`] if it panicked, was aborted, or called [`goexit`](crate::goexit).
    ///
    /// # Panics
    /// In the child of a `fork`, if the goroutine had not ended before the fork: it never ends there.
    ///
    /// ```
    /// assert_eq!(gorun::go(|| 6 * 7).join().unwrap(), 42);
    /// let error = gorun::go(|| -> () { gorun::goexit() }).join().unwrap_err();
    /// assert!(error.is_goexit());
    /// ```
    pub fn join(mut self) -> Result<T, JoinError> {
        gorun_scheduler::checkpoint();
        self.handle.expect_here();
        // SAFETY: C4: ours is the only handle with `take`.
        if unsafe { self.handle.completion().wait(WaitReason::Join, false, None) } == Token::ABORT {
            drop(self);
            gorun_scheduler::unwind_aborted();
        }
        self.take_result()
    }

    /// Waits until the goroutine has ended, at most until `deadline`: whether it has. An abort ends the wait too; who
    /// calls has to ask for it.
    pub(crate) fn wait_until(&mut self, deadline: Option<Instant>) -> bool {
        self.handle.expect_here();
        // SAFETY: C4: ours is the only handle with `take`.
        unsafe { self.handle.completion().wait(WaitReason::Join, false, deadline) == Token::DONE }
    }

    /// As `join`, but no abort ends it: others hold borrows of our stack.
    pub(crate) fn join_shielded(&mut self) -> Result<T, JoinError> {
        self.handle.expect_here();
        // SAFETY: C4: ours is the only handle with `take`.
        let _done = unsafe { self.handle.completion().wait(WaitReason::Scope, true, None) };
        self.take_result()
    }

    fn take_result(&mut self) -> Result<T, JoinError> {
        let take = self.take.take().expect("a JoinHandle was polled after it had given its result");
        // SAFETY: J2: the completion was seen, and `take` is taken once.
        unsafe { take(self.handle.payload()) }.map_err(|end| JoinError {
            id: self.handle.id(),
            name: self.handle.name().map(Into::into),
            end,
        })
    }

    /// Asks the goroutine to end: where it waits, or at its next runtime call that may block, it unwinds and takes
    /// its exit path; one that has not begun never does. Too late for one that is in its exit path. Returns at
    /// once; [`join`](JoinHandle::join) tells how it ended. To std it panics: see [`timeout`](crate::time::timeout()).
    ///
    /// With `panic = "abort"` only goroutines that have not begun can be aborted.
    ///
    /// ```
    /// let stuck = gorun::go(|| gorun::time::sleep(std::time::Duration::from_secs(3600)));
    /// stuck.abort();
    /// assert!(stuck.join().unwrap_err().is_aborted());
    /// ```
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Returns true if the result is there, so that `join` would not wait.
    ///
    /// ```
    /// let (go_on, goes_on) = gorun::channel::<()>(0);
    /// let waits = gorun::go(move || goes_on.recv().unwrap_err());
    /// assert!(!waits.is_finished());
    /// drop(go_on);
    /// waits.join().unwrap();
    /// ```
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let finished = self.handle.completion().is_finished();
        if !finished {
            polled_in_vain();
        }
        finished
    }

    /// The goroutine's number.
    ///
    /// ```
    /// let handle = gorun::go(gorun::id);
    /// let id = handle.id();
    /// assert_eq!(handle.join().unwrap(), id);
    /// ```
    #[must_use]
    pub fn id(&self) -> GoroutineId {
        self.handle.id()
    }

    /// The goroutine's name, if it was given one.
    ///
    /// ```
    /// let handle = gorun::Builder::new().name("digest").go(|| ())?;
    /// assert_eq!(handle.name(), Some("digest"));
    /// # Ok::<(), gorun::SpawnError>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.handle.name()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    /// If polled again after it was ready; and like [`JoinHandle::join`].
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.handle.expect_here();
        // SAFETY: C4: ours is the only handle with `take`.
        if unsafe { self.handle.completion().poll_register(cx.waker()) } {
            Poll::Ready(self.take_result())
        } else {
            Poll::Pending
        }
    }
}

impl<T> Drop for JoinHandle<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: taken out once.
        let handle = unsafe { ManuallyDrop::take(&mut self.handle) };
        let Some(take) = self.take.take() else { return };
        // SAFETY: C4: ours is the only handle with `take`, and that is used up.
        if let Err(handle) = unsafe { handle.detach() } {
            // SAFETY: J2: it has ended, and nobody took the result.
            if let Err(end) = unsafe { take(handle.payload()) } {
                end.report(&handle);
            }
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut handle = f.debug_struct("JoinHandle");
        handle.field("id", &self.id()).field("name", &self.name()).field("finished", &self.is_finished()).finish()
    }
}
