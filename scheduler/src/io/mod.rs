//! Readiness: a descriptor whose operations park the goroutine instead of holding up its worker.
//!
//! Called by `gorun::net`. A [`Source`] owns its descriptor, which it has made non-blocking and registered with a poller. An
//! operation is attempted first; when it would block, its caller waits in the queue of the side that it needs (`side`), as a
//! park like any other, until the poller (`poller`) reports that side ready.

#[allow(unsafe_code, reason = "system calls")]
mod poller;
#[allow(unsafe_code, reason = "waiters on their stacks")]
mod side;
mod slab;

use crate::base::process::process;
use crate::claim::claim_word::Wake;
use crate::io::poller::Shard;
use crate::io::side::{Refused, Side};
use crate::io::slab::Entry;
use crate::wait::park::checkpoint;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Instant;

/// Which operations of a descriptor are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Receiving, accepting.
    Read,
    /// Sending, connecting.
    Write,
}

/// A descriptor that is registered with a poller of this process.
///
/// Several goroutines and threads may use it at once, for both directions; those that wait in one direction are served in
/// order.
#[derive(Debug)]
pub struct Source<T> {
    // Dropped first: it is removed from the poller before it is closed.
    registration: Registration,
    io: T,
}

#[derive(Debug)]
struct Registration {
    fd: RawFd,
    shard: &'static Shard,
    entry: &'static Entry,
    /// Y1 in `poller`.
    process: u64,
}

impl<T: AsFd> Source<T> {
    /// Makes the descriptor non-blocking, which all its duplicates become with it, and registers it.
    ///
    /// # Errors
    /// When the kernel refuses: a regular file is always ready and can't be registered (`EPERM`); a limit of the system is
    /// reached; the poller's thread can't be started.
    ///
    /// ```
    /// use gorun_scheduler::Source;
    /// let listener = Source::new(std::net::TcpListener::bind("127.0.0.1:0")?)?;
    /// assert_eq!(listener.get().accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new(io: T) -> io::Result<Source<T>> {
        let fd = io.as_fd().as_raw_fd();
        poller::set_nonblocking(fd)?;
        let shard = poller::next_shard()?;
        let entry = shard.slab.take();
        let (generation, writes) = (entry.read.begin(), entry.write.begin());
        debug_assert_eq!(generation, writes, "both sides end together");
        if let Err(error) = shard.add(fd, entry, generation) {
            shard.slab.put_back(entry);
            return Err(error);
        }
        Ok(Source { registration: Registration { fd, shard, entry, process: process() }, io })
    }

    /// The descriptor's owner. An operation that would block says so.
    ///
    /// ```
    /// let (one, _other) = std::os::unix::net::UnixStream::pair()?;
    /// let source = gorun_scheduler::Source::new(one)?;
    /// assert!(source.get().peer_addr().is_ok());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn get(&self) -> &T {
        &self.io
    }

    /// Takes the descriptor's owner back. The descriptor stays non-blocking.
    ///
    /// ```
    /// let (one, _other) = std::os::unix::net::UnixStream::pair()?;
    /// let one = gorun_scheduler::Source::new(one)?.into_inner();
    /// one.set_nonblocking(false)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn into_inner(self) -> T {
        self.io
    }

    /// Attempts `operation`, and again whenever the descriptor has become ready in that direction, until the answer is
    /// another than [`WouldBlock`](io::ErrorKind::WouldBlock). A cancellation point: an abort ends the wait and unwinds.
    ///
    /// # Errors
    /// What `operation` returns; `TimedOut` when it would still block at the time given, or a deadline has passed;
    /// `NotConnected` after a close; `Unsupported` in the child of a fork, for a source of the parent's.
    ///
    /// ```
    /// use gorun_scheduler::{Direction, Source};
    /// use std::io::{ErrorKind, Read, Write};
    /// use std::time::{Duration, Instant};
    /// let (one, mut other) = std::os::unix::net::UnixStream::pair()?;
    /// let source = Source::new(one)?;
    /// let mut buffer = [0; 8];
    /// let soon = Instant::now() + Duration::from_millis(1);
    /// let late = source.attempt(Direction::Read, Some(soon), |mut io| io.read(&mut buffer));
    /// assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    /// other.write_all(b"hello")?;
    /// assert_eq!(source.attempt(Direction::Read, None, |mut io| io.read(&mut buffer))?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn attempt<R>(
        &self,
        direction: Direction,
        timeout: Option<Instant>,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        checkpoint();
        self.check_process()?;
        let answer = self.side(direction).attempt(timeout, || match operation(&self.io) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            answer => Some(answer),
        });
        match answer {
            Ok(answer) => answer,
            Err(Refused::TimedOut) => Err(io::ErrorKind::TimedOut.into()),
            Err(Refused::Closed) => Err(io::Error::new(io::ErrorKind::NotConnected, "it was closed")),
        }
    }

    /// Sets or clears the time after which operations in that direction fail, also for those that wait at present.
    ///
    /// ```
    /// use gorun_scheduler::{Direction, Source};
    /// use std::io::{ErrorKind, Read};
    /// let (one, _other) = std::os::unix::net::UnixStream::pair()?;
    /// let source = Source::new(one)?;
    /// std::thread::scope(|scope| {
    ///     let waits = scope.spawn(|| source.attempt(Direction::Read, None, |mut io| io.read(&mut [0])));
    ///     source.set_deadline(Direction::Read, Some(std::time::Instant::now()));
    ///     assert_eq!(waits.join().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_deadline(&self, direction: Direction, deadline: Option<Instant>) {
        if self.check_process().is_ok() {
            Wake::wake_all(self.side(direction).set_deadline(deadline));
        }
    }

    /// Fails all operations from now on, those that wait at present included. The descriptor is closed when its owner is
    /// dropped.
    ///
    /// ```
    /// use gorun_scheduler::{Direction, Source};
    /// use std::io::{ErrorKind, Read};
    /// let (one, _other) = std::os::unix::net::UnixStream::pair()?;
    /// let source = Source::new(one)?;
    /// source.close();
    /// let closed = source.attempt(Direction::Read, None, |mut io| io.read(&mut [0]));
    /// assert_eq!(closed.unwrap_err().kind(), ErrorKind::NotConnected);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn close(&self) {
        if self.check_process().is_ok() {
            for side in [Direction::Read, Direction::Write] {
                Wake::wake_all(self.side(side).close());
            }
        }
    }

    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Read => &self.registration.entry.read,
            Direction::Write => &self.registration.entry.write,
        }
    }

    fn check_process(&self) -> io::Result<()> {
        if self.registration.process == process() {
            return Ok(());
        }
        let text = "it was registered by the parent of this process: take it out and register it anew";
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Y1 in `poller`.
        if self.process == process() {
            self.shard.remove(self.fd);
            self.entry.read.end();
            self.entry.write.end();
            self.shard.slab.put_back(self.entry);
        }
    }
}
