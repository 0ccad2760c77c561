//! Where goroutines can't have thread-locals of their own: nothing but the reason, and types that nobody can have.
//!
//! Stands in for `tls` on platforms other than x86-64 Linux with glibc; all goroutines are pinned there.

use std::convert::Infallible;
use std::fmt;

/// Why goroutines can't have thread-locals of their own here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported(());

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it takes x86-64 Linux with glibc")
    }
}

impl std::error::Error for Unsupported {}

/// There is none.
#[derive(Debug)]
pub(crate) enum Layout {}

impl Layout {
    pub(crate) fn room(&self) -> usize {
        match *self {}
    }
}

/// Why there is no layout.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The verdict.
    Never(&'static Unsupported),
    /// Nothing has to be found out here.
    #[allow(dead_code, reason = "so that callers are the same everywhere")]
    NotNow(std::io::Error),
}

impl Refusal {
    pub(crate) fn into_reason(self) -> Unsupported {
        Unsupported(())
    }
}

pub(crate) fn layout() -> Result<&'static Layout, Refusal> {
    Err(Refusal::Never(&Unsupported(())))
}

pub(crate) fn known() -> &'static Layout {
    unreachable!("there are no blocks")
}

pub(crate) fn begin_ids() {}

pub(crate) fn before_fork() {}

pub(crate) fn after_fork(_: bool) {}

/// There is none.
#[derive(Debug)]
pub(crate) struct Block(Infallible);

impl Block {
    pub(crate) unsafe fn create(layout: &Layout, _: *mut u8, _: *mut u8) -> Option<(Block, *mut u8)> {
        match *layout {}
    }
    pub(crate) unsafe fn destroy(&self, _: &Layout) {
        match self.0 {}
    }
    pub(crate) fn base(&self) -> usize {
        match self.0 {}
    }
    pub(crate) fn begin(&self, _: &Layout) {
        match self.0 {}
    }
    pub(crate) unsafe fn run_destructors(&self, _: &Layout, _: &mut KeyRounds) {
        match self.0 {}
    }
    pub(crate) unsafe fn reset(&self, _: &Layout) {
        match self.0 {}
    }
    pub(crate) fn fetch(&self) {
        match self.0 {}
    }
    pub(crate) fn fetch_more(&self, _: &Layout) {
        match self.0 {}
    }
    pub(crate) unsafe fn set_locked(&self, _: &Layout, _: bool) {
        match self.0 {}
    }
    pub(crate) fn is_stale(&self) -> bool {
        match self.0 {}
    }
}

/// There are none.
#[derive(Debug)]
pub(crate) struct KeyRounds(());

impl KeyRounds {
    pub(crate) fn new() -> KeyRounds {
        KeyRounds(())
    }
}

/// The thread's own block, always.
#[derive(Debug)]
pub(crate) struct Loaded(());

impl Loaded {
    pub(crate) fn new(_: Option<&Layout>) -> Loaded {
        Loaded(())
    }
    pub(crate) fn home(&self) -> usize {
        0
    }
    pub(crate) unsafe fn switch(&mut self, _: usize) {}
}
