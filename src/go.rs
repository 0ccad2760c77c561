//! Spawning: `go`, `Builder`, and who one is.
//!
//! Where a goroutine goes: to the runtime of the goroutine that spawns it, else to the default runtime.

use crate::default_runtime;
use crate::join::{AtEnd, JoinHandle, erase};
use gorun_scheduler::{GoroutineId, Handle, Remote, SpawnError, Spec, ThreadLocals, spawn_here};
use std::panic::Location;
use std::sync::Arc;

/// Starts `f` as a goroutine, from a goroutine or from any plain thread.
///
/// From a goroutine it joins that goroutine's runtime; from a plain thread the default runtime, which starts at
/// the first need and lives as long as the process. What the caller did before happens
/// before `f` begins. The handle may be dropped.
///
/// Among several, any may begin first, as in Go; on one worker the newest most often does. A goroutine that spawns many in a
/// row gives way to them now and then, so for it `go` is a place where others may run: hold no `std::sync` lock there that
/// they want, or they keep their workers waiting until another worker has been brought in.
///
/// # Panics
/// When the goroutine can't be had: out of address space, memory or mappings, or the runtime is shut down.
/// [`Builder::go`] gives an error instead. And when the inherit hook of a goroutine-local does.
///
/// ```
/// let handle = gorun::go(|| "hello");
/// assert_eq!(handle.join().unwrap(), "hello");
/// ```
#[track_caller]
pub fn go<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match Builder::new().go(f) {
        Ok(handle) => handle,
        Err(error) => panic!("gorun::go: {error}"),
    }
}

/// One goroutine with a name or a stack size of its own.
///
/// ```
/// let handle = gorun::Builder::new().name("digest").stack_size(1 << 20).go(|| gorun::current().unwrap().name().map(str::to_owned))?;
/// assert_eq!(handle.join().unwrap().as_deref(), Some("digest"));
/// # Ok::<(), gorun::SpawnError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    name: Option<Arc<str>>,
    stack_size: Option<usize>,
    thread_locals: Option<ThreadLocals>,
    inherits: bool,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder { name: None, stack_size: None, thread_locals: None, inherits: true }
    }
}

impl Builder {
    /// The runtime's defaults.
    ///
    /// ```
    /// assert_eq!(gorun::Builder::new().go(|| 1)?.join().unwrap(), 1);
    /// # Ok::<(), gorun::SpawnError>(())
    /// ```
    #[must_use]
    pub fn new() -> Builder {
        Builder::default()
    }

    /// A name, for reports and errors, and for what handles print with `{:?}`.
    ///
    /// It is not in the first line of a panic, `thread '<unnamed>' panicked at ..`: std takes a thread's name only where it
    /// starts the thread itself, so an isolated goroutine has none there, and a pinned one its worker's. A panic hook can ask
    /// [`current`](crate::current()); `docs/porting-from-go.md` has one ("Which goroutine panicked").
    ///
    /// ```
    /// let ended = gorun::Builder::new().name("digest").go(|| -> () { gorun::goexit() })?;
    /// assert!(ended.join().unwrap_err().to_string().contains("digest"));
    /// # Ok::<(), gorun::SpawnError>(())
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// At least this many bytes of stack; rounded up to what a slot of 4 or 5 times a power of two leaves beside the guard.
    ///
    /// A stack is address space: it takes memory only as far as it is touched, and two bytes of page tables for each KiB. A
    /// library that limits its own recursion, such as an interpreter, needs its limit and some 64 KiB more; otherwise the
    /// stack overflows first, which ends the process. An eighth of the slot, at most 1 MiB, is a guard that faults when it is
    /// touched: an overflow by a larger frame of a C function without stack probes is not detected.
    ///
    /// ```
    /// let large = gorun::Builder::new().stack_size(8 << 20).go(|| std::hint::black_box([1u8; 4 << 20]).len())?;
    /// assert_eq!(large.join().unwrap(), 4 << 20);
    /// assert!(gorun::Builder::new().stack_size(usize::MAX).go(|| ()).is_err());
    /// # Ok::<(), gorun::SpawnError>(())
    /// ```
    #[must_use]
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = Some(bytes);
        self
    }

    /// Whose thread-locals it sees; as its runtime has it, if this is not called.
    ///
    /// ```
    /// use gorun::{Builder, runtime::{ThreadLocals, isolation}};
    ///
    /// let pinned = Builder::new().thread_locals(ThreadLocals::Pinned).go(|| gorun::current().unwrap().thread_locals())?;
    /// assert_eq!(pinned.join().unwrap(), ThreadLocals::Pinned);
    /// // Asking for what can't be had is an error, which says why.
    /// let isolated = Builder::new().thread_locals(ThreadLocals::Isolated).go(|| ());
    /// assert_eq!(isolated.is_ok(), isolation().is_ok());
    /// # Ok::<(), gorun::SpawnError>(())
    /// ```
    #[must_use]
    pub fn thread_locals(mut self, whose: ThreadLocals) -> Builder {
        self.thread_locals = Some(whose);
        self
    }

    /// With `false` the goroutine inherits nothing: keys that are declared with `#[inherit]` begin as they do in a fresh
    /// thread, no inherit hook is called, and its [current context](crate::context::current) is the background. For
    /// goroutines that outlive the task that happens to start them. Default `true`.
    ///
    /// ```
    /// use std::cell::Cell;
    /// gorun::goroutine_local! {
    ///     #[inherit]
    ///     static REQUEST: Cell<u32> = const { Cell::new(0) };
    /// }
    /// REQUEST.set(17);
    /// assert_eq!(gorun::go(|| REQUEST.get()).join().unwrap(), 17);
    /// assert_eq!(gorun::Builder::new().inherit(false).go(|| REQUEST.get())?.join().unwrap(), 0);
    /// # Ok::<(), gorun::SpawnError>(())
    /// ```
    #[must_use]
    pub fn inherit(mut self, inherits: bool) -> Builder {
        self.inherits = inherits;
        self
    }

    /// Starts `f` as [`go`](crate::go) does.
    ///
    /// # Errors
    /// [`SpawnError`] when the goroutine can't be had; `f` is dropped then.
    ///
    /// # Panics
    /// When the default runtime has to start and can't: the text says why. When the inherit hook of a goroutine-local
    /// does; `f` is dropped then.
    ///
    /// ```
    /// let sum = gorun::Builder::new().name("sum").go(|| (1..=4).sum::<i32>())?;
    /// assert_eq!(sum.join().unwrap(), 10);
    /// # Ok::<(), gorun::SpawnError>(())
    /// ```
    #[track_caller]
    pub fn go<F, T>(self, f: F) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: `F` and `T` are Send and 'static.
        unsafe { self.spawn(None, f) }
    }

    /// # Safety
    /// The caller answers for `F` and `T` being Send, and for what they borrow living as long as the goroutine.
    #[track_caller]
    pub(crate) unsafe fn spawn<F, T>(self, on: Option<&Remote>, f: F) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T,
    {
        // SAFETY: by the caller; `()` has no drop.
        unsafe { self.spawn_until(on, f, ()) }
    }

    /// As `spawn`; `end` is dropped on the goroutine after its exit path, before a joiner wakes. Without a goroutine, it
    /// is dropped after `f`.
    ///
    /// # Safety
    /// As `spawn`, for `end` as well; its drop does not unwind.
    #[track_caller]
    pub(crate) unsafe fn spawn_until<F, T, E>(
        self,
        on: Option<&Remote>,
        f: F,
        end: E,
    ) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T,
        E: AtEnd,
    {
        // SAFETY: by the caller.
        let (entry, write, take) = unsafe { erase(f, end) };
        let spec = Spec {
            entry,
            name: self.name,
            stack_size: self.stack_size,
            thread_locals: self.thread_locals,
            inherits: self.inherits,
            site: Location::caller(),
        };
        // SAFETY: `write` and `entry` are of the same types.
        let handle = unsafe {
            match on {
                Some(remote) => remote.spawn(&spec, write)?,
                None if gorun_scheduler::in_goroutine() => spawn_here(&spec, write).expect("we are in a goroutine")?,
                None => default_runtime::default_remote().spawn(&spec, write)?,
            }
        };
        Ok(JoinHandle::new(handle, take))
    }
}

