//! Decides how many workers replace stuck ones and how fast, and reports when none can be had.
//!
//! Used by `monitor`, which passes on what it has seen after each of its looks; `spares` has the workers.
//!
//! * **Pace.** The configured number of workers should attend. If at one look after another that many are found stuck, and
//!   have not run at all meanwhile, then most likely hundreds of goroutines will block in turn, and those queued behind
//!   them would wait for twenty milliseconds for each pair. So beyond [`MANY`], the number wanted doubles each time, up to
//!   [`MOST_AHEAD`] more, until for some looks they are not needed. This does not apply to goroutines that block repeatedly
//!   for a few milliseconds: their threads run now and then.
//! * **One more worker** attends while dozens are stuck, for goroutines that have begun (V3 in `spares`); and while something
//!   is held back, one for each that attends on a thread where somebody waits in a panic (D3 in `abort_shields`).
//! * **A refusal** is retried after a delay that doubles each time, up to [`RETRY`]: a limit may be lifted, and threads may
//!   end.
//! * **Each report** is printed once on standard error. The first refusal by the system, or a cap that has been reached for
//!   [`PATIENCE`], reports why there are no threads, what helps, and where the goroutines that hold up most workers were
//!   spawned; so does the moment when [`HUNDREDS`] are stuck.

use crate::base::report::{Once, tell};
use crate::memory;
use crate::processor::shared::Shared;
use crate::processor::spares::Refused;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// So many stuck ones are many: from here on the pace may grow.
const MANY: usize = 32;
/// Workers that may attend beyond the configured number.
const MOST_AHEAD: usize = 64;
/// Looks after which the pace goes down again.
const CALM: u32 = 16;
/// So many stuck ones are worth a word.
const HUNDREDS: usize = 256;
const RETRY: Duration = Duration::from_millis(250);
const FIRST_RETRY: Duration = Duration::from_millis(10);
/// How long a goroutine may hold up what is waiting, where the program has said that there be no more threads.
const PATIENCE: Duration = Duration::from_secs(1);
/// Spawn sites that a report names.
const SITES: usize = 3;

#[derive(Debug, Default)]
pub(crate) struct Replacing {
    /// So many more are wanted than were configured.
    ahead: usize,
    /// Workers that were found blocked since that last changed, and looks.
    blocked: usize,
    looks: u32,
    /// When a refused attempt is made again, and how long after the last one, in the timers' nanoseconds.
    retry_at: u64,
    retry: Duration,
    /// Since when the cap is in the way.
    capped_since: Option<u64>,
    told_of_hundreds: Once,
}

/// What the monitor has seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// In the timers' nanoseconds.
    pub(crate) now: u64,
    /// Something is there that a worker could run.
    pub(crate) waiting: bool,
    /// Goroutines are held back (V3 in `spares`, D3 in `abort_shields`).
    pub(crate) held: bool,
    /// So many attend where somebody waits in the middle of a panic (D3).
    pub(crate) in_panic: usize,
    /// So many workers were found stuck in this look that had not run since the last one.
    pub(crate) blocked: usize,
}

impl Replacing {
    /// After a look.
    pub(crate) fn see(&mut self, shared: &Arc<Shared>, seen: Seen) {
        let spares = &shared.spares;
        let dozens = spares.see_to_care(memory::guards_came_late());
        self.set_pace(shared, seen);
        let in_panic = if seen.held { seen.in_panic } else { 0 };
        want(shared, shared.config.workers + in_panic + usize::from(dozens) + self.ahead);
        let (attend, stuck) = spares.crew();
        if stuck >= HUNDREDS && self.told_of_hundreds.is_first() {
            tell_of(shared, &format!("{stuck} threads are held up by goroutines that compute or block"), HINT);
        }
        // Whoever sleeps can be woken for it; but what is held back is so because too few are free.
        let needed = (seen.waiting && !shared.idle.any_awaits_work()) || seen.held;
        if needed && attend < spares.wanted() {
            self.bring_in(shared, seen.now, spares.wanted() - attend);
        } else if !seen.waiting {
            self.capped_since = None;
        }
    }

