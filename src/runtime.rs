//! Runtimes: the default one for plain threads, separate ones side by side, `run(main)`, start and shutdown.
#![doc = include_str!("runtime_end.md")]

mod metrics;

use crate::go::Builder as GoBuilder;
use crate::join::JoinHandle;
use gorun_scheduler::{Config, GoroutineId, Scheduler, SpawnError};
use std::fmt;
use std::io::Write;
use std::panic::Location;
use std::time::Duration;

pub use metrics::{LongRunning, Metrics, default_metrics, metrics};

pub use gorun_scheduler::{ConfigError as BuildError, ThreadLocals, Unsupported, isolation};

/// Runs `main` as the main goroutine of a runtime of its own and returns its value, after every other goroutine
/// has gone through its exit path.
///
/// When `main` has ended, the goroutines that are left are aborted: they unwind where they wait, run their at-exit handlers
/// and drop their storage. Goroutines that have not ended within the grace period (10 s; [`Builder::grace`]) are left
/// behind and named on standard error. (With `panic = "abort"` nothing can unwind: goroutines that have begun just stop, as
/// in Go.) What plain threads spawn with [`go`](crate::go) runs in the default runtime.
///
/// Settings come from the environment: `GORUN_MAXPROCS` (workers), `GORUN_SPARE_WORKERS` (threads more, while workers are
/// stuck), `GORUN_STACK_SIZE` (bytes), `GORUN_THREAD_LOCALS` (`isolated`, `pinned` or `auto`).
///
/// # Panics
/// When `main` panics (with its payload), was ended by [`goexit`](crate::goexit), or the runtime can't start.
///
/// ```
/// assert_eq!(gorun::run(|| gorun::go(|| 1 + 1).join().unwrap()), 2);
/// ```
#[track_caller]
pub fn run<F, T>(main: F) -> T
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    match Builder::new().build() {
        Ok(runtime) => runtime.run(main),
        Err(error) => panic!("gorun::run: {error}"),
    }
}

/// Settings of a runtime.
///
/// ```
/// let runtime = gorun::runtime::Builder::new().workers(2).build()?;
/// let sum = runtime.go(|| 1 + 1)?;
/// assert_eq!(sum.join().unwrap(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    workers: Option<usize>,
    spare_workers: Option<usize>,
    stack_size: Option<usize>,
    warm_stacks: Option<usize>,
    idle_stacks: Option<Duration>,
    thread_locals: Option<ThreadLocals>,
    grace: Option<Duration>,
    thread_name: Option<String>,
}

impl Builder {
    /// What the environment says, else the defaults.
    ///
    /// ```
    /// assert!(gorun::runtime::Builder::new().build()?.workers() >= 1);
    /// # Ok::<(), gorun::runtime::BuildError>(())
    /// ```
    #[must_use]
    pub fn new() -> Builder {
        Builder::default()
    }

    /// The number of worker threads, from 1 to 1024. Default: `GORUN_MAXPROCS`, else the parallelism available to the
    /// process (CPU affinity and cgroup quota included).
    /// ```
    /// assert_eq!(gorun::runtime::Builder::new().workers(2).build()?.workers(), 2);
    /// assert!(gorun::runtime::Builder::new().workers(0).build().is_err());
    /// # Ok::<(), gorun::runtime::BuildError>(())
    /// ```
    #[must_use]
    pub fn workers(mut self, n: usize) -> Builder {
        self.workers = Some(n);
        self
    }

    /// The maximum number of threads that stand in for workers stuck in goroutines that compute or block. Default:
    /// `GORUN_SPARE_WORKERS`, else 10,000, a safety limit. With 0, such a goroutine holds up its worker. Each takes 2 MiB
    /// of address space (`RUST_MIN_STACK`). The last one is for goroutines that have begun. Locked threads do not count.
    ///
    /// ```
    /// let runtime = gorun::runtime::Builder::new().workers(1).spare_workers(8).build()?;
    /// assert_eq!(runtime.metrics().spare_workers, 8);
    /// # Ok::<(), gorun::runtime::BuildError>(())
    /// ```
    #[must_use]
    pub fn spare_workers(mut self, n: usize) -> Builder {
        self.spare_workers = Some(n);
        self
    }