/// What can be known of a goroutine: see [`current`].
#[derive(Clone, Debug)]
pub struct Goroutine(Handle);

impl Goroutine {
    pub(crate) fn new(handle: Handle) -> Goroutine {
        Goroutine(handle)
    }

    /// Its number.
    ///
    /// ```
    /// gorun::go(|| assert_eq!(gorun::current().unwrap().id(), gorun::id())).join().unwrap();
    /// ```
    #[must_use]
    pub fn id(&self) -> GoroutineId {
        self.0.id()
    }

    /// Its name, if it was given one.
    ///
    /// ```
    /// gorun::go(|| assert_eq!(gorun::current().unwrap().name(), None)).join().unwrap();
    /// ```
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name()
    }

    /// Where it was spawned.
    ///
    /// ```
    /// gorun::go(|| assert!(gorun::current().unwrap().spawned_at().line() > 0)).join().unwrap();
    /// ```
    #[must_use]
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.0.spawned_at()
    }

    /// Whose thread-locals it sees.
    ///
    /// ```
    /// use gorun::runtime::ThreadLocals;
    /// let pinned = gorun::Builder::new().thread_locals(ThreadLocals::Pinned);
    /// let whose = pinned.go(|| gorun::current().unwrap().thread_locals())?.join().unwrap();
    /// assert_eq!(whose, ThreadLocals::Pinned);
    /// # Ok::<(), gorun::SpawnError>(())
    /// ```
    #[must_use]
    pub fn thread_locals(&self) -> ThreadLocals {
        self.0.thread_locals()
    }
}

/// The goroutine that calls; `None` on a plain thread.
///
/// ```
/// assert!(gorun::current().is_none());
/// gorun::go(|| assert!(gorun::current().is_some())).join().unwrap();
/// ```
#[must_use]
pub fn current() -> Option<Goroutine> {
    gorun_scheduler::current_goroutine().map(Goroutine)
}

/// The number of the calling goroutine, or of the calling plain thread: unique in the process among both, from 1,
/// never used again.
///
/// # Panics
/// On a plain thread that is already destroying its thread-locals.
///
/// ```
/// let mine = gorun::id();
/// assert_ne!(gorun::go(gorun::id).join().unwrap(), mine);
/// assert_eq!(gorun::id(), mine);
/// ```
#[must_use]
pub fn id() -> GoroutineId {
    gorun_scheduler::current_id().expect("gorun::id on a thread that is past the end of its thread-locals")
}

/// How many goroutines live on the current goroutine's runtime, or on the default one (0 if it has not started).
/// A snapshot, as Go's `runtime.NumGoroutine`.
///
/// ```
/// assert!(gorun::run(gorun::num_goroutines) >= 1);
/// ```
#[must_use]
pub fn num_goroutines() -> usize {
    Remote::current().or_else(default_runtime::running_default).map_or(0, |r| r.num_goroutines())
}
