//! What a runtime can be told, by its builder or by the environment, and the errors of getting it wrong.

use crate::stack::{StackClass, StackError};
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Settings of one scheduler.
#[derive(Clone, Debug)]
pub struct Config {
    /// Worker threads.
    pub workers: usize,
    /// Default stack size of a goroutine, in bytes.
    pub stack_size: usize,
    /// Free stacks that stay warm (with their pages) on each processor.
    pub warm_stacks: usize,
    /// How long a shutdown waits for goroutines to end.
    pub grace: Duration,
    /// Prefix of the names of the runtime's threads.
    pub thread_name: String,
}

/// What a slot of 256 KiB leaves. It is address space; pages are touched as they are used.
const STACK_SIZE: usize = 248 << 10;
const WARM_STACKS: usize = 256;
const GRACE: Duration = Duration::from_secs(10);

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
            ConfigError::Stack(error) => write!(f, "the default stack size: {error}"),
            ConfigError::Thread(error) => write!(f, "a worker thread could not be started: {error}"),
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

fn variable(name: &'static str, expected: &'static str) -> Result<Option<usize>, ConfigError> {
    let Some(value) = std::env::var_os(name) else { return Ok(None) };
    let value = value.to_string_lossy().into_owned();
    match value.trim().parse::<usize>() {
        Ok(n) if n > 0 => Ok(Some(n)),
        _ => Err(ConfigError::Environment { name, value, expected }),
    }
}

impl Config {
    /// The defaults, with what the environment says: `GORUN_MAXPROCS`, `GORUN_STACK_SIZE` (bytes).
    ///
    /// The default number of workers is [`std::thread::available_parallelism`], which knows of CPU affinity and
    /// of cgroup quotas.
    ///
    /// # Errors
    /// [`ConfigError::Environment`] when a variable is set to something else than a positive whole number.
    pub fn from_env() -> Result<Config, ConfigError> {
        let workers = variable("GORUN_MAXPROCS", "a positive number of workers")?;
        let stack_size = variable("GORUN_STACK_SIZE", "a positive number of bytes")?;
        Ok(Config {
            workers: workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get)),
            stack_size: stack_size.unwrap_or(STACK_SIZE),
            warm_stacks: WARM_STACKS,
            grace: GRACE,
            thread_name: "gorun".to_owned(),
        })
    }

    pub(crate) fn check(&self) -> Result<StackClass, ConfigError> {
        if self.workers == 0 {
            return Err(ConfigError::NoWorkers);
        }
        StackClass::for_size(self.stack_size).map_err(ConfigError::Stack)
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
    /// The runtime has been shut down, or is being shut down and takes no goroutines from outside.
    ShutDown,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::Stack(error) => write!(f, "no stack for a goroutine: {error}"),
            SpawnError::OutOfMemory => write!(f, "no memory for a goroutine's control block"),
            SpawnError::ShutDown => write!(f, "the runtime has been shut down"),
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
