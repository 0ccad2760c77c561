//! What timers do when it is time: send the time to a channel, once or again and again, or start a goroutine.
//!
//! Used by `timer` and `ticker`, and for deadlines by `context`. The scheduler calls [`Alarm::ring`] under the lock of
//! its timers, which is also held where a timer is stopped or set. That is what makes Go 1.23's promise easy to keep:
//!
//! * **A1.** A value goes into the channel, and what is stale comes out of it, under the timers' lock only. So after a
//!   stop or a reset there is no value of before. (A future that had got one and is dropped puts it back, whenever that
//!   may be: the channel knows up to which one values are stale, and lets them go. Hence of two values the later one is
//!   the greater one.)
//! * **A2.** The channel has room for one value, so a sender never waits in it, and taking a value wakes nobody.
//! * **A3.** The function of a timer is called, and dropped if the timer ends with it, on the goroutine it was started
//!   as; else it is dropped by whoever stops the timer, drops its last handle, or ends its runtime.
//!
//! The channel keeps the timer, and the timer does not keep the channel: the last receiver's drop stops the one and ends
//! both.

use crate::chan::{Receiver, Tick, TimerEnd, channel_of_timer};
use crate::default_runtime::default_remote;
use crate::join::{JoinHandle, erase};
use gorun_scheduler::{
    Alarm, Moment, Rung, SpawnError, Spawner, Spec, Started, Timer, TimerHome, WeakTimer, process, start_thread, tell,
};
use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long after a goroutine could not be had it is tried again.
const AGAIN: Duration = Duration::from_millis(10);

/// Where a timer of the caller's is made.
pub(super) fn home() -> TimerHome {
    TimerHome::here().unwrap_or_else(default_home)
}

/// Where a plain thread's is.
pub(super) fn default_home() -> TimerHome {
    default_remote().timer_home()
}

/// Sends the time.
pub(super) struct SendTime {
    end: TimerEnd,
    // The rest under the timers' lock.
    /// Nanoseconds; 0: once.
    period: AtomicU64,
    /// The last value that was sent.
    last: AtomicU64,
    /// True if one was sent after what was stale was taken back.
    sent: AtomicBool,
}

/// A timer that sends the time, and where it sends it.
pub(super) struct ChannelTimer {
    // The receiver goes first: it may be the last one, and then stops the timer.
    pub(super) receiver: Receiver<Instant>,
    timer: Timer<SendTime>,
}

impl ChannelTimer {
    pub(super) fn new(home: TimerHome) -> ChannelTimer {
        let (sender, receiver) = channel_of_timer();
        let alarm = SendTime {
            end: TimerEnd::new(sender),
            period: AtomicU64::new(0),
            last: AtomicU64::new(0),
            sent: AtomicBool::new(false),
        };
        let timer = Timer::new(home, alarm);
        receiver.sent_by(timer.stopper());
        ChannelTimer { receiver, timer }
    }

    /// Lets one that nobody else knows yet be as if it had been set to `at` before: then that has happened to it which
    /// would have happened.
    pub(super) fn start(&self, at: Moment) {
        match self.timer.start(at) {
            Started::Pending => {}
            // A1: there is nobody who could stop it at the same time, nor anybody to be woken.
            Started::Due => _ = self.timer.alarm().send(at),
            Started::Ended => self.timer.alarm().end(),
        }
    }

    /// Sends at `at`, and then every `period` if there is one. `true` if a value was still to come, or not received
    /// yet: it won't be.
    pub(super) fn set(&self, at: Moment, period: Option<Duration>) -> bool {
        let period = period.map_or(0, |p| u64::try_from(p.as_nanos()).unwrap_or(u64::MAX));
        self.timer.set(at, |alarm, pending| {
            // Relaxed: under the timers' lock.
            alarm.period.store(period, Ordering::Relaxed);
            self.take_back(alarm) || pending
        })
    }

    /// As `set`, without a new time.
    pub(super) fn stop(&self) -> bool {
        self.timer.stop(|alarm, pending| self.take_back(alarm) || pending)
    }

    /// The receiver alone, whose last clone keeps the timer going.
    pub(super) fn into_receiver(self) -> Receiver<Instant> {
        self.receiver
    }

