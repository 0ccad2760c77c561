//! Queues of one owner that others may steal from. No operation runs foreign code, except the global allocator.
//!
//! Used by `run_queue`. The owner pushes at the back. From an [`Owner`] of kind [`Fifo`] it takes the oldest element, from one
//! of kind [`Lifo`] the newest; thieves always take the oldest. The latter is the deque of Chase and Lev (*Dynamic circular
//! work-stealing deque*, SPAA 2005) with the fences of Lê, Pop, Cohen and Zappa Nardelli (PPoPP 2013), and a shorter way for
//! the last element. DESIGN.md says why it is not crossbeam's.
//!
//! Elements are pointers in a ring of a power of two of atomic slots; element `i` is in slot `i` modulo their number. The
//! indices are 64 bits wide on every platform, and are compared by their differences, so they may wrap around.
//!
//! * **B1.** `front` only grows, and each step from `i` to `i + 1` is part of one successful compare-and-swap. That one has
//!   taken element `i`.
//! * **B2.** Only the owner changes `back`, the slots and the buffer. Between its operations `front` is at most `back`.
//! * **B3.** The owner writes element `i` to a slot only after it has seen `front` beyond the element that was there before.
//!   So a thief that has read another element than `i` from the slot of `i` fails to move `front` from `i`.
//! * **B4.** A buffer that a larger one has replaced is never written to again, and is freed with the whole queue. So a thief
//!   needs no epoch and no hazard pointer. The buffers grow by doubling: all of the old ones are smaller than the one in use.
//! * **B5.** The owner of a `Lifo` takes element `i` without a compare-and-swap only if after its fence, with `back` at `i`,
//!   it sees `front` below `i`.
//!
//! The race of B5: the owner lowers `back` from `i + 1` to `i` and then reads `front`; a thief reads `front`, `i`, and then
//! `back`. Without fences the owner may read an older `front`, below `i`, while its store is still in its processor's store
//! buffer, so that the thief reads `i + 1`: both take element `i`. With a SeqCst fence between the two steps on both sides,
//! one fence is first. If it is the thief's, the owner sees the `front` that the thief has seen, and the two are separated by
//! the compare-and-swap. If it is the owner's, the thief sees the lowered `back`, or what the owner has pushed since.

use crate::base::atomics::{AtomicPtr, AtomicU64, CachePadded, Ordering, fence};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// The capacity of a new queue, in elements.
const ROOM: usize = 64;
/// Elements stolen at a time, at most.
const MOST: u64 = 32;

/// The kind of queue whose owner takes the oldest element.
#[derive(Debug)]
pub(crate) enum Fifo {}

/// The kind of queue whose owner takes the newest element.
#[derive(Debug)]
pub(crate) enum Lifo {}

struct Buffer<T> {
    slots: Box<[AtomicPtr<T>]>,
    /// The buffer that it has replaced, or null (B4).
    before: *mut Buffer<T>,
}

impl<T> Buffer<T> {
    /// Makes an empty buffer of `room` slots, a power of two. The caller owns it.
    fn allocate(room: usize, before: *mut Buffer<T>) -> NonNull<Buffer<T>> {
        let slots = (0..room).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        NonNull::from(Box::leak(Box::new(Buffer { slots, before })))
    }

    fn mask(&self) -> u64 {
        self.slots.len() as u64 - 1
    }

    #[inline]
    fn slot(&self, index: u64) -> &AtomicPtr<T> {
        // The remainder fits: there are so many slots.
        &self.slots[(index & self.mask()) as usize]
    }
}

/// What owner and thieves share.
struct Inner<T> {
    front: AtomicU64,
    back: AtomicU64,
    buffer: CachePadded<AtomicPtr<Buffer<T>>>,
}

impl<T> Inner<T> {
    /// The number of elements. A snapshot; for the owner it is exact, except for thefts since.
    #[inline]
    fn len(&self) -> u64 {
        // Relaxed: a snapshot. Those who must not miss what was pushed pass a fence before (`idle`).
        let front = self.front.load(Ordering::Relaxed);
        let back = self.back.load(Ordering::Relaxed);
        // Below zero while the owner takes the last one, or if the one is older than the other.
        back.wrapping_sub(front).cast_signed().max(0).cast_unsigned()
    }
}

