//! What was found out about thread-locals in this process, once for all.
//!
//! Asked by `availability` and by all that has a block.

use super::error::{Failure, Refusal, Unsupported};
use super::layout::Layout;
use crate::base::atomics::Lock;
use crate::base::process::hold_off;
use std::sync::OnceLock;
use std::time::Duration;

/// What was found out; empty as long as nothing was.
pub(super) struct Verdict {
    pub(super) known: OnceLock<Result<Layout, Unsupported>>,
    pub(super) one_at_a_time: Lock<()>,
}

/// How often a refusal is tried again, after one millisecond, two, and so on: 210 in all, as Go does it for threads that
/// the kernel refuses.
const RETRIES: u64 = 20;

pub(super) static VERDICT: Verdict = Verdict { known: OnceLock::new(), one_at_a_time: Lock::new(()) };

impl Verdict {
    /// The verdict, by `find_out` if there is none yet. A refusal is none, and leaves the next call free to find out.
    pub(super) fn get(
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

/// The layout, if it was asked for before and can be had.
#[inline]
pub(super) fn layout_if_known() -> Option<&'static Layout> {
    VERDICT.known.get().and_then(|layout| layout.as_ref().ok())
}

/// The same without any cost, for code that has blocks.
pub(crate) fn known() -> &'static Layout {
    layout_if_known().expect("a block exists, so the layout is known")
}
