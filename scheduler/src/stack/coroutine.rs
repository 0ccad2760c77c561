//! What a goroutine runs on: a stack slot with a coroutine in it. The only file that names corosensei.
//!
//! A carrier is a loop: run a goroutine to its end, suspend with [`Suspended::Exit`], get the next one. So a
//! goroutine's end costs one switch and no set-up, and a worker whose goroutines never block uses one hot stack
//! for all of them. Used by `worker` (resume), `park` (suspend), `processor` and `cache` (the caches).
//!
//! ```text
//!  high │ pointer to the carrier     │ for who knows the slot only
//!       │ thread-local block         │ of an isolated carrier (`tls`)
//!       │ Carrier (this struct)      │ on one page with the first frames, and what of the block is in use
//!       │ frames of the loop         │
//!       │ frames of the goroutine    │ ...
//!   low │ guard page                 │
//! ```
//!
//! * **K1.** A carrier is in one processor's cache, in the runtime's pool (`cache`), or one goroutine's.
//! * **K2.** Only the worker that owns the goroutine (G1) resumes its carrier: one with a thread-local block of its own
//!   on any thread, with that block loaded; one without, from its goroutine's first turn to its last, on the same thread.
//!   So what is on its stack never sees other thread-locals (which is why user frames need not be `Send`). The loop's own
//!   frames keep nothing of a thread's over a suspension: between two goroutines it may go anywhere.
//! * **K3.** When a carrier suspends with `Exit`, its stack holds nothing but the loop's own frames, none of
//!   which has anything to drop: it may be forgotten.

use crate::base::float_control::FloatControl;
use crate::base::prefetch;
use crate::base::unwind::AbortOnUnwind;
use crate::config::ThreadLocals;
use crate::memory::{self, Slot, StackClass, StackError};
use crate::tls::{self, Block};
use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, UnsafeCell};
use std::mem::{ManuallyDrop, align_of, size_of};
use std::ptr::{self, NonNull};

/// Why control came back to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspended {
    /// The goroutine waits; it has armed its parker.
    Park,
    /// It wants to go to the end of the queue.
    Yield,
    /// The same, because the monitor asked for it: something waits, not necessarily in this worker's queue.
    Asked,
    /// It has ended; the carrier is free.
    Exit,
}

/// Cache lines below a carrier that are fetched with it: the frames of a goroutine that does little more than wait.
const FRAMES: usize = 16;

/// A goroutine, whose type is above this floor.
pub(crate) type Carried = *const ();
/// What runs on each stack, for one goroutine after another: from its first turn to the end of its exit path.
///
/// To be called on a carrier's own stack, with the goroutine that its worker owns (K2, G1).
pub(crate) type Body = unsafe fn(Carried, Option<&Block>);
type Loop = Coroutine<Carried, Suspended, (), SlotStack>;

/// The part of a slot below the `Carrier`.
struct SlotStack {
    base: StackPointer,
    limit: StackPointer,
}

// SAFETY: the slot has a guard page at its low end (stack::take), is at least 16 KiB and mapped for good; base
// and limit are 16-aligned.
unsafe impl Stack for SlotStack {
    fn base(&self) -> StackPointer {
        self.base
    }
    fn limit(&self) -> StackPointer {
        self.limit
    }
}

/// Lives in its own slot, right above its frames.
pub(crate) struct Carrier {
    coroutine: UnsafeCell<ManuallyDrop<Loop>>,
    yielder: Cell<*const Yielder<Carried, Suspended>>,
    /// Whom it carries: for the overflow report.
    goroutine: Cell<Carried>,
    /// Link of the cache it is in.
    next: Cell<*mut Carrier>,
    /// The thread-locals of an isolated carrier's goroutines.
    block: Option<Block>,
    slot: Slot,
}

/// The last word of a slot: where its carrier is.
type Header = Cell<*const Carrier>;
const _: () = assert!(align_of::<Carrier>() <= 16 && size_of::<Carrier>().is_multiple_of(8));

/// Of the slot with its top there.
fn header_of(top: usize) -> *const Header {
    (top - size_of::<Header>()) as *const Header
}

