//! The map of dynamic keys: any hashable key of any type, to any value of any type.
//!
//! Used by `gorun::local`'s free functions, which hash the key. Open addressing over pointers to entries; the
//! pairs themselves lie in entries of the record's chain, so that one order of dropping covers all.
//!
//! * **M1.** A slot points to a live entry of the chain whose kind is a pair, and whose `tag` is the slot's hash.
//! * **M2.** Foreign code runs with the map at rest: while a key is compared the map may be read, not changed;
//!   a value or key is dropped after its slot is gone.

use super::data::{DETACHED, Header, Kind, Locals, Map, Pair, Phase, Slot, value_of};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

const FREE: Slot = Slot { hash: 0, entry: ptr::null_mut() };
const MIN_SLOTS: usize = 8;
/// A map that grew past this gives its slots back at exit.
const KEEP_SLOTS: usize = 64;

impl Map {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn trim(&mut self) {
        if self.slots.len() > KEEP_SLOTS {
            self.slots = Vec::new();
        }
    }

    #[cfg(test)]
    pub(super) fn is_trimmed(&self) -> bool {
        self.slots.is_empty()
    }

    fn home(&self, hash: u32) -> usize {
        (hash >> (32 - self.slots.len().trailing_zeros())) as usize
    }

    fn insert(&mut self, hash: u32, entry: *mut Header) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            let larger = vec![FREE; (self.slots.len() * 2).max(MIN_SLOTS)];
            for slot in std::mem::replace(&mut self.slots, larger) {
                if !slot.entry.is_null() {
                    self.place(slot);
                }
            }
        }
        self.place(Slot { hash, entry });
        self.len += 1;
    }

    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = self.home(slot.hash);
        while !self.slots[at].entry.is_null() {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn position(&self, hash: u32, entry: *mut Header) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = self.home(hash);
        while self.slots[at].entry != entry {
            debug_assert!(!self.slots[at].entry.is_null(), "an entry of the chain is in the map");
            at = (at + 1) & mask;
        }
        at
    }

    fn remove(&mut self, hash: u32, entry: *mut Header) {
        let mask = self.slots.len() - 1;
        let mut hole = self.position(hash, entry);
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at];
            if slot.entry.is_null() {
                break;
            }
            // It may fill the hole if its home is not between the hole and itself.
            if (at.wrapping_sub(self.home(slot.hash)) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = FREE;
        self.len -= 1;
    }
}

struct PairKind<K, V>(PhantomData<(K, V)>);

impl<K: 'static, V: 'static> PairKind<K, V> {
    const KIND: &'static Kind = &Kind::pair::<K, V>();
}

/// A dynamic value being looked at: it lives at least as long as this.
pub struct Look<'a, V> {
    record: &'a Locals,
    entry: NonNull<Header>,
    _value: PhantomData<&'a V>,
}

impl<V> Look<'_, V> {
    /// The value. It stays until the look ends, be it deleted meanwhile.
    ///
    /// ```
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// record.set(7, "user", String::from("ann"));
    /// let look = record.look::<_, String>(7, &"user").unwrap();
    /// assert!(record.delete(7, &"user"));
    /// assert_eq!(look.value(), "ann");
    /// ```
    #[inline]
    #[must_use]
    pub fn value(&self) -> &V {
        // SAFETY: `look` found a V there, and L4: it is not dropped while we are borrowed.
        unsafe { &*value_of(self.entry).cast::<V>() }
    }
}

impl<V> fmt::Debug for Look<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Look").finish_non_exhaustive()
    }
}

impl<V> Drop for Look<'_, V> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: L4: borrowed, so still there.
        let borrows = unsafe { &self.entry.as_ref().borrows };
        borrows.set(borrows.get() - 1);
        if borrows.get() == DETACHED {
            // SAFETY: detached, so in no list, and this was the last borrow.
            unsafe { self.record.finish(self.entry) };
        }
    }
}

struct Comparing<'a>(&'a Cell<bool>, bool);

impl Drop for Comparing<'_> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}

