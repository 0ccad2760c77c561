//! A counted reference to a goroutine: what others know it by, and what they can ask of it.
//!
//! Made by `spawn` and by whoever has one already; held by `gorun::JoinHandle`, and by who calls the goroutine its current
//! one. The counting is in `refs`, the result in `completion`.

use crate::base::process;
use crate::config::ThreadLocals;
use crate::goroutine::block::{ABORT, Goroutine, GoroutineId, Ref};
use crate::goroutine::completion::Completion;
use crate::goroutine::current;
use crate::goroutine::refs::{Walk, Walks};
use crate::goroutine::slab::{self, BlockList};
use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

/// A counted reference to a goroutine, alive or finished.
pub struct Handle(NonNull<Goroutine>);

// SAFETY: `Goroutine` is Sync and the count is atomic.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

// Nothing of what a panic may leave half done is behind it.
impl UnwindSafe for Handle {}
impl RefUnwindSafe for Handle {}

impl Handle {
    /// With a reference that has been counted for it.
    pub(super) fn counted(g: &Goroutine) -> Handle {
        Handle(NonNull::from(g))
    }

    /// # Safety
    /// The caller has a reference to give away (one of those counted by `publish`).
    pub(crate) unsafe fn adopt(g: Ref) -> Handle {
        Handle(g.0)
    }

    /// Counts a reference more to a goroutine that the caller keeps alive.
    pub(crate) fn of(g: &Goroutine) -> Handle {
        g.refs.add();
        Handle::counted(g)
    }

    pub(crate) fn block(&self) -> &Goroutine {
        // SAFETY: type-stable, and counted by us.
        unsafe { self.0.as_ref() }
    }

    /// Gives up the result, and leaves the reference to the goroutine.
    ///
    /// # Errors
    /// The result is there, and this handle's to drop.
    ///
    /// # Safety
    /// C4: the caller owns the result, and no more after this.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// let goroutine = go(|| ());
    /// // SAFETY: the handle is ours alone.
    /// if let Err(ended) = unsafe { goroutine.detach() } {
    ///     // It ended before: the result is ours to drop, as the entry's `drop_result` would have.
    ///     assert!(ended.completion().is_finished());
    /// }
    /// ```
    #[inline]
    pub unsafe fn detach(self) -> Result<(), Handle> {
        // Not dropped here: the reference is left behind, or handed back.
        let this = ManuallyDrop::new(self);
        // SAFETY: by the caller.
        if unsafe { this.block().done.detach() } { Ok(()) } else { Err(ManuallyDrop::into_inner(this)) }
    }

    /// Its number, also after its end.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// join(&go(|| assert_eq!(Some(current_goroutine().unwrap().id()), current_id())));
    /// ```
    #[must_use]
    pub fn id(&self) -> GoroutineId {
        GoroutineId::new(self.block().locals.id())
    }

    /// Its name, if it was given one.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// assert_eq!(go(|| ()).name(), Some("example")); // by its `Spec`
    /// ```
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        // SAFETY: written before `publish`, cleared only after the last reference (G2), and we hold one.
        unsafe { (*self.block().name.get()).as_deref() }
    }

    /// Whose thread-locals it sees.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// assert_eq!(go(|| ()).thread_locals(), SCHEDULER.remote().thread_locals());
    /// ```
    #[must_use]
    pub fn thread_locals(&self) -> ThreadLocals {
        self.block().mode.get()
    }

    /// Where it was spawned.
    ///
    /// # Panics
    /// Never: every goroutine has a spawn site.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// assert_eq!(go(|| ()).spawned_at().line(), line!());
    /// ```
    #[must_use]
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.block().site.get().expect("a live block has a spawn site")
    }

    /// Where the result lies once [`Handle::completion`] says that it is there.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// let goroutine = go(|| ());
    /// join(&goroutine);
    /// // SAFETY: it has ended, and its entry leaves a byte.
    /// assert_eq!(unsafe { goroutine.payload().read() }, 0);
    /// ```
    #[must_use]
    pub fn payload(&self) -> *mut u8 {
        self.block().payload()
    }

    /// The state of its result.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// let goroutine = go(|| ());
    /// join(&goroutine);
    /// assert!(goroutine.completion().is_finished());
    /// ```
    #[must_use]
    pub fn completion(&self) -> &Completion {
        &self.block().done
    }

    /// To be called before a wait for its end: a goroutine of this process's parent, that had not ended when it forked, never
    /// ends here.
    ///
    /// # Panics
    /// When it is one.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// go(|| ()).expect_here();
    /// ```
    #[inline]
    pub fn expect_here(&self) {
        if self.is_parents() {
            self.refuse();
        }
    }

    #[cold]
    fn refuse(&self) -> ! {
        let (id, site) = (self.id(), self.spawned_at());
        panic!(
            "gorun: goroutine {id}, spawned at {site}, exists only in the parent process, from which this one was forked later"
        )
    }

    #[inline]
    pub(crate) fn is_parents(&self) -> bool {
        process::is_forked() && self.is_parents_cold()
    }

    #[cold]
    fn is_parents_cold(&self) -> bool {
        let g = self.block();
        // SAFETY: a goroutine that has not ended keeps its runtime, and one of the parent's stays here for good.
        !g.done.is_finished() && process::is_parents(unsafe { &*g.runtime() }.process)
    }

    /// Returns true if it has been asked to end.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// let goroutine = go(|| loop { yield_now() });
    /// assert!(!goroutine.is_aborting());
    /// goroutine.abort();
    /// assert!(goroutine.is_aborting());
    /// ```
    #[must_use]
    pub fn is_aborting(&self) -> bool {
        // Relaxed: a snapshot.
        self.block().requests.load(Ordering::Relaxed) & ABORT != 0
    }
}