impl Carrier {
    /// Takes a slot (reserved before) and builds the loop in it.
    pub(crate) fn create(class: StackClass, mode: ThreadLocals, body: Body) -> Result<NonNull<Carrier>, StackError> {
        let slot = memory::take(class)?;
        let header = header_of(slot.top() as usize);
        let mut base = header.cast_mut().cast::<u8>();
        let mut block = None;
        if mode == ThreadLocals::Isolated {
            // SAFETY: S2: the slot is ours; its class leaves room for a block (`class_for`).
            let made = unsafe { Block::create(tls::known(), slot.base(), base) };
            let Some((made, bottom)) = made else {
                memory::give_back(slot, true);
                return Err(StackError::Block);
            };
            block = Some(made);
            base = bottom;
        }
        let at = (base as usize - size_of::<Carrier>()) & !15;
        let carrier = at as *mut Carrier;
        let base = StackPointer::new(at).expect("a slot is not at address 0");
        let limit = StackPointer::new(slot.limit() as usize).expect("a slot is not at address 0");
        let coroutine = Loop::with_stack(SlotStack { base, limit }, move |yielder, first: Carried| {
            // SAFETY: K2: we run on this carrier's stack, so it is written and alive.
            let carrier = unsafe { &*(at as *const Carrier) };
            carrier.yielder.set(yielder);
            let mut goroutine = first;
            loop {
                if let Some(block) = &carrier.block {
                    block.begin(tls::known());
                }
                let bomb = AbortOnUnwind("a panic left a goroutine");
                // SAFETY: K2 and G1: on this carrier's stack, with the goroutine that the worker resumed us for.
                unsafe { body(goroutine, carrier.block.as_ref()) };
                bomb.pass();
                // N1: what the goroutine has set ends with it.
                FloatControl::set_default();
                goroutine = yielder.suspend(Suspended::Exit);
            }
        });
        // SAFETY: the slot is ours (K1), mapped, and both are aligned: slots are page-aligned.
        unsafe {
            header.cast_mut().write(Cell::new(carrier));
            carrier.write(Carrier {
                coroutine: UnsafeCell::new(ManuallyDrop::new(coroutine)),
                yielder: Cell::new(ptr::null()),
                goroutine: Cell::new(ptr::null()),
                next: Cell::new(ptr::null_mut()),
                block,
                slot,
            });
        }
        Ok(NonNull::new(carrier).expect("a slot is not at address 0"))
    }

    /// Runs `g` on `coroutine` until it suspends.
    ///
    /// # Safety
    /// K1 and K2: the caller owns `g` and `coroutine`, which is `g`'s or free.
    pub(crate) unsafe fn resume(carrier: NonNull<Carrier>, g: Carried) -> Suspended {
        // SAFETY: by the caller.
        let this = unsafe { carrier.as_ref() };
        this.goroutine.set(g);
        // SAFETY: K2: nobody else resumes or looks at the coroutine meanwhile; the running loop itself only uses
        // the yielder.
        let coroutine = unsafe { &mut *this.coroutine.get() };
        match coroutine.resume(g) {
            CoroutineResult::Yield(why) => why,
            CoroutineResult::Return(()) => unreachable!("a carrier's loop has no end"),
        }
    }

    /// Has the processor fetch a carrier and the frames below it, by their address alone.
    #[inline]
    pub(crate) fn fetch(carrier: *const Carrier) {
        let lowest = carrier.cast::<u8>().wrapping_sub(FRAMES * prefetch::LINE);
        prefetch::lines(lowest, FRAMES + size_of::<Carrier>().div_ceil(prefetch::LINE));
    }

    /// The same with its thread-locals, which only a carrier that is there already tells where they are.
    #[inline]
    pub(crate) fn fetch_block(&self) {
        if let Some(block) = &self.block {
            block.fetch_more(tls::known());
        }
    }

    pub(crate) fn class(&self) -> StackClass {
        self.slot.class()
    }

    pub(crate) fn mode(&self) -> ThreadLocals {
        if self.block.is_some() { ThreadLocals::Isolated } else { ThreadLocals::Pinned }
    }

    /// The FS base to load for it; `None`: the worker's own.
    #[inline]
    pub(crate) fn block_base(&self) -> Option<usize> {
        self.block.as_ref().map(Block::base)
    }

