//! Pinned goroutines that waited while somebody on their thread was panicking: was it they?
//!
//! A goroutine that is being unwound must not be aborted once more. An isolated one knows whether it is
//! (`std::thread::panicking` is its own); to a pinned one the same call also tells of a neighbour that waits in a destructor
//! in the middle of its panic. So its wait is shielded from aborts on suspicion, noted here by `park`, and the shield is
//! lifted by the first on the thread to find that nobody panics any more: then nobody did whose wait is still the same.
//!
//! * **D1.** A processor's list is touched on its own thread only, by its pinned goroutines.
//! * **D2.** A shield is lifted off the very wait that was noted, and no other: a later one may have its reasons.
//! * **D3.** No pinned goroutine begins on a thread on which another one has left its stack in the middle of a panic, while a
//!   further worker can be had: `worker` notes on its seat after each turn whether the thread is
//!   panicking, holds new ones back meanwhile, and `replacement` wants one worker more for each such seat. A new goroutine would be under suspicion from its
//!   first wait on, and whoever panics may wait for its abort: `timeout` in a destructor does.
//!
//! The bad interleaving without it: A waits in a destructor, panicking; B, its neighbour, waits for a message, shielded; B is
//! aborted, and nothing happens; A's panic is over, no message comes, and B waits for ever.

use crate::claim::claim_word::Armed;
use crate::goroutine::block::Goroutine;
use crate::goroutine::handle::Handle;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ptr;

impl Goroutine {
    /// D2. Returns true if an abort has found the shield, and is to be made up for.
    pub(crate) fn lift(&self, wait: Armed) -> bool {
        // The word without its shield, then the flag; the aborter writes the flag, then looks at the word.
        self.parker.unshield(wait) && self.is_asked_to_end()
    }
}

/// A processor's list.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    any: Cell<bool>,
    /// The last wait of each goroutine, keyed by its address.
    waits: RefCell<BTreeMap<usize, (Handle, Armed)>>,
}

impl Doubts {
    /// The calling goroutine's wait is shielded, and perhaps it need not be.
    #[cold]
    pub(crate) fn note(&self, g: &Goroutine, wait: Armed) {
        self.any.set(true);
        let before = self.waits.borrow_mut().insert(ptr::from_ref(g).addr(), (Handle::of(g), wait));
        drop(before);
    }

    /// Returns true if there may be some. Those are the caller's to look at.
    #[inline]
    pub(crate) fn are_any(&self) -> bool {
        self.any.get()
    }

    /// Takes out all.
    pub(crate) fn take(&self) -> impl Iterator<Item = (Handle, Armed)> {
        self.any.set(false);
        self.waits.take().into_values()
    }
}