impl Goroutine {
    /// Counts a reference to whichever goroutine the block is, if it is one that has not ended for good.
    pub(crate) fn try_ref(&self, walk: &Walk<'_>) -> Option<Handle> {
        self.refs.try_add(walk).then(|| Handle::counted(self))
    }

    /// The worker's last step, on no goroutine's stack: gives up the scheduler's reference, and the handle's if that was
    /// left to the goroutine. `joined`: the joiner is still to be woken (C5).
    pub(crate) fn retire(&self, blocks: &BlockList, joined: bool) {
        let (mine, held) = match self.done.is_left() {
            true => (2, 2),
            false => (1, 1 + u32::from(joined)),
        };
        if self.refs.give_up(mine, held, Walks::all()) {
            self.clean();
            slab::give_back(Some(blocks), Ref(NonNull::from(self)));
        }
    }
}

impl Clone for Handle {
    fn clone(&self) -> Handle {
        Handle::of(self.block())
    }
}

impl Drop for Handle {
    #[inline]
    fn drop(&mut self) {
        let g = self.block();
        if g.refs.give_up(1, 1, Walks::all()) {
            g.clean();
            slab::give_back(current::blocks(), Ref(self.0));
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("id", &self.id()).field("name", &self.name()).finish_non_exhaustive()
    }
}

/// A block that was taken but never published goes back.
pub(crate) fn give_back_unused(block: Ref) {
    slab::give_back(current::blocks(), block);
}

/// Calls `f` with every goroutine that is referenced at the time it is looked at.
pub(crate) fn for_each_live(mut f: impl FnMut(Handle)) {
    let blocks = slab::all_blocks();
    let walk = Walk::begin();
    for block in blocks {
        if let Some(handle) = block.try_ref(&walk) {
            f(handle);
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::config::ThreadLocals;
    use crate::goroutine::block::{Birth, Entry};
    use crate::goroutine::slab::take_block;
    use crate::memory::StackClass;
    use std::panic::Location;
    use std::ptr;
    use std::sync::atomic::{AtomicBool, Ordering};

    static ENTRY: Entry =
        Entry { run: |_| unreachable!(), cancel: |_| unreachable!(), ended: None, drop_result: |_| unreachable!() };

    /// Blocks are given up and used again all the time, on several threads, while others walk: who a walk has a handle to
    /// stays the same.
    #[test]
    fn what_a_walk_finds_is_not_used_again() {
        crate::base::membarrier::register();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let makers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        for n in 0..100_000 {
                            let g = take_block(None).unwrap();
                            let id = current::take_ids(1);
                            let site = Location::caller();
                            let (class, mode) = (StackClass::default(), ThreadLocals::Pinned);
                            g.prepare(Birth { id, class, mode, entry: &ENTRY, name: None, site }, ptr::null());
                            let refs = 1 + n % 2;
                            g.publish(refs);
                            // SAFETY: as many as were counted.
                            (0..refs).for_each(|_| drop(unsafe { Handle::adopt(g) }));
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                // Relaxed: joined in the end.
                while !over.load(Ordering::Relaxed) {
                    let mut found = Vec::new();
                    for_each_live(|handle| found.push((handle.id(), handle)));
                    assert!(found.iter().all(|(id, handle)| handle.id() == *id));
                }
            });
            makers.into_iter().for_each(|maker| maker.join().unwrap());
            // Relaxed: as above.
            over.store(true, Ordering::Relaxed);
        });
    }
}
