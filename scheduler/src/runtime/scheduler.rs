//! One runtime: start, spawn from outside, drain, shut down.
//!
//! Used by `gorun::runtime`. The steps of a shutdown:
//!
//! 1. phase ENDING: nothing more from outside. All live goroutines are told that the end has come, and those that are spawned
//!    inside are at birth, unless an exit path spawned them. So, before the first is aborted, nobody takes another's abort for
//!    an answer: one whose wait for others' ends comes back finds that it is to end too (`unwind_if_ending`);
//! 2. phase DRAINING: all that were told are aborted, or are at birth: each unwinds where it waits and takes its exit path;
//! 3. wait until none is left, at most for the grace period;
//! 4. phase STOPPING: the workers leave their loops when they next look, and are joined, unless something was
//!    left behind: then its worker may be the one that is stuck, and the threads and the memory stay;
//! 5. timers that are still pending are let go, and won't ring.

use crate::base::atomics::Lock;
use crate::base::membarrier;
use crate::base::process;
use crate::config::{Config, ConfigError, SpawnError, ThreadLocals};
use crate::goroutine::block::Goroutine;
use crate::goroutine::block::describe;
use crate::goroutine::handle::Handle;
use crate::goroutine::handle::for_each_live;
use crate::goroutine::runtime_head::STOPPING;
use crate::memory;
use crate::processor::core::Processor;
use crate::processor::shared::Shared;
use crate::processor::spares::Refused;
use crate::queue::run_queue::RunQueue;
use crate::runtime::monitor;
use crate::seat::seats::Seat;
use crate::shared_timer::timer::TimerHome;
use crate::timer::clock;
use crate::tls::{self, Refusal, Unsupported};
use crate::wait::ending::end_all;
use crate::worker::exit::run_to_end;
use crate::worker::fork;
use crate::worker::metrics::{self, Metrics};
use crate::worker::spawn::{Spec, spawn_on};
use crate::worker::state::Worker;
use crate::worker::thread_start;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A running scheduler. Dropping it drains and shuts it down within its configured grace period.
#[derive(Debug)]
pub struct Scheduler {
    shared: Arc<Shared>,
    monitor: Option<JoinHandle<()>>,
    down: bool,
}

// Nothing of what a panic may leave half done is behind it.
impl UnwindSafe for Scheduler {}
impl RefUnwindSafe for Scheduler {}

/// What a shutdown had to leave behind: handles of the goroutines that did not end.
#[derive(Debug)]
pub struct LeftBehind(pub Vec<Handle>);

/// A way to spawn into a scheduler from anywhere, for as long as it runs.
#[derive(Clone, Debug)]
pub struct Remote(Arc<Shared>);

impl Scheduler {
    /// Starts the workers and the monitor.
    ///
    /// # Errors
    /// When the configuration makes no sense or the kernel refuses a thread.
    ///
    /// ```
    /// use gorun_scheduler::{Config, Scheduler};
    /// let scheduler = Scheduler::start(Config { workers: 1, ..Config::from_env()? })?;
    /// assert_eq!(scheduler.remote().workers(), 1);
    /// assert!(Scheduler::start(Config { workers: 0, ..Config::from_env()? }).is_err());
    /// # Ok::<(), gorun_scheduler::ConfigError>(())
    /// ```
    pub fn start(config: Config) -> Result<Scheduler, ConfigError> {
        fork::watch().map_err(ConfigError::Thread)?;
        prepare_process();
        // That thread lives as long as the process, as the ids require.
        thread_start::begin(tls::begin_ids).map_err(ConfigError::Thread)?;
        let class_and_mode = config.check()?;
        let (workers, prefix) = (config.workers, config.thread_name.clone());
        let shared = Arc::new(Shared::new(config, class_and_mode, (start_worker, run_to_end)));
        // From here on a failure drops the scheduler, which stops and joins the threads that were started.
        let mut scheduler = Scheduler { shared, monitor: None, down: false };
        for _ in 0..workers {
            scheduler.shared.spares.bring_in(&scheduler.shared).map_err(|refused| match refused {
                Refused::Kernel(error) => ConfigError::Thread(error),
                other => ConfigError::Thread(std::io::Error::other(other.to_string())),
            })?;
        }
        let shared = scheduler.shared.clone();
        let monitor = thread_start::start_thread(format!("{prefix}-monitor"), Box::new(move || monitor::run(&shared)));
        scheduler.monitor = Some(monitor.map_err(ConfigError::Thread)?);
        Ok(scheduler)
    }

