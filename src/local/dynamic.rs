//! Dynamic keys and handlers: go-tls's surface, as functions on the caller's record.
//!
//! The record has the map and the order (`gorun_scheduler::Locals`); hashing is done here.

use gorun_scheduler::{GoroutineId, Locals, current_id, record};
use std::any::TypeId;
use std::hash::{Hash, Hasher};

/// The caller's record; `None` past the end of a plain thread's thread-locals.
#[inline]
fn mine<'a>() -> Option<&'a Locals> {
    // SAFETY: the record is the running goroutine's or thread's own and stays until that ends; callers keep the
    // reference in their frame.
    record().map(|record| unsafe { record.as_ref() })
}

#[cold]
#[inline(never)]
fn gone() -> ! {
    panic!("gorun: this thread is past the end of its thread-locals and stores nothing any more")
}

/// Multiply and fold, as rustc's own hasher. Not meant for keys that an attacker chooses.
struct Fold(u64);

const ODD: u64 = 0xf135_7aea_2e62_a9c5;

impl Fold {
    #[inline]
    fn add(&mut self, word: u64) {
        self.0 = self.0.wrapping_add(word).wrapping_mul(ODD).rotate_left(26);
    }
}

impl Hasher for Fold {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.add(u64::from_le_bytes(word.try_into().expect("8 bytes")));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        self.add(u64::from_le_bytes(last) ^ bytes.len() as u64);
    }
    #[inline]
    fn write_u8(&mut self, n: u8) {
        self.add(n.into());
    }
    #[inline]
    fn write_u16(&mut self, n: u16) {
        self.add(n.into());
    }
    #[inline]
    fn write_u32(&mut self, n: u32) {
        self.add(n.into());
    }
    #[inline]
    fn write_u64(&mut self, n: u64) {
        self.add(n);
    }
    #[inline]
    fn write_usize(&mut self, n: usize) {
        self.add(n as u64);
    }
    #[inline]
    fn finish(&self) -> u64 {
        self.0.wrapping_mul(ODD)
    }
}

/// Keys of different types are different keys, so the type is hashed too.
#[inline]
fn hash_of<K: Hash + 'static>(key: &K) -> u32 {
    let mut fold = Fold(0);
    TypeId::of::<K>().hash(&mut fold);
    key.hash(&mut fold);
    // The map takes the top bits of these, which are the product's top bits.
    (fold.finish() >> 32) as u32
}

/// Stores `value` under `key` for the calling goroutine or thread. go-tls's `Set`.
///
/// What was there is dropped (after the new value has taken its place), whatever its type; the new value is the
/// newest in the order of initialisation. Keys of different types never meet.
///
/// # Panics
/// When a destructor stores past the bound of exit rounds; on a plain thread past the end of its thread-locals; when
/// called by the `Eq` of a key; and when the old value's destructor does. In the first three cases key and value are
/// forgotten, not dropped: their destructor may be what stores them, again and again.
///
/// ```
/// gorun::local::set("name", String::from("ann"));
/// gorun::local::set(1u8, 2.5f32);
/// assert_eq!(gorun::local::get::<_, String>(&"name").as_deref(), Some("ann"));
/// assert_eq!(gorun::go(|| gorun::local::contains(&"name")).join().unwrap(), false);
/// ```
#[inline]
pub fn set<K: Hash + Eq + 'static, V: 'static>(key: K, value: V) {
    let hash = hash_of(&key);
    match mine() {
        Some(record) => record.set(hash, key, value),
        None => {
            // Its destructor may be what stores it, again and again.
            std::mem::forget((key, value));
            gone()
        }
    }
}

/// A clone of the value under `key`; `None` if there is none or it isn't a `V`. go-tls's `Get`.
///
/// ```
/// gorun::local::set(7, "seven");
/// assert_eq!(gorun::local::get::<i32, &str>(&7), Some("seven"));
/// assert_eq!(gorun::local::get::<i32, String>(&7), None);
/// ```
#[inline]
#[must_use]
pub fn get<K: Hash + Eq + 'static, V: Clone + 'static>(key: &K) -> Option<V> {
    with(key, V::clone)
}

/// Calls `f` with the value under `key`; `None` if there is none or it isn't a `V`. go-tls's `Get`, without a copy.
///
/// `f` may block, and may delete or replace what it looks at: the value leaves the map at once and is dropped when
/// `f` is done.
///
/// ```
/// gorun::local::set("log", std::cell::RefCell::new(vec![1]));
/// gorun::local::with(&"log", |log: &std::cell::RefCell<Vec<i32>>| log.borrow_mut().push(2));
/// let sum = gorun::local::with(&"log", |log: &std::cell::RefCell<Vec<i32>>| log.borrow().iter().sum::<i32>());
/// assert_eq!(sum, Some(3));
/// ```
#[inline]
pub fn with<K: Hash + Eq + 'static, V: 'static, R>(key: &K, f: impl FnOnce(&V) -> R) -> Option<R> {
    let hash = hash_of(key);
    let look = mine()?.look::<K, V>(hash, key)?;
    Some(f(look.value()))
}

