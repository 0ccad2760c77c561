//! Why goroutines can not have thread-locals of their own.
//!
//! Made by everything in this folder that finds something out.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// Why goroutines can't have thread-locals of their own here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported(Cow<'static, str>);

impl Unsupported {
    pub(super) fn new(reason: impl Into<Cow<'static, str>>) -> Unsupported {
        Unsupported(reason.into())
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unsupported {}

/// Why there is no layout.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The verdict: there will be none in this process.
    Never(&'static Unsupported),
    /// It could not be found out: the system refused a thread or memory. The next call tries again.
    NotNow(io::Error),
}

impl Refusal {
    /// The reason as a value.
    pub(crate) fn into_reason(self) -> Unsupported {
        match self {
            Refusal::Never(reason) => reason.clone(),
            Refusal::NotNow(error) => Unsupported::new(error.to_string()),
        }
    }
}

/// How an attempt to find out ends without a layout.
#[derive(Debug)]
pub(super) enum Failure {
    Unsupported(Unsupported),
    Refused(io::Error),
}

impl From<Unsupported> for Failure {
    fn from(reason: Unsupported) -> Failure {
        Failure::Unsupported(reason)
    }
}

impl Failure {
    /// The system has refused something that it may grant later.
    pub(super) fn refused(what: &str, error: &io::Error) -> Failure {
        Failure::Refused(io::Error::new(error.kind(), format!("{what}: {error}")))
    }
}
