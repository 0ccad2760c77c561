//! A time that is so far from now.
//!
//! Used by all timers.

use gorun_scheduler::Moment;
use std::time::Duration;

/// In `duration` from now; beyond what the clock can say, in hundreds of years.
pub(super) fn in_time(duration: Duration) -> Moment {
    Moment::now().after(duration)
}
