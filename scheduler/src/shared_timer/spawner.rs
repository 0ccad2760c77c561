//! Lets a timer start a goroutine when it fires.
//!
//! Made by `timer` for an [`Alarm::call`](crate::Alarm::call), on the worker that fires the timer.

use crate::config::SpawnError;
use crate::goroutine::handle::Handle;
use crate::processor::core::Processor;
use crate::worker::spawn::{Spec, spawn_on};

/// A handle to the worker on which a timer is called; starts goroutines there.
#[derive(Debug)]
pub struct Spawner<'a>(&'a Processor);

impl<'a> Spawner<'a> {
    pub(super) fn on(processor: &'a Processor) -> Spawner<'a> {
        Spawner(processor)
    }

    /// Starts a goroutine, which inherits nothing, because no goroutine starts it.
    ///
    /// # Safety
    /// As [`crate::spawn_here`].
    ///
    /// # Errors
    /// If the goroutine can't be started: see [`SpawnError`].
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// struct Start(std::sync::mpsc::Sender<bool>);
    /// impl Alarm for Start {
    ///     fn ring(&self, _due: Moment, _now: Moment) -> Rung { Rung { wake: None, call: true, again: None } }
    ///     fn call(timer: Timer<Start>, spawner: &Spawner<'_>) {
    ///         let tell = timer.alarm().0.clone();
    ///         let job: Job = Box::new(move || tell.send(in_goroutine()).unwrap());
    ///         // SAFETY: the entry takes a `Job` out of the payload, and that is Send.
    ///         unsafe { spawner.spawn(&spec(), |payload| payload.cast::<Job>().write(job)) }.unwrap();
    ///     }
    /// }
    /// let (tx, rx) = std::sync::mpsc::channel();
    /// Timer::new(SCHEDULER.remote().timer_home(), Start(tx)).set(Moment::now(), |_, _| ());
    /// assert_eq!(rx.recv(), Ok(true));
    /// ```
    pub unsafe fn spawn(&self, spec: &Spec, write: impl FnOnce(*mut u8)) -> Result<Handle, SpawnError> {
        // SAFETY: by the caller; the processor is the current one.
        unsafe { spawn_on(&self.0.shared, Some(self.0), spec, write) }
    }
}
