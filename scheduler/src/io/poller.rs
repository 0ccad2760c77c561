//! The pollers of the process: epoll descriptors, each with a thread that waits there and wakes whom an event concerns.
//!
//! The thread does nothing else, so no event waits behind a goroutine that computes, and nothing is polled while nothing
//! happens. It is started with the first registration.
//!
//! * **Y1.** A registration is in the epoll descriptor of its shard from [`Shard::add`] until [`Shard::remove`], in the
//!   process that made it. A child of a fork has pollers of its own and leaves the parent's alone: an epoll descriptor that
//!   was inherited is the very same as the parent's.
//! * **Y2.** Interest is edge-triggered in both directions, and is set once.

use crate::base::atomics::Lock;
use crate::base::process::PerProcess;
use crate::base::unwind::{AbortOnUnwind, fatal};
use crate::io::slab::{Entry, Slab};
use crate::worker::fork;
use crate::worker::thread_start::start_thread;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Processors for which there is one shard.
const SHARE: usize = 8;
/// Events that are fetched by one system call.
const BATCH: usize = 256;
/// Y2. A peer that has closed its half makes reading ready.
const INTEREST: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
/// What makes a side ready. Errors and hang-ups concern both.
const READ: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
const WRITE: u32 = (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) as u32;

#[derive(Debug)]
pub(super) struct Shard {
    epoll: OnceLock<OwnedFd>,
    /// True once its thread was started.
    begun: Lock<bool>,
    pub(super) slab: Slab,
}

#[derive(Debug)]
struct Pollers {
    shards: Box<[Shard]>,
    next: AtomicUsize,
}

/// The shard for the next registration, in turn; its thread runs.
pub(super) fn next_shard() -> io::Result<&'static Shard> {
    static POLLERS: PerProcess<Pollers> = PerProcess::new();
    let pollers = POLLERS.get(|| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = (0..processors.div_ceil(SHARE)).map(|_| Shard::new()).collect();
        Pollers { shards, next: AtomicUsize::new(0) }
    });
    // Relaxed: a number.
    let shard = &pollers.shards[pollers.next.fetch_add(1, Ordering::Relaxed) % pollers.shards.len()];
    shard.begin()?;
    Ok(shard)
}

impl Shard {
    fn new() -> Shard {
        Shard { epoll: OnceLock::new(), begun: Lock::new(false), slab: Slab::new() }
    }

    fn begin(&'static self) -> io::Result<()> {
        let mut begun = self.begun.lock();
        if !*begun {
            // Y1: without a runtime nobody else has asked for it.
            fork::watch()?;
            if self.epoll.get().is_none() {
                // SAFETY: no pointers.
                let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
                if fd == -1 {
                    return Err(io::Error::last_os_error());
                }
                // SAFETY: just made, and nobody else's.
                let _is_first = self.epoll.set(unsafe { OwnedFd::from_raw_fd(fd) });
            }
            start_thread("gorun-poller".to_owned(), Box::new(|| self.poll()))?;
            *begun = true;
        }
        Ok(())
    }

    fn epoll(&self) -> RawFd {
        self.epoll.get().expect("it has begun").as_raw_fd()
    }

    /// Registers a descriptor under a token of its entry. What is ready already makes an event.
    pub(super) fn add(&self, fd: RawFd, entry: &Entry, generation: u32) -> io::Result<()> {
        let token = u64::from(entry.number) << 32 | u64::from(generation);
        let mut event = libc::epoll_event { events: INTEREST, u64: token };
        // SAFETY: the event is read during the call.
        let failed = unsafe { libc::epoll_ctl(self.epoll(), libc::EPOLL_CTL_ADD, fd, &raw mut event) } == -1;
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Before the descriptor is closed. A failure says that the kernel has forgotten it already.
    pub(super) fn remove(&self, fd: RawFd) {
        // SAFETY: no event is given.
        unsafe { libc::epoll_ctl(self.epoll(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// The poller's thread.
    fn poll(&self) {
        let bomb = AbortOnUnwind("a panic in the poller");
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        loop {
            // SAFETY: there is room for so many events.
            let n = unsafe { libc::epoll_wait(self.epoll(), events.as_mut_ptr(), BATCH as libc::c_int, -1) };
            let Ok(n) = usize::try_from(n) else {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                bomb.pass();
                fatal(&format!("the poller's descriptor does not work any more (was it closed?): {error}"));
            };
            events[..n].iter().for_each(|event| self.see_to(event.u64, event.events));
        }
    }

    fn see_to(&self, token: u64, events: u32) {
        let Some(entry) = self.slab.get((token >> 32) as u32) else { return };
        let generation = token as u32;
        for (mask, side) in [(READ, &entry.read), (WRITE, &entry.write)] {
            if events & mask != 0
                && let Some(wake) = side.event(generation)
            {
                wake.wake();
            }
        }
    }
}

/// Set once, when the descriptor comes to its `Source`, and not for each call.
pub(super) fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no pointers.
    if flags & libc::O_NONBLOCK == 0 && unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
