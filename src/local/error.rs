//! The error of looking where nothing can be any more.

use std::fmt;

/// The key's value has been destroyed, or the storage is past its end: in an exit path, or on a plain thread that is
/// already destroying its thread-locals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessError;

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the goroutine-local value is being destroyed, or has been, in the exit path")
    }
}

impl std::error::Error for AccessError {}
