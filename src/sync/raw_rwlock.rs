//! `RawRwLock`: the lock under `RwLock`, built as Go's `sync.RWMutex`: writers compete for a mutex, and the one that has
//! it keeps new readers out and waits for those that are in.
//!
//! ```text
//!  word: WRITER | READERS | n * ONE
//!  read:   no WRITER: n + 1 by one exchange; else into the queue
//!  write:  the mutex, then WRITER; with n > 0 it waits, and the last reader wakes it
//!  unlock: of a writer: lets all in who wait to read, takes WRITER off, unlocks the mutex
//! ```
//!
//! * **R1.** n counts the readers that are in. It grows while WRITER is clear, or by a writer that lets readers in when it
//!   has done with the value.
//! * **R2.** WRITER is set and cleared by who has the mutex. With WRITER set and n = 0 the value is the writer's alone.
//! * **R3.** READERS says that there is a reader in the queue. It is set under the queues' lock, only together with
//!   WRITER. So a writer that finds WRITER alone has nobody to let in.
//! * **R4.** A writer enqueues itself under the queues' lock while n > 0 with WRITER set; a reader that makes n = 0 and finds
//!   WRITER takes that lock afterwards, so it finds the writer there.
//!
//! Nobody starves: a writer that waits keeps new readers out, and when it is done those readers come before the next
//! writer. Among writers it is the mutex that decides, and hands itself over to who has waited over 1 ms.

use super::raw_mutex::{Abort, RawMutex};
use super::shim::{AtomicU32, Lock, Ordering};
use gorun_scheduler::{Blocker, Token, WaitQueue, WaitReason, Waiter, Wake, checkpoint, give_way, unwind_aborted};
use std::time::{Duration, Instant};

const WRITER: u32 = 1;
const READERS: u32 = 2;
const ONE: u32 = 4;

/// The lock of a [`RwLock`](super::RwLock), without a value: for those who build on [`lock_api`].
///
/// Through `lock_api`'s own types a wait for the lock is not ended by an abort: some of them
/// (`RwLockWriteGuard::unlocked`) count on having the lock back.
///
/// ```
/// let lock = lock_api::RwLock::<gorun::sync::RawRwLock, _>::new(1);
/// assert_eq!(*lock.read(), 1);
/// ```
#[derive(Debug)]
pub struct RawRwLock {
    word: AtomicU32,
    writers: RawMutex,
    queues: Lock<Queues>,
}

#[derive(Debug)]
struct Queues {
    readers: WaitQueue<()>,
    /// One at most: it has the mutex.
    writer: WaitQueue<()>,
}

impl RawRwLock {
    pub(super) const fn new() -> RawRwLock {
        RawRwLock {
            word: AtomicU32::new(0),
            writers: RawMutex::new(),
            queues: Lock::new(Queues { readers: WaitQueue::new(), writer: WaitQueue::new() }),
        }
    }

    /// `false` if that did not happen until `deadline`.
    #[inline]
    pub(super) fn read(&self, deadline: Option<Instant>, abort: Abort) -> bool {
        give_way();
        self.try_read() || self.read_slow(deadline, abort)
    }

