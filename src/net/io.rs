//! What all sockets have in common: operations in two directions, each with a time-out and a deadline.

use gorun_scheduler::{Direction, Source};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Io<T> {
    source: Source<T>,
    read_timeout: Timeout,
    write_timeout: Timeout,
}

/// Nanoseconds; 0 where there is none.
#[derive(Debug)]
struct Timeout(AtomicU64);

impl Timeout {
    fn new(timeout: Option<Duration>) -> Timeout {
        Timeout(AtomicU64::new(Timeout::nanoseconds(timeout)))
    }

    fn nanoseconds(timeout: Option<Duration>) -> u64 {
        timeout.map_or(0, |timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX))
    }

    fn get(&self) -> Option<Duration> {
        // Relaxed: a number.
        Some(self.0.load(Ordering::Relaxed)).filter(|nanoseconds| *nanoseconds != 0).map(Duration::from_nanos)
    }

    fn set(&self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a time-out of zero"));
        }
        // Relaxed: a number.
        self.0.store(Timeout::nanoseconds(timeout), Ordering::Relaxed);
        Ok(())
    }

    /// When an operation that begins now is given up.
    fn ends(&self) -> Option<Instant> {
        Instant::now().checked_add(self.get()?)
    }
}

impl<T: AsFd> Io<T> {
    pub(super) fn new(io: T) -> io::Result<Io<T>> {
        let source = Source::new(io)?;
        Ok(Io { source, read_timeout: Timeout::new(None), write_timeout: Timeout::new(None) })
    }

    /// With the same time-outs: for a duplicate.
    pub(super) fn with_timeouts_of(io: T, other: &Io<T>) -> io::Result<Io<T>> {
        let io = Io::new(io)?;
        io.read_timeout.set(other.read_timeout.get())?;
        io.write_timeout.set(other.write_timeout.get())?;
        Ok(io)
    }

    pub(super) fn get(&self) -> &T {
        self.source.get()
    }

    pub(super) fn into_inner(self) -> T {
        self.source.into_inner()
    }

    pub(super) fn read<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.source.attempt(Direction::Read, self.read_timeout.ends(), operation)
    }

    pub(super) fn write<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.source.attempt(Direction::Write, self.write_timeout.ends(), operation)
    }

    pub(super) fn write_until<R>(
        &self,
        until: Option<Instant>,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.source.attempt(Direction::Write, until, operation)
    }

    fn timeout(&self, direction: Direction) -> &Timeout {
        match direction {
            Direction::Read => &self.read_timeout,
            Direction::Write => &self.write_timeout,
        }
    }

    pub(super) fn get_timeout(&self, direction: Direction) -> Option<Duration> {
        self.timeout(direction).get()
    }

    pub(super) fn set_timeout(&self, direction: Direction, timeout: Option<Duration>) -> io::Result<()> {
        self.timeout(direction).set(timeout)
    }

    pub(super) fn set_deadline(&self, direction: Direction, deadline: Option<Instant>) {
        self.source.set_deadline(direction, deadline);
    }

    pub(super) fn close(&self) {
        self.source.close();
    }
}

impl<T: AsFd> AsFd for Io<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get().as_fd()
    }
}
