//! The dynamic side: values under any key, as go-tls has them, without its faults.
//!
//! The map holds references to entries of the record ([`ValueRef`]); the entries are in the record's one chain, so
//! typed and dynamic values drop in one order. A map is made at the first `set` and dropped in the exit path.

use super::AccessError;
use gorun_scheduler::{EXTENSION, GoroutineId, Locals, ValueKind, ValueRef, record};
use std::any::{Any, TypeId};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ptr::NonNull;

/// A key, with its type forgotten.
trait Key {
    fn hash_key(&self, state: &mut FastHasher);
    fn eq_key(&self, other: &dyn Key) -> bool;
    fn as_any(&self) -> &dyn Any;
}

impl<K: Hash + Eq + 'static> Key for K {
    fn hash_key(&self, state: &mut FastHasher) {
        TypeId::of::<K>().hash(state);
        self.hash(state);
    }
    fn eq_key(&self, other: &dyn Key) -> bool {
        other.as_any().downcast_ref::<K>().is_some_and(|other| self == other)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct BoxedKey(Box<dyn Key>);

impl Hash for dyn Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut hasher = FastHasher::default();
        self.hash_key(&mut hasher);
        state.write_u64(hasher.finish());
    }
}

impl PartialEq for dyn Key {
    fn eq(&self, other: &dyn Key) -> bool {
        self.eq_key(other)
    }
}

impl Eq for dyn Key {}

impl Hash for BoxedKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (*self.0).hash(state);
    }
}

impl PartialEq for BoxedKey {
    fn eq(&self, other: &BoxedKey) -> bool {
        self.0.eq_key(&*other.0)
    }
}

impl Eq for BoxedKey {}

impl Borrow<dyn Key> for BoxedKey {
    fn borrow(&self) -> &(dyn Key + 'static) {
        &*self.0
    }
}

/// A multiplicative hash, word by word: the keys are the program's own, so no defence against chosen keys is due.
#[derive(Default)]
struct FastHasher(u64);

impl Hasher for FastHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }
    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

type Map = HashMap<BoxedKey, Stored, BuildHasherDefault<FastHasher>>;

/// A value in the record, and of which type it is.
#[derive(Clone, Copy)]
struct Stored {
    value: ValueRef,
    type_id: TypeId,
}

trait HasKind {
    const KIND: &'static ValueKind;
}

impl<V: 'static> HasKind for V {
    const KIND: &'static ValueKind = &ValueKind::of::<V>(None);
}

fn locals<'a>() -> Option<&'a Locals> {
    // SAFETY: the caller's own record; what is borrowed of it does not outlive the public calls below, which run
    // on its goroutine or thread.
    record().map(|record| unsafe { record.as_ref() })
}

/// The map, taken out of the record while keys are hashed and compared: that is user code, and one that uses the map
/// then finds an empty one instead of one that is being changed. Put back when dropped; what such a key stored is out
/// of reach then, and dropped in the exit path with the rest.
struct Busy<'a> {
    locals: &'a Locals,
    map: Option<Box<Map>>,
}

impl<'a> Busy<'a> {
    fn begin(locals: &'a Locals) -> Busy<'a> {
        let map = locals.extension().map(|map| {
            // SAFETY: from `Box::into_raw` in `drop`, and taken out of the record here.
            unsafe {
                locals.set_extension(None);
                Box::from_raw(map.cast::<Map>().as_ptr())
            }
        });
        Busy { locals, map }
    }

    fn find<K: Hash + Eq + 'static>(&mut self, key: &K) -> Option<&mut Stored> {
        let key: &dyn Key = key;
        self.map.as_mut()?.get_mut(key)
    }

