//! The arenas: one for each size class, made of chunks of equal slots.
//!
//! Called by `spawn` ([`reserve`], [`unreserve`]), by the carriers' pools ([`take`], [`take_many`],
//! [`give_back`]) and by the fault handler in `overflow` ([`slot_of`]).
//!
//! * **A1, reserved is mapped.** `reserved <= capacity`, and `capacity` only grows: who holds a reservation and
//!   lets go of its slot before it lets go of the reservation finds a slot at [`take`] without new address space.
//! * **A2, the table is append-only.** An entry of [`CHUNKS`] below [`COUNT`] never changes, so [`slot_of`] reads
//!   it from a signal handler without a lock.
//! * **A3, room is left.** A chunk is mapped only if the process may map [`HEADROOM`] more besides, so that stacks do not take
//!   the last address space from the allocator.
//!
//! Lock order: `grow`, then `TABLE`, then `free`. Under none of them is a guard made, a page freed or user code run.

use super::class::{CLASSES, StackClass, StackError};
use super::{executable, guard, headroom};
use crate::base::errno::errno;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Slots of a class's first chunk.
const FIRST_CHUNK: usize = 64;
/// The largest chunk.
const MAX_CHUNK_BYTES: usize = 64 << 30;
/// Address space left to the rest of the process (A3).
const HEADROOM: usize = 16 << 20;
/// More than user space ever has: asking for it need not be tried.
const USER_SPACE: usize = 1 << 47;
/// Chunks there can be: 64 GiB each, they would fill a 47-bit address space twice.
const MAX_CHUNKS: usize = 4096;

/// A stack: the memory between [`Slot::limit`] and [`Slot::top`], owned (S2). Dropping it instead of
/// giving it back loses the memory.
#[derive(Debug)]
#[must_use = "a slot that is not given back is lost"]
pub(crate) struct Slot {
    top: NonNull<u8>,
    class: StackClass,
}

// SAFETY: S2: a slot is plain owned memory and has no thread it belongs to.
unsafe impl Send for Slot {}

impl Slot {
    /// One past the highest address; page-aligned.
    pub(crate) fn top(&self) -> *mut u8 {
        self.top.as_ptr()
    }

    /// The lowest usable address, above the guard.
    pub(crate) fn base(&self) -> *mut u8 {
        // SAFETY: S1: the slot's `slot_size` bytes below `top` are one mapping; a guard is less.
        unsafe { self.limit().add(self.class.guard_size()) }
    }

    /// The lowest address, where the guard begins.
    pub(crate) fn limit(&self) -> *mut u8 {
        // SAFETY: S1: the slot's `slot_size` bytes below `top` are one mapping.
        unsafe { self.top().sub(self.class.slot_size()) }
    }

    /// From [`Slot::limit`] to [`Slot::top`].
    pub(crate) fn size(&self) -> usize {
        self.class.slot_size()
    }

    pub(crate) fn class(&self) -> StackClass {
        self.class
    }

    fn from_top(top: usize, class: StackClass) -> Slot {
        let top = NonNull::new(ptr::with_exposed_provenance_mut(top)).expect("a mapping's end is not null");
        Slot { top, class }
    }
}

/// Which slot an address lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotInfo {
    /// The lowest address, where the guard begins.
    pub(crate) limit: usize,
    /// The lowest usable address.
    pub(crate) base: usize,
    /// One past the highest address.
    pub(crate) top: usize,
    pub(crate) class: StackClass,
    /// True if the address lies in the guard.
    pub(crate) in_guard: bool,
}

struct Arena {
    /// Slots promised to goroutines.
    reserved: AtomicUsize,
    /// Slots mapped. Written under `grow` only.
    capacity: AtomicUsize,
    /// Held while a chunk is added.
    grow: Mutex<()>,
    free: Mutex<Free>,
}

struct Free {
    /// Tops of slots that were used before and have their guards; the last is the hottest.
    used: Vec<usize>,
    /// Never-used slots without guards, as ranges `(next limit, end)`.
    fresh: Vec<(usize, usize)>,
}