    /// All sleep, and nobody is stuck: whoever is one too many retires.
    pub(crate) fn rest(&mut self, shared: &Shared) {
        *self = Replacing { told_of_hundreds: std::mem::take(&mut self.told_of_hundreds), ..Replacing::default() };
        let _dozens = shared.spares.see_to_care(memory::guards_came_late());
        want(shared, shared.config.workers);
    }

    fn set_pace(&mut self, shared: &Shared, seen: Seen) {
        self.looks += 1;
        if seen.waiting || seen.held {
            self.blocked += seen.blocked;
        }
        if self.blocked >= shared.spares.wanted() && shared.spares.stuck() >= MANY {
            self.ahead = (self.ahead * 2).clamp(shared.config.workers, MOST_AHEAD.max(shared.config.workers));
        } else if self.looks >= CALM {
            self.ahead /= 2;
        } else {
            return;
        }
        (self.looks, self.blocked) = (0, 0);
    }

    fn bring_in(&mut self, shared: &Arc<Shared>, now: u64, missing: usize) {
        if now < self.retry_at {
            return;
        }
        for _ in 0..missing {
            match shared.spares.bring_in(shared) {
                Ok(()) => (self.retry, self.capped_since) = (Duration::ZERO, None),
                Err(refused) => {
                    self.retry = (self.retry * 2).clamp(FIRST_RETRY, RETRY);
                    self.retry_at = now.saturating_add(self.retry.as_nanos() as u64);
                    let since = *self.capped_since.get_or_insert(now);
                    let patient = matches!(refused, Refused::Cap) && now - since < PATIENCE.as_nanos() as u64;
                    if !patient && shared.told_of_refusal.is_first() {
                        tell_of(
                            shared,
                            &format!("no further thread for waiting goroutines: {refused}"),
                            remedy(&refused),
                        );
                    }
                    return;
                }
            }
        }
    }
}

/// So many are to attend. If that are fewer than before, one of those that sleep is woken, sees that it is one too many, and
/// wakes the next one. Not again and again: it may be the home of pinned goroutines, and stay.
fn want(shared: &Shared, workers: usize) {
    let fewer = workers < shared.spares.wanted();
    shared.spares.want(workers);
    if fewer && shared.spares.crew().0 > workers {
        shared.notify();
    }
}

/// For a goroutine that is to have a thread of its own and can't: said once for the runtime.
pub(crate) fn tell_of_lock(shared: &Shared, refused: &Refused) {
    if shared.told_of_refusal.is_first() {
        let what = format!(
            "a goroutine waits in lock_os_thread, because the other goroutines would need another thread: {refused}"
        );
        tell_of(shared, &what, remedy(refused));
    }
}

const HINT: &str = "Each keeps its thread until it calls gorun. GORUN_SPARE_WORKERS limits these threads";

fn remedy(refused: &Refused) -> &'static str {
    match refused {
        Refused::Cap => "Raise GORUN_SPARE_WORKERS or runtime::Builder::spare_workers",
        Refused::Seats => "Use several runtimes, or lock fewer threads",
        Refused::Kernel(_) => {
            "See ulimit -u and -v, the cgroup's pids.max and kernel.threads-max. gorun keeps trying; goroutines that need no further thread go on"
        }
    }
}

fn tell_of(shared: &Shared, what: &str, remedy: &str) {
    let (count, sites) = blockers(shared);
    let mut text = format!("gorun: {what}. {remedy}.");
    if count > 0 {
        let _ = write!(text, " {count} workers are stuck in goroutines spawned at");
        for (n, (site, times)) in sites.iter().enumerate() {
            let _ = write!(text, "{} {site} ({times})", if n == 0 { "" } else { "," });
        }
        text.push_str(if sites.len() < SITES { "." } else { ", ..." });
    }
    tell(&text);
}

/// How many stuck workers' goroutines are known, and where most of them were spawned.
fn blockers(shared: &Shared) -> (usize, Vec<(String, usize)>) {
    let mut sites = std::collections::BTreeMap::<String, usize>::new();
    let stuck = crate::worker::metrics::long_running(shared);
    stuck.iter().for_each(|long| *sites.entry(long.goroutine.spawned_at().to_string()).or_default() += 1);
    let mut sites: Vec<_> = sites.into_iter().collect();
    sites.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    sites.truncate(SITES);
    (stuck.len(), sites)
}