    /// A way to spawn from anywhere. It keeps the scheduler's memory, but does not keep it running.
    ///
    /// ```
    /// # use gorun_scheduler::{Config, Scheduler};
    /// let scheduler = Scheduler::start(Config { workers: 1, ..Config::from_env()? })?;
    /// let remote = scheduler.remote();
    /// assert_eq!(std::thread::spawn(move || remote.num_goroutines()).join().unwrap(), 0);
    /// # Ok::<(), gorun_scheduler::ConfigError>(())
    /// ```
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote(self.shared.clone())
    }

    /// The configured grace period.
    ///
    /// ```
    /// # use gorun_scheduler::{Config, Scheduler};
    /// # use std::time::Duration;
    /// let config = Config { workers: 1, grace: Duration::from_secs(3), ..Config::from_env()? };
    /// assert_eq!(Scheduler::start(config)?.grace(), Duration::from_secs(3));
    /// # Ok::<(), gorun_scheduler::ConfigError>(())
    /// ```
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.shared.config.grace
    }

    /// Ends every goroutine through its exit path and stops the workers. The module has the steps.
    ///
    /// # Errors
    /// [`LeftBehind`] when goroutines had not ended after `grace`; they are never resumed, or go on running on
    /// their worker's thread if that is where they are stuck, and their memory is never used again.
    ///
    /// # Panics
    /// When called on a goroutine of this very scheduler, which it would have to wait for.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// let scheduler = Scheduler::start(Config { workers: 1, ..Config::from_env().unwrap() }).unwrap();
    /// let waits: Job = Box::new(|| loop { yield_now() });
    /// // SAFETY: the entry takes a `Job` out of the payload.
    /// let waits = unsafe { scheduler.remote().spawn(&spec(), |payload| payload.cast::<Job>().write(waits)) }.unwrap();
    /// scheduler.shut_down(std::time::Duration::from_secs(10)).unwrap();
    /// assert!(waits.completion().is_finished());
    /// ```
    pub fn shut_down(mut self, grace: Duration) -> Result<(), LeftBehind> {
        self.end(grace)
    }

    fn end(&mut self, grace: Duration) -> Result<(), LeftBehind> {
        if std::mem::replace(&mut self.down, true) {
            return Ok(());
        }
        if process::is_parents(self.shared.head.process) {
            // Its goroutines run on in the parent. What they point at stays: locks that are held for ever are not dropped.
            std::mem::forget((self.shared.clone(), self.monitor.take()));
            return Ok(());
        }
        let inside = Processor::current().is_some_and(|p| Arc::ptr_eq(&p.shared, &self.shared));
        assert!(!inside, "gorun: a runtime can't be shut down by one of its own goroutines: it would wait for itself");
        end_all(&self.shared.head, |f| for_each_live(|handle| f(&handle)));
        let drained = self.shared.wait_drained(grace);
        self.shared.set_phase(STOPPING);
        // The monitor first: after it nobody brings in a worker.
        if let Some(monitor) = self.monitor.take() {
            monitor.thread().unpark();
            let _ = monitor.join();
        }
        self.shared.seats.iter().for_each(Seat::unpark);
        self.shared.spares.end(drained);
        // Those that are nobody's wait won't ring any more.
        self.shared.seats.iter().for_each(|seat| seat.timers.close());
        if drained {
            return Ok(());
        }
        let mut left = Vec::new();
        for_each_live(|handle| {
            let mine = self.shared.runs(handle.block());
            if mine && !handle.completion().is_finished() {
                left.push(handle);
            }
        });
        // Goroutines left behind may still be claimed and sent home: their runtime's memory has to stay.
        std::mem::forget(self.shared.clone());
        if left.is_empty() { Ok(()) } else { Err(LeftBehind(left)) }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let grace = self.shared.config.grace;
        let inside = Processor::current().is_some_and(|p| Arc::ptr_eq(&p.shared, &self.shared));
        if inside {
            // It can't wait for itself: the goroutines go on, the runtime stays.
            std::mem::forget(self.shared.clone());
            return;
        }
        let _left = self.end(grace);
    }
}

impl Remote {
    /// Spawns into the scheduler, from a goroutine of its own, of another one, or from a plain thread.
    ///
    /// # Safety
    /// As [`crate::spawn_here`].
    ///
    /// # Errors
    /// When the goroutine can't be had: see [`SpawnError`].
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// let remote = SCHEDULER.remote();
    /// let job: Job = Box::new(|| assert!(in_goroutine()));
    /// // SAFETY: the entry takes a `Job` out of the payload, and that is Send.
    /// let goroutine = unsafe { remote.spawn(&spec(), |payload| payload.cast::<Job>().write(job)) }.unwrap();
    /// join(&goroutine);
    /// ```
    pub unsafe fn spawn(&self, spec: &Spec, write: impl FnOnce(*mut u8)) -> Result<Handle, SpawnError> {
        let processor = Processor::current().filter(|p| Arc::ptr_eq(&p.shared, &self.0));
        // SAFETY: by the caller; the processor is the current one and of this runtime.
        unsafe { spawn_on(&self.0, processor, spec, write) }
    }