struct Chunk {
    start: AtomicUsize,
    end: AtomicUsize,
    class: AtomicUsize,
}

static ARENAS: [Arena; CLASSES] = [const { Arena::new() }; CLASSES];
static CHUNKS: [Chunk; MAX_CHUNKS] = [const { Chunk::new() }; MAX_CHUNKS];
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Held while entries are added to [`CHUNKS`].
static TABLE: Mutex<()> = Mutex::new(());

/// Makes sure that `n` more slots of `class` can be taken, or says why not; all or nothing.
/// One compare-and-swap, unless address space has to be mapped.
pub(crate) fn reserve(class: StackClass, n: usize) -> Result<(), StackError> {
    let arena = &ARENAS[class.index()];
    // Relaxed: only a first guess for the compare-and-swap.
    let mut now = arena.reserved.load(Ordering::Relaxed);
    loop {
        let next = now.saturating_add(n);
        // Acquire: pairs with the Release in `add_chunks_slow`, whose slots are then in the free list.
        if next > arena.capacity.load(Ordering::Acquire) {
            arena.add_chunks_slow(class, next)?;
        }
        // Acquire: pairs with the Release in `unreserve`: the slots given back before it are in the free list.
        match arena.reserved.compare_exchange_weak(now, next, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return Ok(()),
            Err(seen) => now = seen,
        }
    }
}

/// Ends `n` reservations. The slots taken for them are to be given back first (A1).
pub(crate) fn unreserve(class: StackClass, n: usize) {
    // Release: pairs with the Acquire in `reserve`.
    let before = ARENAS[class.index()].reserved.fetch_sub(n, Ordering::Release);
    debug_assert!(before >= n, "unreserved {n} of {before}");
}

/// Takes a slot: the one given back last, or else one never used, whose guard is made now.
///
/// Within a reservation only the guard can fail, and only if [`guards_need_mappings`](guard::guards_need_mappings). A caller
/// that keeps slots without reservations (a pool of hot ones) may find none free: then more are mapped, which
/// can fail too.
pub(crate) fn take(class: StackClass) -> Result<Slot, StackError> {
    let arena = &ARENAS[class.index()];
    let used = arena.lock_free().used.pop();
    match used {
        Some(top) => Ok(Slot::from_top(top, class)),
        None => {
            let mut one = Vec::with_capacity(1);
            take_many(class, 1, &mut one)?;
            Ok(one.pop().expect("one was taken"))
        }
    }
}

/// Takes `n` slots as [`take`] does, under one lock, and appends them to `out`; all or nothing.
pub(crate) fn take_many(class: StackClass, n: usize, out: &mut Vec<Slot>) -> Result<(), StackError> {
    let arena = &ARENAS[class.index()];
    let start = out.len();
    out.reserve(n);
    let mut fresh = Vec::new();
    loop {
        let missing = n - (out.len() - start) - fresh.len();
        {
            let mut free = arena.lock_free();
            let kept = free.used.len() - missing.min(free.used.len());
            out.extend(free.used.drain(kept..).rev().map(|top| Slot::from_top(top, class)));
            free.pop_fresh(class, n - (out.len() - start), &mut fresh);
        }
        let missing = n - (out.len() - start) - fresh.len();
        if missing == 0 {
            break;
        }
        // Acquire: pairs with the Release in `add_chunks_slow`.
        let capacity = arena.capacity.load(Ordering::Acquire);
        if let Err(error) = arena.add_chunks_slow(class, capacity.saturating_add(missing)) {
            arena.put_back(class, out.drain(start..), &fresh);
            return Err(error);
        }
    }
    for (done, &limit) in fresh.iter().enumerate() {
        // SAFETY: S2: the slot came out of the free list just now and nobody has seen it.
        if let Err(error) = unsafe { guard::install(limit, class.guard_size()) } {
            arena.put_back(class, out.drain(start..), &fresh[done..]);
            return Err(error);
        }
        out.push(Slot::from_top(limit + class.slot_size(), class));
    }
    Ok(())
}

