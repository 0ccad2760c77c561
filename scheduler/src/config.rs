//! What a runtime can be told, by its builder or by the environment, and the errors of getting it wrong.

use crate::memory::{StackClass, StackError};
use crate::tls::{self, Refusal, Unsupported};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Whose thread-locals a goroutine sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThreadLocals {
    /// Its own, as if it were a thread: it may hold them over any wait, and it may go on on another worker.
    Isolated,
    /// Those of its worker's thread, with which it stays once it has begun.
    Pinned,
}

impl fmt::Display for ThreadLocals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ThreadLocals::Isolated => "isolated",
            ThreadLocals::Pinned => "pinned",
        })
    }
}

/// Settings of one scheduler.
#[derive(Clone, Debug)]
pub struct Config {
    /// Worker threads.
    pub workers: usize,
    /// The maximum number of additional threads while workers are stuck in goroutines that compute or block.
    pub spare_workers: usize,
    /// Default stack size of a goroutine, in bytes.
    pub stack_size: usize,
    /// Free stacks that stay warm (with their pages) for good, for each processor; if 0, none is used twice.
    pub warm_stacks: usize,
    /// How long free stacks beyond those stay warm while nobody needs them.
    pub idle_stacks: Duration,
    /// Which thread-locals goroutines see. `None`: their own where that is available ([`isolation`](crate::isolation));
    /// otherwise they are pinned, with a line on standard error.
    pub thread_locals: Option<ThreadLocals>,
    /// If true, that line is not printed.
    pub pinned_will_do: bool,
    /// How long a shutdown waits for goroutines to end.
    pub grace: Duration,
    /// Prefix of the names of the runtime's threads.
    pub thread_name: String,
    /// For tests: a goroutine that may go on on any thread never goes on by way of its worker's own queue.
    #[doc(hidden)]
    pub always_migrate: bool,
}

/// A little more than a MiB, for C libraries that bring a limit of their own: QuickJS reports an overflow after a MiB, and
/// needs some to do so. With the thread-local block that is what a slot of 1.25 MiB leaves. It is address space; memory is
/// taken by pages, as they are touched, and page tables take a five-hundredth of a slot.
const STACK_SIZE: usize = 1088 << 10;
const WARM_STACKS: usize = 256;
const IDLE_STACKS: Duration = Duration::from_secs(1);
/// Go's limit: a safety limit that sound programs do not reach.
const SPARE_WORKERS: usize = 10_000;
/// Workers at most: each is a thread, and each looks at all the others when it finds nothing to do. Go's own bound until
/// 1.10; a typing error should be an error, and not a million threads.
const MAX_WORKERS: usize = 1024;
const MAXPROCS: &str = "GORUN_MAXPROCS";
const STACK_SIZE_NAME: &str = "GORUN_STACK_SIZE";
/// Threads beyond the workers at most, for the same reason.
const MAX_SPARE_WORKERS: usize = 1 << 16;
const SPARE_WORKERS_NAME: &str = "GORUN_SPARE_WORKERS";
const THREAD_LOCALS: &str = "GORUN_THREAD_LOCALS";
/// The value that selects isolated goroutines where available, and pinned ones otherwise.
const AUTO: &str = "auto";
const BLOCKING_THREADS: &str = "GORUN_BLOCKING_THREADS";
/// The largest accepted limit on threads for blocking calls, for the same reason.
const MAX_BLOCKING_THREADS: usize = 1 << 16;
/// For tests, and so not documented.
const ALWAYS_MIGRATE: &str = "GORUN_TEST_MIGRATE";
const SCHEDTRACE: &str = "GORUN_SCHEDTRACE";
const PREFIX: &str = "GORUN_";
/// What users may set. What begins with one of [`NOT_TOLD`] is for tests and workarounds, and passes in silence.
const KNOWN: [&str; 6] = [MAXPROCS, STACK_SIZE_NAME, SPARE_WORKERS_NAME, THREAD_LOCALS, BLOCKING_THREADS, SCHEDTRACE];
const NOT_TOLD: [&str; 2] = ["GORUN_TEST_", "GORUN_NO_"];
/// Without unwinding, goroutines that have begun can't be asked to end, so that it would be in vain to wait for them.
const GRACE: Duration = Duration::from_secs(if cfg!(panic = "unwind") { 10 } else { 0 });