    /// A1.
    fn take_back(&self, alarm: &SendTime) -> bool {
        // Relaxed, both: under the timers' lock.
        if !alarm.sent.load(Ordering::Relaxed) {
            return false;
        }
        alarm.sent.store(false, Ordering::Relaxed);
        self.receiver.take_back(alarm.last.load(Ordering::Relaxed))
    }
}

impl SendTime {
    /// Under the timers' lock (A1).
    fn send(&self, now: Moment) -> Tick {
        // Relaxed, all: under the timers' lock. Two that ring at the same nanosecond, with a stop in between, are told
        // apart.
        let value = now.number().max(self.last.load(Ordering::Relaxed) + 1);
        self.last.store(value, Ordering::Relaxed);
        self.sent.store(true, Ordering::Relaxed);
        self.end.send(Moment::from_number(value).into())
    }
}

impl Alarm for SendTime {
    fn ring(&self, due: Moment, now: Moment) -> Rung {
        let (wake, call) = match self.send(now) {
            Tick::Taken(wake, watched) => (wake, watched),
            Tick::Late => (None, false),
            Tick::Closed => return Rung { wake: None, call: false, again: None },
        };
        // Relaxed: under the timers' lock.
        let period = self.period.load(Ordering::Relaxed);
        Rung { wake, call, again: (period != 0).then(|| following(due, now, period)) }
    }

    fn call(timer: Timer<SendTime>, _spawner: &Spawner<'_>) {
        timer.alarm().end.tell_watchers();
    }

    fn end(&self) {
        self.end.close();
    }
}

/// The first of `due + n * period` that is after `now`: ticks that nobody could have seen are left out, and those that
/// come keep to the grid.
fn following(due: Moment, now: Moment, period: u64) -> Moment {
    let late = now.number().saturating_sub(due.number());
    now.after(Duration::from_nanos(period - late % period))
}

/// Starts a goroutine.
pub(crate) struct StartFunc {
    f: Box<dyn Fn() + Send + Sync>,
    /// Called instead, on the thread that ends the runtime, if the runtime ends first.
    at_the_end: Option<Box<dyn Fn() + Send + Sync>>,
    site: &'static Location<'static>,
    /// Where it is called.
    process: u64,
}

/// A timer that starts a goroutine.
#[derive(Clone)]
pub(crate) struct FuncTimer(Timer<StartFunc>);

/// The same, not kept by this reference.
pub(crate) struct WeakFuncTimer(WeakTimer<StartFunc>);

impl FuncTimer {
    #[track_caller]
    pub(crate) fn new(f: impl Fn() + Send + Sync + 'static) -> FuncTimer {
        FuncTimer::with(f, None)
    }

    /// Like `new`, for a deadline, with functions that wait for nobody; calls `at_the_end` if the timer's runtime ends while it
    /// is pending. The goroutines that have all the stacks may be waiting for the deadline, so it must not need one: where none
    /// can be had, a thread calls the function.
    #[track_caller]
    pub(crate) fn or_at_the_end(
        f: impl Fn() + Send + Sync + 'static,
        at_the_end: impl Fn() + Send + Sync + 'static,
    ) -> FuncTimer {
        FuncTimer::with(f, Some(Box::new(at_the_end)))
    }

    #[track_caller]
    fn with(f: impl Fn() + Send + Sync + 'static, at_the_end: Option<Box<dyn Fn() + Send + Sync>>) -> FuncTimer {
        let alarm = StartFunc { f: Box::new(f), at_the_end, site: Location::caller(), process: process() };
        FuncTimer(Timer::new(home(), alarm))
    }

    /// In the child of a fork, which has nobody to look after a deadline of before: the same anew.
    #[track_caller]
    pub(crate) fn renew_deadline(self) -> FuncTimer {
        let end = self.clone();
        FuncTimer::or_at_the_end(move || (self.0.alarm().f)(), move || end.0.alarm().end())
    }

    /// Returns true in the child of a fork, if the timer was made before.
    pub(crate) fn is_parents(&self) -> bool {
        self.0.alarm().process != process()
    }

    /// Returns true if it was pending.
    pub(crate) fn set(&self, at: impl Into<Moment>) -> bool {
        self.0.set(at.into(), |_, pending| pending)
    }