/// Gives a slot back, to be the next one taken. Without `keep_pages` its memory goes back to the system
/// (and reads as zero again), which costs a system call now and page faults later. Where the system refuses
/// that, as for memory locked by `mlockall`, the pages stay.
pub(crate) fn give_back(slot: Slot, keep_pages: bool) {
    if !keep_pages {
        let len = slot.size() - slot.class.guard_size();
        // SAFETY: S2: the slot is owned and nothing on it is used any more; the guard is left out (S3).
        unsafe { libc::madvise(slot.base().cast(), len, libc::MADV_DONTNEED) };
    }
    ARENAS[slot.class.index()].lock_free().used.push(slot.top.addr().get());
}

/// The slot that `addr` lies in, taken or not. Async-signal-safe.
pub(crate) fn slot_of(addr: usize) -> Option<SlotInfo> {
    // Acquire: pairs with the Release in `publish`: the entries below are complete (A2).
    let count = COUNT.load(Ordering::Acquire);
    CHUNKS[..count].iter().find_map(|chunk| {
        // Relaxed: ordered by `COUNT`.
        let (start, end) = (chunk.start.load(Ordering::Relaxed), chunk.end.load(Ordering::Relaxed));
        if !(start..end).contains(&addr) {
            return None;
        }
        // Relaxed: ordered by `COUNT`.
        let class = StackClass::from_index(chunk.class.load(Ordering::Relaxed));
        let limit = addr - (addr - start) % class.slot_size();
        let base = limit + class.guard_size();
        Some(SlotInfo { limit, base, top: limit + class.slot_size(), class, in_guard: addr < base })
    })
}

impl Arena {
    const fn new() -> Arena {
        Arena {
            reserved: AtomicUsize::new(0),
            capacity: AtomicUsize::new(0),
            grow: Mutex::new(()),
            free: Mutex::new(Free { used: Vec::new(), fresh: Vec::new() }),
        }
    }

    fn lock_free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the capacity at least `target`, by chunks that double; all or nothing.
    #[cold]
    fn add_chunks_slow(&self, class: StackClass, target: usize) -> Result<(), StackError> {
        let _grow = self.grow.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: written under `grow` only.
        let capacity = self.capacity.load(Ordering::Relaxed);
        let Some(needed) = target.checked_sub(capacity).filter(|&n| n > 0) else {
            return Ok(());
        };
        let chunks = map_chunks(class, needed, capacity)?;
        let added: usize = chunks.iter().map(|&(start, end)| (end - start) / class.slot_size()).sum();
        if let Err(error) = publish(class, &chunks) {
            chunks.iter().for_each(|&chunk| unmap(chunk));
            return Err(error);
        }
        self.lock_free().fresh.extend(chunks);
        // Release: pairs with the Acquire in `reserve` and `take_many`.
        self.capacity.store(capacity + added, Ordering::Release);
        Ok(())
    }

    fn put_back(&self, class: StackClass, taken: impl DoubleEndedIterator<Item = Slot>, fresh: &[usize]) {
        let mut free = self.lock_free();
        free.used.extend(taken.rev().map(|slot| slot.top.addr().get()));
        free.fresh.extend(fresh.iter().map(|&limit| (limit, limit + class.slot_size())));
    }
}

impl Free {
    /// Moves never-used slots' limits to `out` until it has `n` of them or there are no more.
    fn pop_fresh(&mut self, class: StackClass, n: usize, out: &mut Vec<usize>) {
        while out.len() < n
            && let Some((next, end)) = self.fresh.last_mut()
        {
            out.push(*next);
            *next += class.slot_size();
            if next == end {
                self.fresh.pop();
            }
        }
    }
}

impl Chunk {
    const fn new() -> Chunk {
        Chunk { start: AtomicUsize::new(0), end: AtomicUsize::new(0), class: AtomicUsize::new(0) }
    }
}