/// Why a runtime could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// An environment variable has a value that can't be used.
    Environment {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// No workers were asked for.
    NoWorkers,
    /// More workers were asked for than a runtime takes.
    TooManyWorkers {
        /// The number asked for.
        asked: usize,
        /// The most that can be asked for.
        max: usize,
    },
    /// More spare workers were asked for than a runtime takes.
    TooManySpareWorkers {
        /// The number asked for.
        asked: usize,
        /// The most that can be asked for.
        max: usize,
    },
    /// The prefix of the threads' names has a NUL byte in it, which no thread's name can have.
    ThreadName(String),
    /// Isolated thread-locals were asked for, which can't be had here.
    Isolation(Unsupported),
    /// The stack size can't be had.
    Stack(StackError),
    /// The kernel refused a thread.
    Thread(std::io::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Environment { name, value, expected } => {
                write!(f, "{name} is {value:?}; it takes {expected}")
            }
            ConfigError::NoWorkers => write!(f, "a runtime needs at least one worker"),
            ConfigError::TooManyWorkers { asked, max } => {
                write!(f, "a runtime of {asked} workers was asked for, but the most is {max}")
            }
            ConfigError::TooManySpareWorkers { asked, max } => {
                write!(f, "{asked} spare workers were asked for, but the most is {max}")
            }
            ConfigError::ThreadName(prefix) => {
                write!(f, "the threads of a runtime can't be named {prefix:?}: there is a NUL byte in it")
            }
            ConfigError::Isolation(reason) => {
                write!(f, "goroutines can't have thread-locals of their own here: {reason}")
            }
            ConfigError::Stack(error) => write!(f, "the default stack size: {error}"),
            ConfigError::Thread(error) => write!(
                f,
                "a thread could not be started: {error}; see ulimit -u and -v, the pids.max of the cgroup, \
                 kernel.threads-max, or build the runtime with fewer workers"
            ),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::Stack(error) => Some(error),
            ConfigError::Thread(error) => Some(error),
            _ => None,
        }
    }
}

fn variable(
    name: &'static str,
    expected: &'static str,
    takes: impl FnOnce(usize) -> bool,
) -> Result<Option<usize>, ConfigError> {
    let Some(value) = std::env::var_os(name) else { return Ok(None) };
    let value = value.to_string_lossy().into_owned();
    match value.trim().parse::<usize>() {
        Ok(n) if takes(n) => Ok(Some(n)),
        _ => Err(ConfigError::Environment { name, value, expected }),
    }
}

/// Returns the value of `GORUN_BLOCKING_THREADS`, the maximum number of threads for blocking calls in the process, if it is
/// set.
///
/// # Errors
/// [`ConfigError::Environment`] if it is set to an invalid value.
///
/// ```
/// assert!(gorun_scheduler::blocking_threads()?.is_none_or(|n| n > 0));
/// # Ok::<(), gorun_scheduler::ConfigError>(())
/// ```
pub fn blocking_threads() -> Result<Option<usize>, ConfigError> {
    variable(BLOCKING_THREADS, "a number of threads from 1 to 65536", |n| (1..=MAX_BLOCKING_THREADS).contains(&n))
}

impl Config {
    /// The defaults, with what the environment says: `GORUN_MAXPROCS`, `GORUN_STACK_SIZE` (bytes), `GORUN_SPARE_WORKERS`,
    /// `GORUN_THREAD_LOCALS` (`tls`, `pinned` or `auto`). `GORUN_BLOCKING_THREADS` applies to the process, not to a
    /// scheduler ([`blocking_threads`]); it is checked here with the others.
    ///
    /// The default number of workers is [`std::thread::available_parallelism`], which knows of CPU affinity and
    /// of cgroup quotas.
    ///
    /// Other variables whose names begin with `GORUN_` are most likely misspelt: the first time, a line on standard error
    /// names them.
    ///
    /// # Errors
    /// [`ConfigError::Environment`] when a variable is set to something it does not take.
    ///
    /// ```
    /// let config = gorun_scheduler::Config { workers: 2, ..gorun_scheduler::Config::from_env()? };
    /// assert!(config.stack_size > 0 && config.workers == 2);
    /// # Ok::<(), gorun_scheduler::ConfigError>(())
    /// ```
    pub fn from_env() -> Result<Config, ConfigError> {
        tell_of_unknown();
        let workers = variable(MAXPROCS, "a number of workers from 1 to 1024", |n| (1..=MAX_WORKERS).contains(&n))?;
        let stack_size =
            variable(STACK_SIZE_NAME, "a number of bytes from 1 to just below 1 GiB", |n| class_for(n).is_ok())?;
        let spare_workers =
            variable(SPARE_WORKERS_NAME, "a number of threads from 0 to 65536", |n| n <= MAX_SPARE_WORKERS)?;
        blocking_threads()?;
        let (thread_locals, pinned_will_do) = match std::env::var_os(THREAD_LOCALS) {
            None => (None, false),
            Some(value) if value == AUTO => (None, true),
            Some(value) if value == "isolated" => (Some(ThreadLocals::Isolated), false),
            Some(value) if value == "pinned" => (Some(ThreadLocals::Pinned), false),
            Some(value) => {
                let value = value.to_string_lossy().into_owned();
                let expected = "\"isolated\", \"pinned\" or \"auto\"";
                return Err(ConfigError::Environment { name: THREAD_LOCALS, value, expected });
            }
        };
        Ok(Config {
            workers: workers
                .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_WORKERS)),
            spare_workers: spare_workers.unwrap_or(SPARE_WORKERS),
            stack_size: stack_size.unwrap_or(STACK_SIZE),
            thread_locals,
            pinned_will_do,
            warm_stacks: WARM_STACKS,
            idle_stacks: IDLE_STACKS,
            grace: GRACE,
            thread_name: "gorun".to_owned(),
            always_migrate: std::env::var_os(ALWAYS_MIGRATE).is_some_and(|value| value == "1"),
        })
    }

    /// The class of its default stacks, and the mode in force.
    pub(crate) fn check(&self) -> Result<(StackClass, ThreadLocals), ConfigError> {
        if self.workers == 0 {
            return Err(ConfigError::NoWorkers);
        }
        if self.workers > MAX_WORKERS {
            return Err(ConfigError::TooManyWorkers { asked: self.workers, max: MAX_WORKERS });
        }
        if self.spare_workers > MAX_SPARE_WORKERS {
            return Err(ConfigError::TooManySpareWorkers { asked: self.spare_workers, max: MAX_SPARE_WORKERS });
        }
        if self.thread_name.contains('\0') {
            return Err(ConfigError::ThreadName(self.thread_name.clone()));
        }
        let mode = match (self.thread_locals, tls::layout()) {
            // Also if pinned was asked for: single goroutines may still be isolated, and workers must be able to run them.
            (_, Err(Refusal::NotNow(error))) => return Err(ConfigError::Thread(error)),
            (Some(ThreadLocals::Isolated), Err(Refusal::Never(reason))) => {
                return Err(ConfigError::Isolation(reason.clone()));
            }
            (Some(mode), _) => mode,
            (None, Ok(_)) => ThreadLocals::Isolated,
            (None, Err(Refusal::Never(reason))) => {
                if !self.pinned_will_do || std::env::var_os(SCHEDTRACE).is_some() {
                    tell_once(reason);
                }
                ThreadLocals::Pinned
            }
        };
        let class = class_for(self.stack_size).map_err(ConfigError::Stack)?;
        Ok((class, mode))
    }
}