impl<T> Drop for Inner<T> {
    fn drop(&mut self) {
        // Relaxed: the last reference to the queue; the `Arc` orders it.
        let mut buffer = self.buffer.load(Ordering::Relaxed);
        while !buffer.is_null() {
            // SAFETY: B4: made by `Buffer::allocate`, freed here and nowhere else, and nobody has the queue any more.
            buffer = unsafe { Box::from_raw(buffer) }.before;
        }
    }
}

/// The owner's half.
pub(crate) struct Owner<T, K> {
    inner: Arc<CachePadded<Inner<T>>>,
    /// The slots of the buffer in use, and their number less one: a copy without the way through the buffer.
    slots: Cell<NonNull<AtomicPtr<T>>>,
    mask: Cell<u64>,
    /// Up to this index there is room as far as is known: the `front` that was seen last, and the number of slots (B3).
    limit: Cell<u64>,
    kind: PhantomData<K>,
}

// SAFETY: one thread at a time is the owner, as `Cell` says; the elements are pointers that are not looked into.
unsafe impl<T, K> Send for Owner<T, K> {}

impl<T, K> Owner<T, K> {
    pub(crate) fn new() -> Owner<T, K> {
        Owner::starting_at(0, ROOM)
    }

    /// With the index of the first element, and room for so many: a power of two.
    fn starting_at(index: u64, room: usize) -> Owner<T, K> {
        let buffer = Buffer::<T>::allocate(room, ptr::null_mut());
        let inner = Inner {
            front: AtomicU64::new(index),
            back: AtomicU64::new(index),
            buffer: CachePadded::new(AtomicPtr::new(buffer.as_ptr())),
        };
        let owner = Owner {
            inner: Arc::new(CachePadded::new(inner)),
            slots: Cell::new(NonNull::dangling()),
            mask: Cell::new(0),
            limit: Cell::new(0),
            kind: PhantomData,
        };
        owner.use_buffer(buffer, index);
        owner
    }

    /// Notes what `buffer` has, and that `front` has come to this index.
    fn use_buffer(&self, buffer: NonNull<Buffer<T>>, front: u64) {
        // SAFETY: B4: `inner` keeps it.
        let buffer = unsafe { buffer.as_ref() };
        self.slots.set(NonNull::from(&*buffer.slots).cast());
        self.mask.set(buffer.mask());
        self.limit.set(front.wrapping_add(buffer.slots.len() as u64));
    }

    pub(crate) fn stealer(&self) -> Stealer<T, K> {
        Stealer { inner: self.inner.clone(), kind: PhantomData }
    }

