//! How goroutines learn that their runtime ends: all are told, and only then is the first one aborted.
//!
//! Used by `scheduler`, which ends a runtime ([`end_all`]), by `spawn` ([`Goroutine::is_born`]), and where a goroutine is
//! unwound (`park`, `exit`).
//!
//! * **N1.** A goroutine that sees the end of another one, and that one was aborted by their runtime's end or has acted on
//!   having been told of it, finds by [`Goroutine::ends_with_others`] that it is to end too: the other's end is no answer.
//!   For nobody is aborted, or acts on ENDING, before the phase is DRAINING; and by then all that may run have been told.
//! * **N2.** A goroutine that is born while its runtime ends is told before it may run, and aborted by its spawner or by the
//!   walk, unless an exit path spawned it.
//!
//! Both rest on pairs of a store and a load with a fence between them (`membarrier`): the spawner publishes the block and
//! then reads the phase; the end writes the phase and then walks over the blocks. So either the walk finds the block or
//! the spawner sees the phase; once for ENDING and the telling, once for DRAINING and the aborts.
//!
//! The bad interleaving if ENDING were acted on at once: A waits for B, and B for C. B is told; C ends; B takes that for an
//! abort and unwinds; A, which has not been told, takes the end of B for an answer. The bad interleaving if a newborn could
//! run before its spawner has looked at the phase: the walk that tells comes before the block is published; the newborn waits
//! for B; the phase becomes DRAINING and B is aborted; the newborn has not been told and takes the end of B for an answer.

use crate::base::atomics::Ordering;
use crate::base::membarrier;
use crate::goroutine::block::{ABORT, ENDING, Goroutine};
use crate::goroutine::handle::Handle;
use crate::goroutine::runtime_head::{self, DRAINING, RUNNING, RuntimeHead};

/// Tells all goroutines of the runtime that it ends, and then aborts them. `walk` passes the heavy fence, which is that of the
/// pairs above, and then calls its argument for all live goroutines of the process.
pub(crate) fn end_all(runtime: &RuntimeHead, walk: impl Fn(&mut dyn FnMut(&Handle))) {
    let lives = |handle: &Handle| std::ptr::eq(handle.block().runtime(), runtime) && !handle.completion().is_finished();
    runtime.set_phase(runtime_head::ENDING);
    walk(&mut |handle| {
        if lives(handle) {
            handle.block().announce_end();
        }
    });
    runtime.begin_drain();
    walk(&mut |handle| {
        // The others were started by exit paths since, and belong to those.
        if lives(handle) && handle.block().is_told() {
            handle.abort();
        }
    });
}

impl Goroutine {
    /// The spawner's step between `publish` and the push (N2).
    #[inline]
    pub(crate) fn is_born(&self, runtime: &RuntimeHead, by_exit_path: impl FnOnce() -> bool) {
        if is_late(runtime) && !by_exit_path() {
            self.ends_at_birth(runtime);
        }
    }

    #[cold]
    fn ends_at_birth(&self, runtime: &RuntimeHead) {
        self.announce_end();
        // What was announced, then the phase; against it the drain's phase, then its walk. Not aborted before all others have
        // been told of the end, who may wait for it.
        if is_late(runtime) && runtime.phase() >= DRAINING {
            let wake = self.ask_to_end();
            debug_assert!(wake.is_none(), "it does not run yet, and so waits for nothing");
        }
    }

    fn announce_end(&self) {
        // Relaxed: N1: the exchange of the phase that follows publishes it to whoever acts on DRAINING or on an ABORT; of a
        // newborn the push does, and the light fence after this orders it against the drain's walk (N2).
        self.requests.fetch_or(ENDING, Ordering::Relaxed);
    }

    fn is_told(&self) -> bool {
        // Relaxed: the walk that tells is over, and `ends_at_birth` has the fence between this and the phase.
        self.requests.load(Ordering::Relaxed) & ENDING != 0
    }

    /// Returns true if the running goroutine is to unwind here, a cancellation point, or at its beginning.
    #[inline]
    pub(crate) fn is_aborted(&self) -> bool {
        // Acquire: what came before the ABORT, for those who see our end (N1).
        self.requests.load(Ordering::Acquire) & ABORT != 0
    }

    /// Returns true if the end of another goroutine, which the running one has just seen, may be due to the end of their
    /// runtime, or if it is aborted itself.
    #[inline]
    pub(crate) fn ends_with_others(&self) -> bool {
        // Relaxed: N1 has an order from the announcement to the end that was seen.
        self.requests.load(Ordering::Relaxed) & (ABORT | ENDING) != 0 && self.is_to_end()
    }

    #[cold]
    fn is_to_end(&self) -> bool {
        // SAFETY: a running goroutine keeps its runtime.
        self.is_asked_to_end() || unsafe { &*self.runtime() }.phase() >= DRAINING
    }
}

#[inline]
fn is_late(runtime: &RuntimeHead) -> bool {
    membarrier::light();
    runtime.phase() != RUNNING
}

#[cfg(all(test, loom))]
mod models;