    /// Returns true if another goroutine may run on it.
    pub(crate) fn is_reusable(&self) -> bool {
        !self.block.as_ref().is_some_and(Block::is_stale)
    }

    /// Gives the slot back to the arena, with or without its pages.
    ///
    /// # Safety
    /// K3: the carrier is free, its block not loaded, and it is never used again.
    pub(crate) unsafe fn release(carrier: NonNull<Carrier>, keep_pages: bool) {
        // SAFETY: by the caller.
        if let Some(block) = unsafe { &carrier.as_ref().block } {
            // SAFETY: by the caller.
            unsafe { block.destroy(tls::known()) };
        }
        // SAFETY: by the caller; the coroutine is forgotten, not dropped (K3).
        let slot = unsafe { ptr::read(&raw const (*carrier.as_ptr()).slot) };
        memory::give_back(slot, keep_pages);
    }
}

/// Leaves the current goroutine's stack for its worker's, until it is resumed.
///
/// # Safety
/// K2: the carrier is the one on whose stack the caller runs.
// Inlined at all costs: see `Blocker::park`.
#[inline(always)]
pub(crate) unsafe fn suspend(carrier: *const Carrier, why: Suspended) {
    // N1: the worker computes in the default state, and the goroutine goes on in its own.
    if FloatControl::is_default() {
        // SAFETY: the caller's contract.
        unsafe { leave(carrier, why) };
    } else {
        // SAFETY: the same.
        unsafe { suspend_own_control(carrier, why) };
    }
}

#[cold]
#[inline(never)]
unsafe fn suspend_own_control(carrier: *const Carrier, why: Suspended) {
    let own = FloatControl::current();
    FloatControl::DEFAULT.set();
    // SAFETY: the contract of `suspend`.
    unsafe { leave(carrier, why) };
    own.set();
}

#[inline(always)]
unsafe fn leave(carrier: *const Carrier, why: Suspended) {
    // SAFETY: a running goroutine has a carrier (K1), whose loop set the yielder before it ran the goroutine and
    // whose frame, on this very stack, keeps it alive.
    let yielder = unsafe { &*(*carrier).yielder.get() };
    let _same = yielder.suspend(why);
}

/// The goroutine of a carrier, which runs or has just ended on this worker, has locked this thread, or (`false`) not any more.
pub(crate) fn set_locked(carrier: &Carrier, locked: bool) {
    if let Some(block) = &carrier.block {
        // SAFETY: F1: the block is the goroutine's, and was last loaded on this thread.
        unsafe { block.set_locked(tls::known(), locked) };
    }
}

/// Free carriers of one class, last in first out: the hottest stack first.
#[derive(Debug)]
pub(crate) struct CarrierList {
    head: Cell<*mut Carrier>,
    /// The one that was pushed first; of no meaning in an empty list.
    last: Cell<*mut Carrier>,
    len: Cell<usize>,
}