    fn insert<K: Hash + Eq + 'static>(&mut self, key: K, stored: Stored) {
        let map = self.map.get_or_insert_with(|| {
            // Whoever comes first; they are all the same.
            let _set = EXTENSION.set(free);
            Box::default()
        });
        map.insert(BoxedKey(Box::new(key)), stored);
    }

    fn remove<K: Hash + Eq + 'static>(&mut self, key: &K) -> Option<(BoxedKey, Stored)> {
        let key: &dyn Key = key;
        self.map.as_mut()?.remove_entry(key)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let Some(map) = self.map.take() else { return };
        let map = NonNull::new(Box::into_raw(map).cast());
        let meanwhile = self.locals.extension();
        // SAFETY: for `free`, which `EXTENSION` was set to when the map was made.
        unsafe { self.locals.set_extension(map) };
        if let Some(meanwhile) = meanwhile {
            // SAFETY: ours, and no longer in the record.
            unsafe { free(meanwhile) };
        }
    }
}

/// # Safety
/// An extension of ours, out of its record; called once.
unsafe fn free(map: NonNull<u8>) {
    // SAFETY: by the caller.
    drop(unsafe { Box::from_raw(map.cast::<Map>().as_ptr()) });
}

/// Stores `value` under `key`. A value that is there already is dropped: closed, in go-tls's words (its `Set` forgot
/// that). The new one is the newest, and so the first to be dropped at the exit.
///
/// Keys of different types never meet; neither key nor value need be `Send`. go-tls: `Set`.
///
/// # Panics
/// Where nothing can be stored any more: on a plain thread past its storage, or after the bounded rounds of an exit path.
///
/// ```
/// gorun::local::set("user", String::from("alice"));
/// assert_eq!(gorun::local::get::<_, String>(&"user").as_deref(), Some("alice"));
/// gorun::go(|| assert!(!gorun::local::contains(&"user"))).join().unwrap();
/// ```
pub fn set<K: Hash + Eq + 'static, V: 'static>(key: K, value: V) {
    let Some(locals) = locals() else { panic!("gorun: {AccessError}") };
    let mut busy = Busy::begin(locals);
    let type_id = TypeId::of::<V>();
    let there = busy.find(&key).copied();
    if let Some(there) = there
        && there.type_id == type_id
        && !there.value.is_borrowed()
    {
        // SAFETY: a live value of type V, which nobody borrows.
        let before = unsafe { there.value.as_ptr().cast::<V>().replace(value) };
        // SAFETY: in the record: it is in the map.
        unsafe { locals.renew(there.value) };
        drop(busy);
        drop(before);
        return;
    }
    // SAFETY: our own record, and `write` gets room for a V.
    let stored = unsafe { locals.store(<V as HasKind>::KIND, 0, |place| place.cast::<V>().write(value)) };
    let Some(value) = stored else {
        drop(busy);
        panic!("gorun: {AccessError}");
    };
    let stored = Stored { value, type_id };
    match busy.find(&key) {
        Some(place) => *place = stored,
        None => busy.insert(key, stored),
    }
    drop(busy);
    if let Some(before) = there {
        // SAFETY: it was in the map until now, hence in the record.
        unsafe { locals.remove(before.value) };
    }
}

/// A clone of the value under `key`; `None` if there is none, or none of this type. go-tls: `Get`.
///
/// ```
/// gorun::local::set(1u32, 2.5f64);
/// assert_eq!(gorun::local::get(&1u32), Some(2.5f64));
/// assert_eq!(gorun::local::get::<_, u8>(&1u32), None);
/// ```
pub fn get<K: Hash + Eq + 'static, V: Clone + 'static>(key: &K) -> Option<V> {
    with(key, V::clone)
}

/// Lends the value under `key` to `f`. `f` may delete or overwrite it: it is dropped when `f` is through. It may block.
///
/// ```
/// gorun::local::set("list", vec![1, 2, 3]);
/// assert_eq!(gorun::local::with(&"list", |list: &Vec<i32>| list.len()), Some(3));
/// ```
pub fn with<K: Hash + Eq + 'static, V: 'static, R>(key: &K, f: impl FnOnce(&V) -> R) -> Option<R> {
    struct Lent<'a>(&'a Locals, ValueRef);
    impl Drop for Lent<'_> {
        fn drop(&mut self) {
            // SAFETY: both were begun once, below.
            unsafe {
                self.0.end_borrow();
                self.1.unborrow();
            }
        }
    }
    let locals = locals()?;
    let stored = Busy::begin(locals).find(key).copied()?;
    if stored.type_id != TypeId::of::<V>() {
        return None;
    }
    locals.begin_borrow();
    // SAFETY: in the map, hence in the record.
    unsafe { stored.value.borrow() };
    let _lent = Lent(locals, stored.value);
    // SAFETY: a live value of type V, which stays until the borrow ends. Nothing gives out `&mut`.
    Some(f(unsafe { &*stored.value.as_ptr().cast::<V>() }))
}

