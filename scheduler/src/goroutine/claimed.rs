//! From a claim back to the goroutine that was claimed.
//!
//! Used by whoever makes claimed goroutines runnable.

use crate::claim::claim_word::{Claimed, Wake, Woken};
use crate::goroutine::block::{Goroutine, Ref};

/// A claimed goroutine, by its claim word.
#[inline]
pub(crate) fn goroutine_of(claimed: Claimed) -> Ref {
    // SAFETY: a claim yields only goroutines' parkers, each the first field of its `Goroutine`, with its provenance; and with
    // it the goroutine (P1, P2 in `claim_word`).
    unsafe { Ref::from_ptr(claimed.parker().cast::<Goroutine>()) }
}

impl Wake {
    /// The goroutine that [`Wake::into_goroutine`] would give.
    #[inline]
    pub(crate) fn goroutine(&self) -> Option<Ref> {
        if let Woken::Goroutine(claimed) = self.0 { Some(goroutine_of(claimed)) } else { None }
    }

    /// The goroutine to push, if it is one: for a worker, which pushes through its own processor.
    pub(crate) fn into_goroutine(self) -> Result<Ref, Wake> {
        match self.0 {
            Woken::Goroutine(claimed) => Ok(goroutine_of(claimed)),
            _ => Err(self),
        }
    }
}
