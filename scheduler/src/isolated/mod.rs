//! A thread-local block of its own for each goroutine: what lets a started goroutine change threads.
//!
//! To Rust and to libc a thread is what the FS base points at: the *thread control block*, with the thread-locals of
//! all loaded libraries below it. An isolated goroutine has one of its own, at the top of its stack slot; the worker
//! loads it before it resumes the goroutine ([`Loaded`]). So a `thread_local!` is the goroutine's, wherever it runs.
//! Made and used by `carrier` and `worker`; `exit` runs the destructors ([`Block::run_destructors`]).
//!
//! ```text
//!   lower ◀                                                               FS base
//!   frames … │ carrier │ reserve │ … │ libc's segment │ the program's segment │ thread control block │ top of slot
//! ```
//!
//! * **F1, one thread at a time.** A block is loaded by one thread only. The worker loads the block of a goroutine
//!   that it owns (G1), and takes up another one before it lets go of the goroutine: before a parked one is committed,
//!   a yielding one queued, or a carrier freed.
//! * **F2, no function sees two blocks.** The compiler takes a thread-local's address for a constant of the function.
//!   So code in whose frame a block is loaded, inlined callees included, touches no thread-local: [`Loaded::switch`] is
//!   called by the worker's own loop only, and what that loop calls and may touch one is not inlined. On a goroutine's
//!   own stack the block is always the same.
//! * **F3, fresh for each goroutine.** When a goroutine ends, the destructors run on its own stack, and the segments of
//!   all libraries but libc go back to their initial images. libc's stays, as it would with a pooled thread.
//! * **F4, malloc travels with the worker.** The two words by which glibc's malloc finds its cache and its arena are
//!   carried from the block that was loaded to the next one. malloc never suspends, so to it this is the thread it
//!   always was; a goroutine costs no cache of its own, and a block can be thrown away.
//!
//! What glibc must have for this is found out once, in a helper thread with a known stack ([`layout`]), tried on a
//! throw-away block (`self_test`), and refused with a reason where anything looks unfamiliar.

mod block;
mod fork;
mod fsbase;
mod glibc;
mod modules;
mod self_test;
mod setxid;

pub(crate) use block::{Block, Loaded};

pub(crate) use glibc::Layout;

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

/// Why goroutines can't have thread-locals of their own here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported(Cow<'static, str>);

impl Unsupported {
    fn new(reason: impl Into<Cow<'static, str>>) -> Unsupported {
        Unsupported(reason.into())
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unsupported {}

static LAYOUT: OnceLock<Result<Layout, Unsupported>> = OnceLock::new();

/// What a block looks like in this process. The first call takes a thread or two and about a millisecond.
pub(crate) fn layout() -> Result<&'static Layout, &'static Unsupported> {
    LAYOUT
        .get_or_init(|| {
            fsbase::usable()?;
            let layout = glibc::explore()?;
            self_test::run(&layout)?;
            fork::install()?;
            setxid::install()?;
            Ok(layout)
        })
        .as_ref()
}

/// [`layout`], if it was asked for before and can be had.
#[inline]
fn layout_if_known() -> Option<&'static Layout> {
    LAYOUT.get().and_then(|layout| layout.as_ref().ok())
}

/// The same without any cost, for code that has blocks.
pub(crate) fn known() -> &'static Layout {
    layout_if_known().expect("a block exists, so the layout is known")
}

/// Whether goroutines can have thread-locals of their own in this process, or why not. The first call finds out, which
/// takes about a millisecond; the answer stays the same.
///
/// # Errors
/// The reason, when they can't.
///
/// ```
/// use gorun_scheduler::{Config, Scheduler, ThreadLocals, isolation};
/// let isolated = Config { workers: 1, thread_locals: Some(ThreadLocals::Isolated), ..Config::from_env()? };
/// assert_eq!(Scheduler::start(isolated).is_ok(), isolation().is_ok());
/// # Ok::<(), gorun_scheduler::ConfigError>(())
/// ```
pub fn isolation() -> Result<(), Unsupported> {
    layout().map(drop).map_err(Clone::clone)
}
