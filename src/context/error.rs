//! Why a context is over.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// What canceled a context: any error, shared by all contexts that it canceled.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Why a context is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContextError {
    /// It was canceled, or one that it is derived from.
    Canceled,
    /// Its deadline passed, or that of one it is derived from.
    DeadlineExceeded,
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ContextError::Canceled => "context canceled",
            ContextError::DeadlineExceeded => "context deadline exceeded",
        })
    }
}

impl Error for ContextError {}