impl Locals {
    /// The entry under `key`, and the pointer to its kind for a quick comparison of types.
    #[inline]
    fn find<K: Eq + 'static>(&self, hash: u32, key: &K, likely: &'static Kind) -> Option<NonNull<Header>> {
        // SAFETY: L1; the reference ends here, and the slots stay as they are while keys are compared (M2).
        let (slots, mut at) = match unsafe { &*self.cold.get() } {
            Some(cold) if cold.map.len > 0 => (NonNull::from(cold.map.slots.as_slice()), cold.map.home(hash)),
            _ => return None,
        };
        let mask = slots.len() - 1;
        loop {
            // SAFETY: within the slots: `home` and the mask.
            let slot = unsafe { slots.cast::<Slot>().add(at).read() };
            let entry = NonNull::new(slot.entry)?;
            if slot.hash == hash {
                // SAFETY: M1.
                let kind = unsafe { entry.as_ref() }.kind;
                if ptr::eq(kind, likely) || kind.has_key::<K>() {
                    let _comparing = Comparing(&self.comparing, self.comparing.replace(true));
                    // SAFETY: the key is a K and lies at `key_at` (E1).
                    if unsafe { &*entry.as_ptr().cast::<u8>().add(kind.key_at).cast::<K>() } == key {
                        return Some(entry);
                    }
                }
            }
            at = (at + 1) & mask;
        }
    }

    #[inline]
    fn check_at_rest(&self) {
        assert!(
            !self.comparing.get(),
            "gorun: dynamic storage was changed by the Eq of a key that is being looked up in it"
        );
    }

    /// Stores `value` under `key`, as the newest; what was there is dropped. `hash` is the key's, and the same with each call
    /// for it.
    ///
    /// # Panics
    /// In the `Eq` of a key, when the exit path is over its bound, and when the old value's destructor does. In the first two
    /// cases key and value are forgotten: their destructor may be what stores them, again and again.
    ///
    /// ```
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// record.set(7, "user", "ann");
    /// record.set(7, "user", "bob");
    /// assert_eq!(record.remove(7, &"user"), Some("bob"));
    /// ```
    #[inline]
    pub fn set<K: Eq + 'static, V: 'static>(&self, hash: u32, key: K, value: V) {
        if self.comparing.get() || self.phase.get() == Phase::Refusing {
            std::mem::forget((key, value));
            self.check_at_rest();
            panic!("gorun: a destructor stored past the bound of exit rounds");
        }
        let kind = PairKind::<K, V>::KIND;
        let old = self.find(hash, &key, kind);
        if let Some(entry) = old {
            // SAFETY: M1.
            let header = unsafe { entry.as_ref() };
            if ptr::eq(header.kind, kind) && header.borrows.get() == 0 {
                self.unlink(entry);
                self.link(entry);
                // SAFETY: E1: a V, and nobody borrows it.
                drop(unsafe { ptr::replace(value_of(entry).cast::<V>(), value) });
                return;
            }
        }
        // SAFETY: this very kind.
        let new = unsafe { self.new_entry(kind, hash, Pair { value, key }) };
        self.link(new);
        self.patch();
        self.cold_mut().map.insert(hash, new.as_ptr());
        if let Some(old) = old {
            self.discard(old);
        }
    }

    /// The value under `key`, if there is one and it is a V.
    ///
    /// # Panics
    /// When `K`'s `Eq` does.
    ///
    /// ```
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// record.set(7, "user", "ann");
    /// assert_eq!(*record.look::<_, &str>(7, &"user").unwrap().value(), "ann");
    /// assert!(record.look::<_, u32>(7, &"user").is_none(), "it is no u32");
    /// ```
    #[inline]
    #[must_use]
    pub fn look<K: Eq + 'static, V: 'static>(&self, hash: u32, key: &K) -> Option<Look<'_, V>> {
        let kind = PairKind::<K, V>::KIND;
        let entry = self.find(hash, key, kind)?;
        // SAFETY: M1.
        let header = unsafe { entry.as_ref() };
        if !ptr::eq(header.kind, kind) && !header.kind.has_value::<V>() {
            return None;
        }
        header.borrows.set(header.borrows.get() + 1);
        Some(Look { record: self, entry, _value: PhantomData })
    }

    /// Returns true if there is a value under `key`.
    ///
    /// ```
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// assert!(!record.has(7, &"user"));
    /// record.set(7, "user", "ann");
    /// assert!(record.has(7, &"user"));
    /// ```
    #[must_use]
    pub fn has<K: Eq + 'static>(&self, hash: u32, key: &K) -> bool {
        self.find(hash, key, PairKind::<K, ()>::KIND).is_some()
    }

    /// Drops the value under `key`, if there is one: at once, or at the end of the last look at it. Says whether there was
    /// one.
    ///
    /// # Panics
    /// In the `Eq` of a key, and when the value's destructor does.
    ///
    /// ```
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// record.set(7, "user", "ann");
    /// assert!(record.delete(7, &"user"));
    /// assert!(!record.delete(7, &"user"));
    /// ```
    pub fn delete<K: Eq + 'static>(&self, hash: u32, key: &K) -> bool {
        self.check_at_rest();
        let entry = self.find(hash, key, PairKind::<K, ()>::KIND);
        if let Some(entry) = entry {
            self.discard(entry);
        }
        entry.is_some()
    }

    /// Moves out the value under `key`, if there is one and it is a V.
    ///
    /// # Panics
    /// In the `Eq` of a key, when the value is being looked at, and when the key's destructor does.
    ///
    /// ```
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// record.set(7, "user", "ann");
    /// assert_eq!(record.remove::<_, u32>(7, &"user"), None);
    /// assert_eq!(record.remove(7, &"user"), Some("ann"));
    /// ```
    #[must_use]
    pub fn remove<K: Eq + 'static, V: 'static>(&self, hash: u32, key: &K) -> Option<V> {
        self.check_at_rest();
        let entry = self.find(hash, key, PairKind::<K, V>::KIND)?;
        // SAFETY: M1.
        let header = unsafe { entry.as_ref() };
        if !header.kind.has_value::<V>() {
            return None;
        }
        assert!(header.borrows.get() == 0, "gorun: a dynamic value was taken while a closure looks at it");
        self.unlink(entry);
        self.unmap(entry);
        // SAFETY: E1: key and value have these types, and the entry is in no list any more.
        let pair = unsafe {
            let pair = value_of(entry).cast::<Pair<K, V>>().read();
            self.free(entry);
            pair
        };
        Some(pair.value)
    }

    /// Takes the entry's slot out of the map.
    pub(super) fn unmap(&self, entry: NonNull<Header>) {
        // SAFETY: M1.
        let hash = unsafe { entry.as_ref() }.tag;
        self.cold_mut().map.remove(hash, entry.as_ptr());
    }
}