    /// The number of elements, less those that thieves have taken so far.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.inner.len() as usize
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.len() == 0
    }

    #[inline]
    fn slot(&self, index: u64) -> &AtomicPtr<T> {
        // SAFETY: the remainder is one of the slots', which `inner` keeps (B4).
        unsafe { self.slots.get().add((index & self.mask.get()) as usize).as_ref() }
    }

    /// Reads element `index`, which the owner has taken.
    #[inline]
    fn read(&self, index: u64) -> NonNull<T> {
        // Relaxed: this thread wrote it.
        let element = self.slot(index).load(Ordering::Relaxed);
        // SAFETY: B2: elements below `back` were pushed, and what is pushed is not null.
        unsafe { NonNull::new_unchecked(element) }
    }

    #[inline]
    pub(crate) fn push(&self, element: NonNull<T>) {
        // Relaxed: B2.
        let back = self.inner.back.load(Ordering::Relaxed);
        if back == self.limit.get() {
            self.make_room(back);
        }
        // Relaxed: published by `back`.
        self.slot(back).store(element.as_ptr(), Ordering::Relaxed);
        // Release: pairs with the Acquire of `back` in the thieves' steals: the element, what it points to, and the buffer.
        self.inner.back.store(back.wrapping_add(1), Ordering::Release);
    }

    /// Looks how far the thieves have come, and doubles the buffer if there is no room still. Not inlined: the allocator may
    /// touch thread-locals (F2 in `tls`).
    #[cold]
    #[inline(never)]
    fn make_room(&self, back: u64) {
        // Acquire: B3: pairs with the Release of the thieves' compare-and-swaps, so that they have read what will be
        // overwritten.
        let front = self.inner.front.load(Ordering::Acquire);
        // Relaxed: B2.
        let old = self.inner.buffer.load(Ordering::Relaxed);
        let room = self.mask.get() + 1;
        if back.wrapping_sub(front) < room {
            self.limit.set(front.wrapping_add(room));
            return;
        }
        let new = Buffer::allocate(2 * room as usize, old);
        // SAFETY: B4: it is ours alone until it is stored below.
        let slots = unsafe { new.as_ref() };
        for i in 0..room {
            let index = front.wrapping_add(i);
            // Relaxed: published with the buffer.
            slots.slot(index).store(self.slot(index).load(Ordering::Relaxed), Ordering::Relaxed);
        }
        // Release: pairs with the Acquire of the buffer in the thieves' steals: what was copied, and its size.
        self.inner.buffer.store(new.as_ptr(), Ordering::Release);
        self.use_buffer(new, front);
    }

    /// Takes the oldest element, as a thief would, but without its fence: only the owner itself could take it otherwise.
    #[inline]
    pub(crate) fn pop_oldest(&self) -> Option<NonNull<T>> {
        // Relaxed: B2.
        let back = self.inner.back.load(Ordering::Relaxed);
        // Relaxed: only a guess for the exchange; at most `back` (B2).
        let mut front = self.inner.front.load(Ordering::Relaxed);
        while front != back {
            match self.take(front) {
                Ok(element) => return Some(element),
                Err(now) => front = now,
            }
        }
        None
    }

    /// Takes element `index`, which was pushed, if it is the oldest; else says which one is.
    #[inline]
    fn take(&self, index: u64) -> Result<NonNull<T>, u64> {
        // Relaxed: the exchange decides who takes it (B1), and nothing is published with it: the slot is written to again by
        // this same thread, and an exchange passes on what the thieves before have released.
        let taken =
            self.inner.front.compare_exchange(index, index.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
        taken.map(|_| self.read(index))
    }
}

impl<T> Owner<T, Fifo> {
    #[inline]
    pub(crate) fn pop(&self) -> Option<NonNull<T>> {
        self.pop_oldest()
    }
}

impl<T> Owner<T, Lifo> {
    #[inline]
    pub(crate) fn pop(&self) -> Option<NonNull<T>> {
        // Relaxed: B2.
        let back = self.inner.back.load(Ordering::Relaxed);
        // Relaxed: only a guess for the exchange, or for the way with the fence.
        let front = self.inner.front.load(Ordering::Relaxed);
        let last = back.wrapping_sub(1);
        if front == back {
            return None;
        }
        if front == last {
            // The only one: it is the oldest, too. If it has gone meanwhile there is none.
            return self.take(last).ok();
        }
        // Release: pairs with the Acquire of `back` in the steals, as that of a push does, for what was pushed before. (The
        // release of the push before does not reach to a later relaxed store.)
        self.inner.back.store(last, Ordering::Release);
        // B5, the owner's fence.
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence.
        let front = self.inner.front.load(Ordering::Relaxed);
        let others = last.wrapping_sub(front).cast_signed();
        if others > 0 {
            return Some(self.read(last));
        }
        // Thieves have come as far as to the last one, or have got it.
        let element = if others == 0 { self.take(last).ok() } else { None };
        // Relaxed: the fence above releases what was pushed before it.
        self.inner.back.store(back, Ordering::Relaxed);
        element
    }
}

impl<T, K> fmt::Debug for Owner<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The thieves' half.
pub(crate) struct Stealer<T, K> {
    inner: Arc<CachePadded<Inner<T>>>,
    kind: PhantomData<K>,
}

