//! std's `Mutex` without poison.
//!
//! Used by primitives and pools that no model looks at.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a primitive's own lock: held for a few lines, never over a wait or user code, so poison means nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
