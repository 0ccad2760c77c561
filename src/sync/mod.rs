//! Synchronisation for goroutines and plain threads alike: nobody's worker is ever blocked by a wait.
//!
//! | to | use |
//! |---|---|
//! | wait for a number of goroutines | [`WaitGroup`] |
//! | the same, with the first error, a limit, a context | [`ErrGroup`] |
//! | have one at a time in a piece of code | [`Mutex`] |
//! | hand values over | [`channel`](crate::channel) |

mod err_group;
mod mutex;
mod wait_group;

pub use err_group::ErrGroup;
pub use mutex::{Mutex, MutexGuard};
pub use wait_group::WaitGroup;

use std::sync::{MutexGuard as StdGuard, PoisonError};

/// Locks a primitive's own lock: held for a few lines, never over a wait or user code, so poison means nothing.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> StdGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