    #[inline]
    pub(super) fn try_read(&self) -> bool {
        // Relaxed: a guess for the exchange.
        let mut word = self.word.load(Ordering::Relaxed);
        while word & WRITER == 0 {
            // A count that runs into the flags would let writers in: readers that were forgotten, 2^30 of them.
            let Some(one_more) = word.checked_add(ONE) else { too_many() };
            // Acquire: pairs with the Release with which the last writer took WRITER off.
            match self.word.compare_exchange_weak(word, one_more, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    #[cold]
    fn read_slow(&self, deadline: Option<Instant>, abort: Abort) -> bool {
        heed(abort);
        let blocker = Blocker::current();
        let waiter = Waiter::new(&blocker, Token::DONE, ());
        {
            let mut queues = self.queues.lock();
            loop {
                if self.try_read() {
                    return true;
                }
                // Relaxed: a guess for the exchange.
                let word = self.word.load(Ordering::Relaxed);
                // Relaxed: R3: in this one word, and under the lock.
                let set = |new| self.word.compare_exchange(word, new, Ordering::Relaxed, Ordering::Relaxed);
                if word & WRITER != 0 && set(word | READERS).is_ok() {
                    break;
                }
            }
            arm(&blocker, abort);
            // SAFETY: W2: the waiter stays in this frame until it is claimed or removed below.
            unsafe { queues.readers.push_back(&waiter) };
        }
        let token = blocker.park(WaitReason::RwLock, deadline);
        if token == Token::DONE {
            return true;
        }
        {
            let mut queues = self.queues.lock();
            // SAFETY: it is in this queue, or was taken out of it.
            let was_in = unsafe { queues.readers.remove(&waiter) };
            if was_in && queues.readers.is_empty() {
                // Relaxed: R3, under the lock.
                self.word.fetch_and(!READERS, Ordering::Relaxed);
            }
        }
        give_up(token)
    }

    /// # Safety
    /// The caller is one of the readers.
    #[inline]
    pub(super) unsafe fn end_read(&self) {
        // Release: pairs with the Acquire of the writer that finds no readers.
        let word = self.word.fetch_sub(ONE, Ordering::Release) - ONE;
        if word & WRITER != 0 && word < ONE {
            self.wake_writer();
        }
    }

    #[cold]
    fn wake_writer(&self) {
        let claimed = {
            let mut queues = self.queues.lock();
            // Relaxed: R4: a later writer may be the one in the queue, with readers of its own to wait for. Its lock was
            // taken since they came in.
            if self.word.load(Ordering::Relaxed) >= ONE {
                return;
            }
            queues.writer.claim_next(|()| (), |(), ()| ())
        };
        if let Some(((), wake)) = claimed {
            wake.wake();
        }
    }

    /// `false` if that did not happen until `deadline`.
    #[inline]
    pub(super) fn write(&self, deadline: Option<Instant>, abort: Abort) -> bool {
        match abort {
            Abort::Unwinds if !self.writers.acquire(deadline) => return false,
            Abort::Unwinds => {}
            Abort::Waits if !self.writers.acquire_shielded_until(deadline) => return false,
            Abort::Waits => {}
        }
        // Acquire: pairs with the Release of the readers' ends; with the last writer it is the mutex.
        self.word.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok()
            || self.write_slow(deadline, abort)
    }

    pub(super) fn try_write(&self) -> bool {
        if !lock_api::RawMutex::try_lock(&self.writers) {
            return false;
        }
        // Acquire: as above.
        let free = self.word.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if !free {
            // SAFETY: we have it.
            unsafe { self.writers.release() };
        }
        free
    }

    /// With the mutex: waits for the readers.
    #[cold]
    fn write_slow(&self, deadline: Option<Instant>, abort: Abort) -> bool {
        // Acquire: as above, if the last reader has just left.
        if self.word.fetch_or(WRITER, Ordering::Acquire) < ONE {
            return true;
        }
        let blocker = Blocker::current();
        let waiter = Waiter::new(&blocker, Token::DONE, ());
        {
            let mut queues = self.queues.lock();
            // Acquire: as above. R4.
            if self.word.load(Ordering::Acquire) < ONE {
                return true;
            }
            arm(&blocker, abort);
            // SAFETY: W2: the waiter stays in this frame until it is claimed or removed below.
            unsafe { queues.writer.push_back(&waiter) };
        }
        let token = blocker.park(WaitReason::RwLock, deadline);
        if token == Token::DONE {
            // Acquire: as above: pairs with the last reader's Release.
            self.word.load(Ordering::Acquire);
            return true;
        }
        // SAFETY: it is in this queue, or was taken out of it.
        let _was_in = unsafe { self.queues.lock().writer.remove(&waiter) };
        // The readers who were kept out need not wait for the others.
        self.let_in(0);
        // SAFETY: we have it.
        unsafe { self.writers.release() };
        give_up(token)
    }

    /// # Safety
    /// The caller is the writer.
    #[inline]
    pub(super) unsafe fn end_write(&self) {
        // Release: pairs with the Acquire of the readers.
        if self.word.compare_exchange(WRITER, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.let_in(0);
        }
        // SAFETY: the writer has it.
        unsafe { self.writers.release() };
    }

    /// The writer becomes a reader.
    ///
    /// # Safety
    /// The caller is the writer.
    pub(super) unsafe fn downgrade(&self) {
        self.let_in(ONE);
        // SAFETY: the writer has it.
        unsafe { self.writers.release() };
    }

    /// Takes WRITER off, adds `own` to the readers that are in, and lets all in who wait.
    #[cold]
    fn let_in(&self, own: u32) {
        let mut woken: Vec<Wake> = Vec::new();
        {
            let mut queues = self.queues.lock();
            // Each is counted before its claim: it may be running, and leave, at once. Relaxed: its claim is the edge
            // to it, and the exchange below is the one to everybody else.
            let count = || self.word.fetch_add(ONE, Ordering::Relaxed);
            // Relaxed: as above.
            let uncount = || self.word.fetch_sub(ONE, Ordering::Relaxed);
            while let Some((_, wake)) = queues.readers.claim_next(|()| count(), |(), _| _ = uncount()) {
                woken.push(wake);
            }
            // Relaxed: a guess for the exchange.
            let mut word = self.word.load(Ordering::Relaxed);
            // Release: pairs with the Acquire of those who read, or write, next.
            while let Err(now) = self.word.compare_exchange_weak(
                word,
                (word & !(WRITER | READERS)) + own,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                word = now;
            }
        }
        Wake::wake_all(woken);
    }

    fn is_taken(&self, by: u32) -> bool {
        // Relaxed: it may have changed when the caller looks at it.
        let word = self.word.load(Ordering::Relaxed);
        if by == WRITER { word & WRITER != 0 && word < ONE } else { word != 0 }
    }
}

fn heed(abort: Abort) {
    match abort {
        Abort::Unwinds => checkpoint(),
        Abort::Waits => give_way(),
    }
}

fn arm(blocker: &Blocker, abort: Abort) {
    match abort {
        Abort::Unwinds => blocker.arm(),
        Abort::Waits => blocker.arm_shielded(),
    }
}

fn give_up(token: Token) -> bool {
    if token == Token::ABORT {
        unwind_aborted();
    }
    false
}

#[cold]
fn too_many() -> ! {
    panic!("gorun: 2^30 readers of one RwLock")
}

// SAFETY: R2: a writer is alone, and R1: readers are in while there is none.
unsafe impl lock_api::RawRwLock for RawRwLock {
    const INIT: RawRwLock = RawRwLock::new();

    type GuardMarker = lock_api::GuardSend;

    #[inline]
    fn lock_shared(&self) {
        self.read(None, Abort::Waits);
    }

    #[inline]
    fn try_lock_shared(&self) -> bool {
        self.try_read()
    }

    #[inline]
    unsafe fn unlock_shared(&self) {
        // SAFETY: by the caller.
        unsafe { self.end_read() };
    }

    #[inline]
    fn lock_exclusive(&self) {
        self.write(None, Abort::Waits);
    }

    #[inline]
    fn try_lock_exclusive(&self) -> bool {
        self.try_write()
    }

    #[inline]
    unsafe fn unlock_exclusive(&self) {
        // SAFETY: by the caller.
        unsafe { self.end_write() };
    }

    fn is_locked(&self) -> bool {
        self.is_taken(0)
    }

    fn is_locked_exclusive(&self) -> bool {
        self.is_taken(WRITER)
    }
}

// SAFETY: the writer becomes a reader in one exchange.
unsafe impl lock_api::RawRwLockDowngrade for RawRwLock {
    unsafe fn downgrade(&self) {
        // SAFETY: by the caller.
        unsafe { RawRwLock::downgrade(self) };
    }
}

// SAFETY: as above; `false` without the lock.
unsafe impl lock_api::RawRwLockTimed for RawRwLock {
    type Duration = Duration;
    type Instant = Instant;

    fn try_lock_shared_for(&self, timeout: Duration) -> bool {
        self.try_read() || self.read(Instant::now().checked_add(timeout), Abort::Waits)
    }

    fn try_lock_shared_until(&self, deadline: Instant) -> bool {
        self.read(Some(deadline), Abort::Waits)
    }

    fn try_lock_exclusive_for(&self, timeout: Duration) -> bool {
        self.try_write() || self.write(Instant::now().checked_add(timeout), Abort::Waits)
    }

    fn try_lock_exclusive_until(&self, deadline: Instant) -> bool {
        self.write(Some(deadline), Abort::Waits)
    }
}