// SAFETY: all of it is atomics, and the elements are pointers that are not looked into.
unsafe impl<T, K> Send for Stealer<T, K> {}
// SAFETY: as above.
unsafe impl<T, K> Sync for Stealer<T, K> {}

impl<T, K> Stealer<T, K> {
    /// How many elements there are. A snapshot.
    pub(crate) fn len(&self) -> usize {
        self.inner.len() as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inner.len() == 0
    }

    /// Takes elements from `front` on; `count` computes how many from the number available. They are passed to `read`;
    /// those of its last call belong to the thief. Returns their number.
    ///
    /// More than one at a time only where all elements are taken at `front`. `fenced` unless that is so (B5).
    #[inline]
    fn take(&self, fenced: bool, count: impl Fn(u64) -> u64, mut read: impl FnMut(u64, *mut T)) -> u64 {
        // Relaxed: only a guess for the exchange.
        let mut front = self.inner.front.load(Ordering::Relaxed);
        loop {
            if fenced {
                // B5, the thief's fence.
                fence(Ordering::SeqCst);
            }
            // Acquire: pairs with the Release of `back` in `push` and `pop`.
            let back = self.inner.back.load(Ordering::Acquire);
            let there = back.wrapping_sub(front).cast_signed();
            if there <= 0 {
                return 0;
            }
            // Acquire: pairs with the Release in `make_room`.
            // SAFETY: B4: `inner` keeps it.
            let buffer = unsafe { &*self.inner.buffer.load(Ordering::Acquire) };
            let count = count(there.cast_unsigned());
            for i in 0..count {
                // Relaxed: published by `back`. It may be null, or another element, if `front` is out of date (B3).
                read(i, buffer.slot(front.wrapping_add(i)).load(Ordering::Relaxed));
            }
            // Release: pairs with the Acquire of `front` in `make_room`: we have read before the owner writes again. Relaxed:
            // only another guess.
            let end = front.wrapping_add(count);
            match self.inner.front.compare_exchange(front, end, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return count,
                // Somebody else has taken what we have read (B1).
                Err(now) => front = now,
            }
        }
    }

    fn take_one(&self, fenced: bool) -> Option<NonNull<T>> {
        let mut element = ptr::null_mut();
        match self.take(fenced, |_| 1, |_, read| element = read) {
            0 => None,
            _ => NonNull::new(element),
        }
    }
}

impl<T> Stealer<T, Fifo> {
    /// Takes the oldest element.
    pub(crate) fn steal(&self) -> Option<NonNull<T>> {
        self.take_one(false)
    }

    /// Takes about half of what is there, the oldest, and at most 32. The first comes back, the others go to `to`.
    pub(crate) fn steal_half(&self, to: &Owner<T, Fifo>) -> Option<NonNull<T>> {
        let mut taken = [ptr::null_mut(); MOST as usize];
        let count = self.take(false, half, |i, read| taken[i as usize] = read);
        let mut taken = taken[..count as usize].iter().copied().filter_map(NonNull::new);
        let first = taken.next();
        taken.for_each(|element| to.push(element));
        first
    }
}

impl<T> Stealer<T, Lifo> {
    /// Takes the oldest element.
    pub(crate) fn steal(&self) -> Option<NonNull<T>> {
        self.take_one(true)
    }

    /// As that of a `Fifo`. One after the other: the owner takes the newest without asking, so more than one might not be there
    /// any more.
    pub(crate) fn steal_half(&self, to: &Owner<T, Lifo>) -> Option<NonNull<T>> {
        let more = half(self.inner.len()).saturating_sub(1);
        let first = self.steal()?;
        (0..more).map_while(|_| self.steal()).for_each(|element| to.push(element));
        Some(first)
    }
}

/// How many of so many are stolen.
fn half(there: u64) -> u64 {
    there.div_ceil(2).min(MOST)
}

impl<T, K> fmt::Debug for Stealer<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stealer").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, loom))]
mod models;