/// Returns true if there is a value under `key`, of any type. The second result of go-tls's `Get`.
///
/// ```
/// assert!(!gorun::local::contains(&"key"));
/// gorun::local::set("key", ());
/// assert!(gorun::local::contains(&"key"));
/// ```
#[must_use]
pub fn contains<K: Hash + Eq + 'static>(key: &K) -> bool {
    let hash = hash_of(key);
    mine().is_some_and(|record| record.has(hash, key))
}

/// Removes and drops the value under `key`; whether there was one. go-tls's `Del`.
///
/// # Panics
/// When called by the `Eq` of a key, and when the value's destructor does.
///
/// ```
/// gorun::local::set("key", 1);
/// assert!(gorun::local::del(&"key"));
/// assert!(!gorun::local::del(&"key"));
/// ```
pub fn del<K: Hash + Eq + 'static>(key: &K) -> bool {
    let hash = hash_of(key);
    mine().is_some_and(|record| record.delete(hash, key))
}

/// Moves the value under `key` out; `None`, and nothing changes, if there is none or it isn't a `V`.
///
/// go-tls's `Get` and `Del` in one.
///
/// # Panics
/// While a closure [`with`] the same key looks at it; when called by the `Eq` of a key.
///
/// ```
/// gorun::local::set("key", String::from("v"));
/// assert_eq!(gorun::local::take::<_, u32>(&"key"), None);
/// assert_eq!(gorun::local::take::<_, String>(&"key").unwrap(), "v");
/// assert!(!gorun::local::contains(&"key"));
/// ```
#[must_use = "`del` drops the value"]
pub fn take<K: Hash + Eq + 'static, V: 'static>(key: &K) -> Option<V> {
    let hash = hash_of(key);
    mine()?.remove(hash, key)
}

/// Drops everything the caller has stored, newest first; handlers stay. go-tls's `Reset`.
///
/// Typed keys are uninitialised again, dynamic ones absent. What destructors store meanwhile stays.
///
/// # Panics
/// In a closure that looks at a typed key, in a [`scope`](super::LocalKey::scope), in an inherit hook and in the
/// `Eq` of a key; and with the first panic of a destructor, after the rest have run.
///
/// ```
/// gorun::local::set("key", 1);
/// gorun::local::reset();
/// assert!(!gorun::local::contains(&"key"));
/// ```
pub fn reset() {
    if let Some(record) = mine() {
        record.reset();
    }
}

/// Drops everything the caller has stored, discards its handlers unrun, and takes it back to an exit that cleans
/// nothing. go-tls's `Unload`.
///
/// What destructors store meanwhile is dropped too. Storage and handlers may be used again afterwards. The caller's
/// [`id`] stays what it was, as it is the goroutine's and not the storage's; in go-tls `ID` gives another one after `Unload`.
///
/// # Panics
/// As [`reset`].
///
/// ```
/// gorun::go(|| {
///     gorun::at_exit(|| unreachable!("discarded"));
///     gorun::local::unload();
/// })
/// .join()
/// .unwrap();
/// ```
pub fn unload() {
    if let Some(record) = mine() {
        record.unload();
    }
}

/// Has `f` run when the calling goroutine, or plain thread, ends. go-tls's `AtExit`.
///
/// Handlers run on every way out, on the goroutine's own stack, last in first out, before its storage is dropped:
/// `f` may read and write storage, block, spawn, and register handlers, which then run too. (Not for ever: a chain of
/// handlers that register each other ends after 1000.)
///
/// # Panics
/// When a destructor registers past the bound of exit rounds; in the last handler of such a chain; on a plain thread
/// past the end of its thread-locals.
///
/// ```
/// let (tx, rx) = gorun::channel(2);
/// let other = tx.clone();
/// gorun::go(move || {
///     gorun::at_exit(move || tx.send("first in").unwrap());
///     gorun::at_exit(move || other.send("last in").unwrap());
///     gorun::goexit()
/// });
/// assert_eq!(rx.iter().collect::<Vec<_>>(), ["last in", "first in"]);
/// ```
pub fn at_exit(f: impl FnOnce() + 'static) {
    match mine() {
        Some(record) => record.at_exit(f),
        None => {
            // As in `set`.
            std::mem::forget(f);
            gone()
        }
    }
}

/// The number of the calling goroutine or thread: unique in the process, never 0, never used again. go-tls's `ID`;
/// the same as [`gorun::id`](crate::id()).
///
/// # Panics
/// On a plain thread past the end of its thread-locals.
///
/// ```
/// assert_eq!(gorun::local::id(), gorun::id());
/// ```
#[must_use]
pub fn id() -> GoroutineId {
    current_id().unwrap_or_else(|| gone())
}