/// Says on standard error, once, which variables are none of ours though they look like it.
fn tell_of_unknown() {
    use std::io::Write;
    static TOLD: AtomicBool = AtomicBool::new(false);
    // Not a `Once`: in the child of a fork it would be half done for ever. Relaxed: a flag.
    if !TOLD.swap(true, Ordering::Relaxed) {
        let is_unknown = |name: &str| {
            name.starts_with(PREFIX) && !KNOWN.contains(&name) && !NOT_TOLD.iter().any(|known| name.starts_with(known))
        };
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let mut unknown: Vec<_> = names.filter(|name| is_unknown(name)).collect();
        if !unknown.is_empty() {
            unknown.sort_unstable();
            let (unknown, known) = (unknown.join(", "), KNOWN.join(", "));
            let _ = writeln!(std::io::stderr(), "gorun: no such setting: {unknown}; there are {known}");
        }
    }
}

/// Reports on standard error, once, that goroutines are pinned by default, and why.
fn tell_once(reason: &Unsupported) {
    use std::io::Write;
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = writeln!(
            std::io::stderr(),
            "gorun: goroutines are pinned to their worker's thread, because they can't have thread-locals of their own here: \
             {reason}; what they borrow or lock over a wait stays so for other goroutines of that thread \
             ({THREAD_LOCALS}={AUTO} accepts this silently)"
        );
    });
}

/// The class whose slots leave `bytes` to a goroutine beside its thread-local block, in whichever mode.
pub(crate) fn class_for(bytes: usize) -> Result<StackClass, StackError> {
    let block = tls::layout().map_or(0, tls::Layout::room);
    match StackClass::for_size(bytes) {
        Ok(class) if class.usable_size() - bytes >= block => Ok(class),
        Ok(_) => StackClass::for_size(bytes + block),
        Err(error) => Err(error),
    }
}

/// Why a goroutine could not be spawned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpawnError {
    /// No stack for it.
    Stack(StackError),
    /// No memory for its control block.
    OutOfMemory,
    /// Isolated thread-locals were asked for, which can't be had here.
    Isolation(Unsupported),
    /// The runtime was built before this process was forked: its threads are in the parent.
    Forked,
    /// The runtime has been shut down, or is being shut down and takes no goroutines from outside.
    ShutDown,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::Stack(error) => write!(f, "no stack for a goroutine: {error}"),
            SpawnError::Isolation(reason) => {
                write!(f, "a goroutine can't have thread-locals of its own here: {reason}")
            }
            SpawnError::OutOfMemory => write!(f, "no memory for a goroutine's control block"),
            SpawnError::ShutDown => write!(f, "the runtime has been shut down"),
            SpawnError::Forked => write!(
                f,
                "the runtime was built before this process was forked, and its threads are in the parent: build runtimes \
                 after the fork"
            ),
        }
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SpawnError::Stack(error) => Some(error),
            _ => None,
        }
    }
}