    /// One of the seats, in turn, for a timer of who has no goroutine.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// struct Tell(std::sync::mpsc::Sender<&'static str>);
    /// impl Alarm for Tell {
    ///     fn ring(&self, _due: Moment, _now: Moment) -> Rung {
    ///         self.0.send("it is time").unwrap();
    ///         Rung { wake: None, call: false, again: None }
    ///     }
    /// }
    /// let (tx, rx) = std::sync::mpsc::channel();
    /// Timer::new(SCHEDULER.remote().timer_home(), Tell(tx)).set(Moment::now(), |_, _| ());
    /// assert_eq!(rx.recv(), Ok("it is time"));
    /// ```
    #[must_use]
    pub fn timer_home(&self) -> TimerHome {
        TimerHome::on(self.0.seats.for_timer())
    }

    /// Live goroutines. A snapshot, never too low.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// let goroutine = go(|| assert!(Remote::current().unwrap().num_goroutines() >= 1));
    /// join(&goroutine);
    /// ```
    #[must_use]
    pub fn num_goroutines(&self) -> usize {
        usize::try_from(self.0.live()).unwrap_or(usize::MAX)
    }

    /// Counts, and what holds up workers. Costs a look at every worker's seat. A snapshot: what it says of one thing may be
    /// of a moment before what it says of the next.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// assert_eq!(SCHEDULER.remote().metrics().workers, 2);
    /// ```
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        metrics::look(&self.0)
    }

    /// Workers that run goroutines at a time.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// assert_eq!(SCHEDULER.remote().workers(), 2);
    /// ```
    #[must_use]
    pub fn workers(&self) -> usize {
        self.0.config.workers
    }

    /// Whose thread-locals its goroutines see, unless they say otherwise.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// let whose = SCHEDULER.remote().thread_locals();
    /// assert!(whose == ThreadLocals::Pinned || isolation().is_ok());
    /// ```
    #[must_use]
    pub fn thread_locals(&self) -> ThreadLocals {
        self.0.mode
    }

    /// The runtime of the current goroutine; `None` on a plain thread.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// assert!(Remote::current().is_none());
    /// join(&go(|| assert_eq!(Remote::current().unwrap().workers(), 2)));
    /// ```
    #[must_use]
    pub fn current() -> Option<Remote> {
        Processor::current().map(|p| Remote(p.shared.clone()))
    }
}

/// What is done once for the process, and wholly: no fork happens meanwhile (R2 in `process`).
fn prepare_process() {
    let _held_off = process::hold_off();
    memory::set_describe(describe_overflow);
    memory::install_overflow_report();
    membarrier::register();
    memory::guards_need_mappings();
    clock::now();
}

/// Whether goroutines can have thread-locals of their own in this process, or why not. The first call finds out, which
/// takes about a millisecond; the answer stays the same, unless it is that the system had no thread or no memory to find out
/// with: then the next call tries again.
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
    // What is found out here must not be left half done by a fork of another thread (R2 in `process`), and no runtime may have
    // started yet. If there is no memory to register that, the first runtime to start says so.
    let _watched = fork::watch();
    tls::layout().map(drop).map_err(Refusal::into_reason)
}

/// See [`crate::processor::spares::Start`].
fn start_worker(
    shared: &Arc<Shared>,
    index: usize,
    queue: RunQueue,
) -> Result<JoinHandle<()>, (std::io::Error, RunQueue)> {
    let (shared, queue) = (shared.clone(), Arc::new(Lock::new(Some(queue))));
    let name = format!("{}-worker-{index}", shared.config.thread_name);
    let taken = queue.clone();
    // The processor is built on its worker's thread: it is not Send.
    let body = move || {
        let queue = taken.lock().take().expect("one thread takes it");
        clock::wake_in_time();
        Worker::new(Processor::new(shared, index, queue)).run();
    };
    let thread = thread_start::start_thread(name, Box::new(body));
    thread.map_err(|error| (error, queue.lock().take().expect("no thread has taken it")))
}

/// For the overflow report. In a signal handler: reads memory, allocates nothing.
fn describe_overflow(top: usize, out: &mut memory::Report) {
    match crate::stack::coroutine::goroutine_at(top) {
        None => out.write_str("<inside gorun::grow>"),
        // SAFETY: the body of every stack is given goroutines, whose blocks are type-stable.
        Some(g) => describe(unsafe { &*g.cast::<Goroutine>() }, out),
    }
}
