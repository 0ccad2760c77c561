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
//!   all libraries but libc go back to their initial images. libc's stays, as it would with a pooled thread, and so do the
//!   keys of std's hash maps (`hash_keys`).
//! * **F4, malloc travels with the worker.** The two words by which glibc's malloc finds its cache and its arena are
//!   carried from the block that was loaded to the next one. malloc never suspends, so to it this is the thread it
//!   always was; a goroutine costs no cache of its own, and a block can be thrown away.
//!
//! What glibc must have for this is found out once, in a helper thread with a known stack ([`layout`]), tried on a
//! throw-away block (`self_test`), and refused with a reason where anything looks unfamiliar.

mod block;
mod experiment;
mod fork;
mod fsbase;
mod glibc;
mod hash_keys;
mod modules;
mod random_state;
#[cfg(test)]
mod refusals;
mod self_test;
mod setxid;
mod thread_ids;

#[cfg(all(test, not(loom), not(shuttle)))]
pub(crate) use block::REFUSED_TO;
pub(crate) use block::{Block, KeyRounds, Loaded};
pub(crate) use fork::{after_fork, before_fork};
pub(crate) use thread_ids::begin as begin_ids;

pub(crate) use glibc::Layout;

use crate::process::hold_off;
use crate::shim::Lock;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

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
enum Failure {
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
    fn refused(what: &str, error: &io::Error) -> Failure {
        Failure::Refused(io::Error::new(error.kind(), format!("{what}: {error}")))
    }
}

/// What was found out; empty as long as nothing was.
struct Verdict {
    known: OnceLock<Result<Layout, Unsupported>>,
    one_at_a_time: Lock<()>,
}

/// How often a refusal is tried again, after one millisecond, two, and so on: 210 in all, as Go does it for threads that
/// the kernel refuses.
const RETRIES: u64 = 20;

static VERDICT: Verdict = Verdict { known: OnceLock::new(), one_at_a_time: Lock::new(()) };

impl Verdict {
    /// The verdict, by `find_out` if there is none yet. A refusal is none, and leaves the next call free to find out.
    fn get(
        &'static self,
        mut find_out: impl FnMut() -> Result<Layout, Failure>,
        pause: impl Fn(Duration),
    ) -> Result<&'static Layout, Refusal> {
        if let Some(known) = self.known.get() {
            return known.as_ref().map_err(Refusal::Never);
        }
        let _held_off = hold_off();
        let _guard = self.one_at_a_time.lock();
        let mut tries = 0;
        while self.known.get().is_none() {
            let found = match find_out() {
                Ok(layout) => Ok(layout),
                Err(Failure::Unsupported(reason)) => Err(reason),
                Err(Failure::Refused(_)) if tries < RETRIES => {
                    tries += 1;
                    pause(Duration::from_millis(tries));
                    continue;
                }
                Err(Failure::Refused(error)) => return Err(Refusal::NotNow(error)),
            };
            // Nobody else sets it while we have the lock.
            let _ = self.known.set(found);
        }
        self.known.get().expect("found out above").as_ref().map_err(Refusal::Never)
    }
}

/// What a block looks like in this process. The first call takes a thread or two and about a millisecond. No runtime
/// starts before there is a verdict, so that no worker is without it.
pub(crate) fn layout() -> Result<&'static Layout, Refusal> {
    #[expect(
        clippy::disallowed_methods,
        reason = "on the thread that starts a first runtime, before there are workers"
    )]
    VERDICT.get(find_out, std::thread::sleep)
}

fn find_out() -> Result<Layout, Failure> {
    fsbase::usable()?;
    let layout = glibc::explore()?;
    self_test::run(&layout)?;
    // It changes the process, and so comes last: nothing after it can fail and have it done twice.
    setxid::install()?;
    Ok(layout)
}

/// [`layout`], if it was asked for before and can be had.
#[inline]
fn layout_if_known() -> Option<&'static Layout> {
    VERDICT.known.get().and_then(|layout| layout.as_ref().ok())
}

/// The same without any cost, for code that has blocks.
pub(crate) fn known() -> &'static Layout {
    layout_if_known().expect("a block exists, so the layout is known")
}