    /// Stack bytes of a goroutine. Default: `GORUN_STACK_SIZE`, else 1 MiB and 64 KiB.
    ///
    /// See [`gorun::Builder::stack_size`](crate::Builder::stack_size) for what a size costs.
    ///
    /// ```
    /// let runtime = gorun::runtime::Builder::new().workers(1).stack_size(2 << 20).build()?;
    /// assert_eq!(runtime.run(|| std::hint::black_box([1u8; 1 << 20]).len()), 1 << 20);
    /// # Ok::<(), gorun::runtime::BuildError>(())
    /// ```
    #[must_use]
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = Some(bytes);
        self
    }

    /// How many free stacks each worker keeps with their pages for good; what is beyond gives its pages back when it was not
    /// needed for a while ([`Builder::idle_stacks`]). Default 256; with 0 no stack is ever used twice.
    ///
    /// ```
    /// // Memory matters more than the speed of the next spawn.
    /// let runtime = gorun::runtime::Builder::new().workers(1).warm_stacks(4).build()?;
    /// assert_eq!(runtime.run(|| 1), 1);
    /// # Ok::<(), gorun::runtime::BuildError>(())
    /// ```
    #[must_use]
    pub fn warm_stacks(mut self, n: usize) -> Builder {
        self.warm_stacks = Some(n);
        self
    }

    /// How long free stacks beyond the [warm](Builder::warm_stacks) ones keep their pages while nobody needs them, at least; at
    /// most about twice as long, and then some 100,000 give them back in a second. Default one second; with zero at once.
    ///
    /// ```
    /// // Bursts of goroutines, minutes apart, and memory enough.
    /// let keep = std::time::Duration::from_secs(300);
    /// let runtime = gorun::runtime::Builder::new().workers(1).idle_stacks(keep).build()?;
    /// assert_eq!(runtime.run(|| 1), 1);
    /// # Ok::<(), gorun::runtime::BuildError>(())
    /// ```
    #[must_use]
    pub fn idle_stacks(mut self, keep: Duration) -> Builder {
        self.idle_stacks = Some(keep);
        self
    }

    /// The thread-locals that goroutines see, unless their own builder overrides it. Default: `GORUN_THREAD_LOCALS`
    /// (`isolated`, `pinned` or `auto`); else their own where that is available ([`isolation`]), and otherwise their
    /// worker's. In the last case a line on standard error says so, once, unless the variable is `auto`.
    ///
    /// ```
    /// use gorun::runtime::{Builder, ThreadLocals};
    ///
    /// let runtime = Builder::new().workers(1).thread_locals(ThreadLocals::Pinned).build()?;
    /// assert_eq!(runtime.thread_locals(), ThreadLocals::Pinned);
    /// # Ok::<(), gorun::runtime::BuildError>(())
    /// ```
    #[must_use]
    pub fn thread_locals(mut self, whose: ThreadLocals) -> Builder {
        self.thread_locals = Some(whose);
        self
    }

    /// How long a shutdown waits for goroutines to end. Default 10 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// let runtime = gorun::runtime::Builder::new().workers(1).grace(Duration::from_secs(60)).build()?;
    /// assert_eq!(runtime.run(|| 1), 1);
    /// # Ok::<(), gorun::runtime::BuildError>(())
    /// ```
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Builder {
        self.grace = Some(grace);
        self
    }

    /// Prefix of the names of the runtime's threads. Default "gorun".
    ///
    /// ```
    /// let runtime = gorun::runtime::Builder::new().workers(1).thread_name("io").build()?;
    /// // Of the kernel's thread: "io-worker-0".
    /// let name = runtime.run(|| std::fs::read_to_string("/proc/thread-self/comm").unwrap_or_default());
    /// assert!(name.is_empty() || name.starts_with("io-worker-"));
    /// # Ok::<(), gorun::runtime::BuildError>(())
    /// ```
    #[must_use]
    pub fn thread_name(mut self, prefix: impl Into<String>) -> Builder {
        self.thread_name = Some(prefix.into());
        self
    }

    /// Starts the runtime.
    ///
    /// # Errors
    /// [`BuildError`] when a setting or an environment variable makes no sense, or the kernel refuses a thread.
    ///
    /// ```
    /// let runtime = gorun::runtime::Builder::new().workers(1).build()?;
    /// assert_eq!(runtime.run(|| 6 * 7), 42);
    /// let error = gorun::runtime::Builder::new().workers(1_000_000).build().unwrap_err();
    /// assert!(error.to_string().contains("1000000 workers"));
    /// # Ok::<(), gorun::runtime::BuildError>(())
    /// ```
    pub fn build(self) -> Result<Runtime, BuildError> {
        let mut config = Config::from_env()?;
        config.workers = self.workers.unwrap_or(config.workers);
        config.spare_workers = self.spare_workers.unwrap_or(config.spare_workers);
        config.stack_size = self.stack_size.unwrap_or(config.stack_size);
        config.warm_stacks = self.warm_stacks.unwrap_or(config.warm_stacks);
        config.idle_stacks = self.idle_stacks.unwrap_or(config.idle_stacks);
        config.thread_locals = self.thread_locals.or(config.thread_locals);
        config.grace = self.grace.unwrap_or(config.grace);
        config.thread_name = self.thread_name.unwrap_or(config.thread_name);
        Ok(Runtime { scheduler: Scheduler::start(config)? })
    }
}