/// Maps chunks with room for at least `needed` slots; fewer and larger ones if the system lets us.
fn map_chunks(class: StackClass, needed: usize, capacity: usize) -> Result<Vec<(usize, usize)>, StackError> {
    let most = MAX_CHUNK_BYTES / class.slot_size();
    let asked = needed.saturating_mul(class.slot_size());
    if asked > USER_SPACE {
        return Err(StackError::AddressSpace { asked, errno: libc::ENOMEM });
    }
    // Found out at once, and not by taking piece by piece all that others may need meanwhile.
    if asked > MAX_CHUNK_BYTES {
        map(asked).map(unmap).map_err(|errno| StackError::AddressSpace { asked, errno })?;
    }
    let mut want = capacity.max(FIRST_CHUNK).max(needed).min(most);
    let (mut got, mut chunks) = (0, Vec::new());
    while got < needed {
        match map(want * class.slot_size()) {
            Ok(chunk) => {
                chunks.push(chunk);
                got += want;
            }
            // Not more than is missing, in ever smaller pieces.
            Err(_) if want > 1 => want = (want / 2).min(needed - got).max(1),
            Err(errno) => {
                chunks.into_iter().for_each(unmap);
                return Err(StackError::AddressSpace { asked, errno });
            }
        }
    }
    Ok(chunks)
}

/// Maps `len` bytes, if there is room for [`HEADROOM`] besides.
fn map(len: usize) -> Result<(usize, usize), i32> {
    // Where it is not known how much there is, the headroom is mapped as well, for a trial.
    let headroom = match headroom::mappable() {
        Some(most) if most < len.saturating_add(HEADROOM) => return Err(libc::ENOMEM),
        Some(_) => 0,
        None => HEADROOM,
    };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
    let protection = executable::protection();
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let start = unsafe { libc::mmap(ptr::null_mut(), len + headroom, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(errno());
    }
    // SAFETY: both ranges are inside the mapping just made, which nobody else knows of. Without NOHUGEPAGE (a
    // kernel without huge pages refuses it) one touch could make 2 MiB resident.
    unsafe {
        if headroom > 0 {
            libc::munmap(start.byte_add(len), headroom);
        }
        libc::madvise(start, len, libc::MADV_NOHUGEPAGE);
    }
    let start = start.expose_provenance();
    Ok((start, start + len))
}

/// Unmaps a chunk that was never published.
fn unmap((start, end): (usize, usize)) {
    // SAFETY: S1 speaks of published chunks; this one only its mapper has seen.
    unsafe { libc::munmap(ptr::with_exposed_provenance_mut(start), end - start) };
}

/// Enters chunks into the table; all or nothing.
fn publish(class: StackClass, chunks: &[(usize, usize)]) -> Result<(), StackError> {
    let _table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    // Relaxed: written under `TABLE` only.
    let count = COUNT.load(Ordering::Relaxed);
    if chunks.len() > MAX_CHUNKS - count {
        return Err(StackError::TooManyChunks { max: MAX_CHUNKS });
    }
    for (entry, &(start, end)) in CHUNKS[count..].iter().zip(chunks) {
        // Relaxed: the store to `COUNT` below publishes them.
        entry.start.store(start, Ordering::Relaxed);
        entry.end.store(end, Ordering::Relaxed);
        entry.class.store(class.index(), Ordering::Relaxed);
    }
    // Release: pairs with the Acquire in `slot_of`.
    COUNT.store(count + chunks.len(), Ordering::Release);
    Ok(())
}

/// All the locks here, held over a fork.
pub(crate) struct ArenaLocks {
    _free: [MutexGuard<'static, Free>; CLASSES],
    _table: MutexGuard<'static, ()>,
    _grow: [MutexGuard<'static, ()>; CLASSES],
}

pub(crate) fn lock_arenas() -> ArenaLocks {
    let all = |lock: &'static Mutex<()>| lock.lock().unwrap_or_else(PoisonError::into_inner);
    // In the lock order.
    let grow = std::array::from_fn(|class| all(&ARENAS[class].grow));
    let table = all(&TABLE);
    ArenaLocks { _free: std::array::from_fn(|class| ARENAS[class].lock_free()), _table: table, _grow: grow }
}

#[cfg(test)]
mod tests;