/// Whether there is a value under `key`, of whatever type.
#[must_use]
pub fn contains<K: Hash + Eq + 'static>(key: &K) -> bool {
    locals().is_some_and(|locals| Busy::begin(locals).find(key).is_some())
}

/// Drops the value under `key` and says whether there was one. go-tls: `Del`, which forgets to close.
pub fn del<K: Hash + Eq + 'static>(key: &K) -> bool {
    let Some(locals) = locals() else { return false };
    let Some((key, stored)) = Busy::begin(locals).remove(key) else { return false };
    // SAFETY: it was in the map until now, hence in the record.
    unsafe { locals.remove(stored.value) };
    drop(key);
    true
}

/// Takes the value under `key` out; `None`, and nothing changed, if there is none of this type, or it is lent to a
/// [`with`] just now.
///
/// ```
/// gorun::local::set('k', vec![1]);
/// assert_eq!(gorun::local::take(&'k'), Some(vec![1]));
/// assert!(!gorun::local::contains(&'k'));
/// ```
pub fn take<K: Hash + Eq + 'static, V: 'static>(key: &K) -> Option<V> {
    let locals = locals()?;
    let mut busy = Busy::begin(locals);
    let stored = *busy.find(key)?;
    if stored.type_id != TypeId::of::<V>() || stored.value.is_borrowed() {
        return None;
    }
    let removed = busy.remove(key);
    drop(busy);
    let mut value = None;
    // SAFETY: it was in the map until now, and nobody borrows it; a V.
    unsafe { locals.take(stored.value, |place| value = Some(place.cast::<V>().read())) };
    drop(removed);
    value
}

/// Drops all values of the calling goroutine, typed keys' too, which are uninitialised again. Handlers stay.
/// go-tls: `Reset`.
///
/// # Panics
/// Inside `with` of one of its values.
pub fn reset() {
    if let Some(locals) = locals() {
        locals.reset();
    }
}

/// Drops all values and discards the handlers without running them: the goroutine leaves as if it had never stored
/// anything, through the bare exit. Storing again is possible, and starts anew. go-tls: `Unload`; the id stays the
/// same here.
///
/// # Panics
/// Inside `with` of one of its values.
pub fn unload() {
    if let Some(locals) = locals() {
        locals.unload();
    }
}

/// Runs `f` when the calling goroutine ends, however it does, on its own stack; the handler added last first.
///
/// All storage is there while handlers run. They may block, spawn, store, and add handlers, which run next. Also on the
/// main goroutine of [`run`](crate::run), and on plain threads when they end. go-tls: `AtExit`.
///
/// # Panics
/// Where nothing can be stored any more: see [`set`].
///
/// ```
/// let (tx, rx) = std::sync::mpsc::channel();
/// gorun::go(move || {
///     let first = tx.clone();
///     gorun::at_exit(move || first.send("first").unwrap());
///     gorun::at_exit(move || tx.send("second").unwrap());
/// }).join().unwrap();
/// assert_eq!(rx.iter().collect::<Vec<_>>(), ["second", "first"]);
/// ```
pub fn at_exit(f: impl FnOnce() + 'static) {
    let added = locals().is_some_and(|locals| locals.at_exit(Box::new(f)));
    assert!(added, "gorun: {AccessError}");
}

/// The number of the calling goroutine or plain thread: [`gorun::id`](crate::id). Never 0, also on the main goroutine.
/// go-tls: `ID`.
///
/// # Panics
/// On a plain thread past its storage.
#[must_use]
pub fn id() -> GoroutineId {
    crate::id()
}