/// A runtime of its own: workers, queues, goroutines. Dropping it shuts it down within its grace period.
#[derive(Debug)]
pub struct Runtime {
    scheduler: Scheduler,
}

impl Runtime {
    /// As [`gorun::go`](crate::go), on this runtime, whoever calls. When the inherit hook of a goroutine-local panics, so
    /// does this.
    ///
    /// # Errors
    /// [`SpawnError`] when the goroutine can't be had; `f` is dropped then.
    ///
    /// ```
    /// let runtime = gorun::runtime::Builder::new().workers(1).build()?;
    /// assert_eq!(runtime.go(|| 1 + 1)?.join().unwrap(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn go<F, T>(&self, f: F) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: Send and 'static.
        unsafe { GoBuilder::new().spawn(Some(&self.scheduler.remote()), f) }
    }

    /// A snapshot of counts, and of the goroutines that hold up their worker.
    ///
    /// ```
    /// let runtime = gorun::runtime::Builder::new().workers(2).build()?;
    /// let metrics = runtime.metrics();
    /// assert_eq!((metrics.workers, metrics.goroutines), (2, 0));
    /// # Ok::<(), gorun::runtime::BuildError>(())
    /// ```
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::of(&self.scheduler.remote())
    }

    /// Workers that run goroutines at a time.
    ///
    /// ```
    /// assert_eq!(gorun::runtime::Builder::new().workers(3).build()?.workers(), 3);
    /// # Ok::<(), gorun::runtime::BuildError>(())
    /// ```
    #[must_use]
    pub fn workers(&self) -> usize {
        self.scheduler.remote().workers()
    }

    /// Whose thread-locals its goroutines see, unless they say otherwise: what is in force.
    ///
    /// ```
    /// use gorun::runtime::{Builder, ThreadLocals, isolation};
    /// let runtime = Builder::new().workers(1).build()?;
    /// assert!(isolation().is_ok() || runtime.thread_locals() == ThreadLocals::Pinned);
    /// # Ok::<(), gorun::runtime::BuildError>(())
    /// ```
    #[must_use]
    pub fn thread_locals(&self) -> ThreadLocals {
        self.scheduler.remote().thread_locals()
    }

    /// Live goroutines. A snapshot.
    ///
    /// ```
    /// let runtime = gorun::runtime::Builder::new().workers(1).build()?;
    /// assert_eq!(runtime.num_goroutines(), 0);
    /// let (_tx, rx) = gorun::channel::<()>(0);
    /// let _waits = runtime.go(move || rx.recv().is_err())?;
    /// assert_eq!(runtime.num_goroutines(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn num_goroutines(&self) -> usize {
        self.scheduler.remote().num_goroutines()
    }

    /// Runs `main` as this runtime's main goroutine, then shuts the runtime down: see [`run`].
    ///
    /// # Panics
    /// As [`run`].
    ///
    /// ```
    /// let words = ["to", "be"];
    /// let runtime = gorun::runtime::Builder::new().workers(1).build()?;
    /// // `main` may borrow: it has ended when `run` returns.
    /// assert_eq!(runtime.run(|| words.concat()), "tobe");
    /// # Ok::<(), gorun::runtime::BuildError>(())
    /// ```
    #[track_caller]
    pub fn run<F, T>(self, main: F) -> T
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        // SAFETY: F and T are Send; `join_shielded` below waits for the goroutine's end whatever happens, so what
        // they borrow outlives it.
        let main = unsafe { GoBuilder::new().name("main").spawn(Some(&self.scheduler.remote()), main) };
        let result = match main {
            Ok(mut handle) => handle.join_shielded(),
            Err(error) => panic!("gorun::run: {error}"),
        };
        let grace = self.scheduler.grace();
        // Without unwinding they just stop, as Go's do.
        if let Err(left) = self.shutdown(grace)
            && cfg!(panic = "unwind")
        {
            let _ = write!(std::io::stderr(), "gorun: {left}");
        }
        match result {
            Ok(value) => value,
            Err(error) => match error.into_panic() {
                Ok(payload) => std::panic::resume_unwind(payload),
                Err(error) => panic!("gorun::run: {error}"),
            },
        }
    }

    /// Ends every goroutine through its exit path and stops the workers.
    ///
    /// # Errors
    /// [`ShutdownError`] names the goroutines that had not ended after `grace`. They are left behind: never resumed,
    /// their memory never used again.
    ///
    /// # Panics
    /// On a goroutine of this very runtime.
    ///
    /// ```
    /// use std::time::Duration;
    /// let runtime = gorun::runtime::Builder::new().workers(1).build()?;
    /// let stuck = runtime.go(|| gorun::time::sleep(Duration::from_secs(3600)))?;
    /// runtime.shutdown(Duration::from_secs(60))?;
    /// assert!(stuck.join().unwrap_err().is_aborted());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(self, grace: Duration) -> Result<(), ShutdownError> {
        self.scheduler.shut_down(grace).map_err(|left| ShutdownError {
            grace,
            left: left
                .0
                .iter()
                .map(|g| LeftBehind { id: g.id(), name: g.name().map(Into::into), spawned_at: g.spawned_at() })
                .collect(),
        })
    }
}