    /// Returns true if it was pending.
    pub(crate) fn stop(&self) -> bool {
        self.0.stop(|_, pending| pending)
    }

    pub(crate) fn downgrade(&self) -> WeakFuncTimer {
        WeakFuncTimer(self.0.downgrade())
    }
}

impl WeakFuncTimer {
    pub(crate) fn upgrade(&self) -> Option<FuncTimer> {
        self.0.upgrade().map(FuncTimer)
    }

    pub(crate) fn stop(&self) {
        if let Some(timer) = self.0.upgrade() {
            timer.stop(|_, _| ());
        }
    }
}

impl Alarm for StartFunc {
    fn ring(&self, _due: Moment, _now: Moment) -> Rung {
        Rung { wake: None, call: true, again: None }
    }

    fn end(&self) {
        if let Some(f) = &self.at_the_end {
            f();
        }
    }

    fn call(timer: Timer<StartFunc>, spawner: &Spawner<'_>) {
        let site = timer.alarm().site;
        // Weak: if the goroutine is quick a strong one would be the last, and drop the function here (A3).
        let again = timer.downgrade();
        // SAFETY: the closure is Send and 'static.
        let (entry, write, take) = unsafe { erase(move || (timer.alarm().f)(), ()) };
        let mut write = Some(write);
        let spec = Spec { entry, name: None, stack_size: None, thread_locals: None, inherits: true, site };
        // SAFETY: `write` and `entry` are of the same types.
        let spawned = unsafe {
            spawner.spawn(&spec, |payload| {
                if let Some(write) = write.take() {
                    write(payload);
                }
            })
        };
        match spawned {
            Ok(handle) => drop(JoinHandle::new(handle, take)),
            // No stack now. Whoever set the timer can't be told any more, so the call is late instead of lost. If the timer
            // was set meanwhile the two calls become one.
            Err(error) => {
                if let Some(timer) = again.upgrade()
                    && !(timer.alarm().at_the_end.is_some() && on_thread(&timer))
                {
                    tell_once(&error);
                    timer.set_unless_pending(Moment::now().after(AGAIN));
                }
                drop(write);
            }
        }
    }
}

/// Has the function called by a thread of its own. False if there is none to be had.
fn on_thread(timer: &Timer<StartFunc>) -> bool {
    let timer = timer.clone();
    start_thread("gorun-deadline".to_owned(), Box::new(move || (timer.alarm().f)())).is_ok()
}

fn tell_once(error: &SpawnError) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    // Relaxed: nothing is published with it.
    if !TOLD.swap(true, Ordering::Relaxed) {
        tell(&format!("gorun: the function of a timer is called late, when there is a stack for it: {error}"));
    }
}

impl fmt::Debug for WeakFuncTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakFuncTimer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_receiver_takes_its_timer_along() {
        let ChannelTimer { receiver, timer } = ChannelTimer::new(home());
        timer.set(Moment::now().after(Duration::from_secs(3600)), |_, _| ());
        let clone = receiver.clone();
        drop(receiver);
        assert!(timer.stop(|_, pending| pending), "one is left");
        timer.set(Moment::now().after(Duration::from_secs(3600)), |_, _| ());
        let kept = timer.downgrade();
        drop(timer);
        assert!(kept.upgrade().is_some(), "the channel keeps it");
        drop(clone);
        assert!(kept.upgrade().is_none(), "nothing keeps it");
    }

    #[test]
    fn a_stopped_function_is_dropped_with_its_handle() {
        let timer = FuncTimer::new(|| ());
        timer.set(Moment::now().after(Duration::from_secs(3600)));
        let kept = timer.downgrade();
        drop(timer);
        let timer = FuncTimer(kept.0.upgrade().expect("it is pending"));
        assert!(timer.stop());
        drop(timer);
        assert!(kept.0.upgrade().is_none());
    }

    #[test]
    fn ticks_keep_to_the_grid() {
        let start = Moment::now();
        let at = |ms| start.after(Duration::from_millis(ms));
        let period = 10_000_000;
        assert_eq!(following(at(10), at(10), period), at(20));
        assert_eq!(following(at(10), at(13), period), at(20), "late, and no drift");
        assert_eq!(following(at(10), at(20), period), at(30), "one was missed");
        assert_eq!(following(at(10), at(45), period), at(50), "three were missed");
    }
}