impl CarrierList {
    pub(crate) const fn new() -> CarrierList {
        CarrierList { head: Cell::new(ptr::null_mut()), last: Cell::new(ptr::null_mut()), len: Cell::new(0) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    pub(crate) fn push(&self, carrier: NonNull<Carrier>) {
        // SAFETY: K1: ours.
        unsafe { carrier.as_ref() }.next.set(self.head.get());
        if self.head.get().is_null() {
            self.last.set(carrier.as_ptr());
        }
        self.head.set(carrier.as_ptr());
        self.len.set(self.len.get() + 1);
    }

    pub(crate) fn pop(&self) -> Option<NonNull<Carrier>> {
        let carrier = NonNull::new(self.head.get())?;
        // SAFETY: K1: on our list.
        self.head.set(unsafe { carrier.as_ref() }.next.get());
        self.len.set(self.len.get() - 1);
        Some(carrier)
    }

    /// Has the processor fetch the one that would be popped now, and whatever it takes to do so for the next.
    #[inline]
    pub(crate) fn fetch_next(&self) {
        Carrier::fetch(self.head.get());
        // SAFETY: K1: on our list.
        if let Some(carrier) = unsafe { self.head.get().as_ref() } {
            carrier.block.iter().for_each(Block::fetch);
            prefetch::lines(carrier.next.get(), 2);
        }
    }

    /// Puts all of `other` before its own, and leaves it empty.
    pub(crate) fn append(&self, other: &CarrierList) {
        let head = other.head.replace(ptr::null_mut());
        // SAFETY: K1: on the other list.
        let Some(last) = (unsafe { other.last.get().as_ref() }).filter(|_| !head.is_null()) else { return };
        last.next.set(self.head.get());
        if self.head.get().is_null() {
            self.last.set(other.last.get());
        }
        self.head.set(head);
        self.len.set(self.len.get() + other.len.replace(0));
    }
}

/// Runs `f` on a stack of at least `bytes`, and comes back with its result; a panic comes back too.
///
/// For deep recursion in an otherwise small goroutine. The goroutine may block inside `f`.
///
/// # Errors
/// When there is no stack of that size to be had; `f` is not run then.
///
/// # Panics
/// When `f` panics, with its payload.
///
/// ```
/// fn depth(n: u32) -> u32 { if n == 0 { 0 } else { std::hint::black_box(1 + depth(n - 1)) } }
/// assert_eq!(gorun_scheduler::grow(64 << 20, || depth(100_000)), Ok(100_000));
/// assert!(gorun_scheduler::grow(usize::MAX, || unreachable!()).is_err());
/// ```
pub fn grow<R>(bytes: usize, f: impl FnOnce() -> R) -> Result<R, StackError> {
    struct Taken(Option<Slot>);
    impl Drop for Taken {
        fn drop(&mut self) {
            let slot = self.0.take().expect("given back once");
            let class = slot.class();
            memory::give_back(slot, false);
            memory::unreserve(class, 1);
        }
    }
    let class = StackClass::for_size(bytes)?;
    memory::reserve(class, 1)?;
    let slot = memory::take(class).inspect_err(|_| memory::unreserve(class, 1))?;
    let header = header_of(slot.top() as usize);
    // SAFETY: the top of the slot is ours; no carrier for the report.
    unsafe { header.cast_mut().write(Cell::new(ptr::null())) };
    let top = header as usize & !15;
    let limit = slot.limit() as usize;
    let pointer = |at| StackPointer::new(at).expect("a slot is not at address 0");
    let stack = SlotStack { base: pointer(top), limit: pointer(limit) };
    let _taken = Taken(Some(slot));
    Ok(corosensei::on_stack(stack, f))
}

/// For the overflow report: whose stack has its top at `top`. Called in a signal handler: reads memory only.
pub(crate) fn goroutine_at(top: usize) -> Option<Carried> {
    // SAFETY: the handler found a slot of the arena that somebody was running on, so `create` or `grow` has written its
    // header, and `create` the carrier.
    let goroutine = unsafe { (*header_of(top)).get().as_ref()? }.goroutine.get();
    (!goroutine.is_null()).then_some(goroutine)
}

#[cfg(all(test, target_os = "linux", target_env = "gnu", target_arch = "x86_64", not(loom), not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::print_stderr, reason = "for who reads the log of a test")]
    fn a_refused_block_gives_the_slot_back() {
        use std::sync::atomic::Ordering;
        let layout = match tls::layout() {
            Ok(layout) => layout,
            Err(refusal) => {
                assert!(std::env::var_os("GORUN_TEST_COMPLETE").is_none(), "{refusal:?}");
                return eprintln!("SKIPPED: {refusal:?}");
            }
        };
        // A class of its own, of which nobody else has a slot.
        let class = StackClass::for_size((3 << 20) + layout.room()).unwrap();
        memory::reserve(class, 1).unwrap();
        // SAFETY: no preconditions.
        tls::REFUSED_TO.store(unsafe { libc::gettid() }, Ordering::SeqCst);
        let refused = Carrier::create(class, ThreadLocals::Isolated, |_, _| unreachable!());
        tls::REFUSED_TO.store(0, Ordering::SeqCst);
        assert!(matches!(refused, Err(StackError::Block)), "{refused:?}");
        let again = Carrier::create(class, ThreadLocals::Isolated, |_, _| unreachable!()).unwrap();
        // SAFETY: K3: free, never loaded, and not used after this.
        unsafe { Carrier::release(again, false) };
        memory::unreserve(class, 1);
    }
}