/// A goroutine that did not end in time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LeftBehind {
    /// Its number.
    pub id: GoroutineId,
    /// Its name.
    pub name: Option<Box<str>>,
    /// Where it was spawned.
    pub spawned_at: &'static Location<'static>,
}

/// A shutdown that had to leave goroutines behind.
#[derive(Clone, Debug)]
pub struct ShutdownError {
    grace: Duration,
    left: Vec<LeftBehind>,
}

impl ShutdownError {
    /// Which ones.
    ///
    /// ```
    /// use std::time::Duration;
    /// let runtime = gorun::runtime::Builder::new().workers(1).build()?;
    /// let (begun, begins) = std::sync::mpsc::channel();
    /// let (end, ends) = std::sync::mpsc::channel::<()>();
    /// // It holds its thread, so nothing can end it.
    /// let _stuck = runtime.go(move || { begun.send(()).unwrap(); ends.recv().is_err() })?;
    /// begins.recv()?;
    /// let error = runtime.shutdown(Duration::ZERO).unwrap_err();
    /// assert_eq!(error.left_behind().len(), 1);
    /// drop(end);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn left_behind(&self) -> &[LeftBehind] {
        &self.left
    }
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, ending, were) = if self.left.len() == 1 { (1, "", "was") } else { (self.left.len(), "s", "were") };
        writeln!(f, "{n} goroutine{ending} had not ended after {:?} and {were} left behind:", self.grace)?;
        const SHOWN: usize = 20;
        for g in self.left.iter().take(SHOWN) {
            let name = g.name.as_deref().map(|n| format!(" {n:?}")).unwrap_or_default();
            writeln!(f, "  goroutine {}{name}, spawned at {}", g.id, g.spawned_at)?;
        }
        if self.left.len() > SHOWN {
            writeln!(f, "  and {} more", self.left.len() - SHOWN)?;
        }
        writeln!(
            f,
            "What computes, blocks in the kernel, waits in `blocking` or catches its abort does not end when it is told to: \
             join what is to be finished before the end, or give it longer (`runtime::Builder::grace`)."
        )
    }
}

impl std::error::Error for ShutdownError {}
