//! The record by itself: patching, memory, emptiness, the bound of rounds, inheritance, frames that never return.

use super::data::{ARENA, Kind, Locals, Phase};
use super::*;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::rc::Rc;

/// Puts a value under an index, as a key of that type would.
fn put<T: 'static>(record: &Locals, index: u32, value: T) -> NonNull<T> {
    struct Typed<T>(std::marker::PhantomData<T>);
    impl<T: 'static> Typed<T> {
        const KIND: &'static Kind = &Kind::typed::<T>();
    }
    // SAFETY: each test uses an index with one type.
    unsafe { record.begin(index).unwrap().finish(Typed::<T>::KIND, value) }
}

type Log = Rc<RefCell<Vec<u32>>>;

struct Noisy(Log, u32);

impl Drop for Noisy {
    fn drop(&mut self) {
        self.0.borrow_mut().push(self.1);
    }
}

fn record() -> (Locals, Log) {
    let record = Locals::new();
    record.assert_empty();
    (record, Log::default())
}

fn in_arena<T>(record: &Locals, value: NonNull<T>) -> bool {
    value.as_ptr().addr().wrapping_sub(record.arena.get().addr()) < ARENA
}

#[test]
fn the_target_is_patched_by_the_first_use_and_back_by_exit_and_unload() {
    let (record, log) = record();
    record.run_exit();
    assert!(!record.is_patched());
    // Looking and a scope leave it alone.
    assert!(record.value(3).is_none() && !record.has(1, &1) && !record.delete(1, &1));
    record.reset();
    record.unload();
    static KIND: Kind = Kind::typed::<u8>();
    // SAFETY: nothing else is under this index.
    unsafe { record.scoped(&KIND, 3, 1u8, || assert!(record.value(3).is_some())) };
    record.assert_empty();

    let typed = || {
        put(&record, 1, Noisy(log.clone(), 1));
    };
    let uses: [&dyn Fn(); 3] = [&typed, &|| record.set(7, 7u8, 1), &|| record.at_exit(|| ())];
    for patches in uses {
        patches();
        assert!(record.is_patched() && !record.is_empty());
        assert!(catch_unwind(AssertUnwindSafe(|| record.assert_empty())).is_err());
        record.run_exit();
        record.assert_empty();
        patches();
        record.unload();
        record.assert_empty();
    }
    assert_eq!(*log.borrow(), [1, 1]);
}

#[test]
fn a_begun_key_that_panics_is_unset_again() {
    let (record, _) = record();
    for index in [1, 40] {
        let begun = record.begin(index).unwrap();
        assert_eq!(record.begin(index).unwrap_err(), Unavailable::Initialising);
        assert!(record.value(index).is_none());
        drop(begun);
        drop(record.begin(index).unwrap());
    }
    record.assert_empty();
}

#[test]
fn three_words_lie_in_the_record_and_their_places_are_used_again() {
    let (record, _) = record();
    for _ in 0..3 {
        let values = [put(&record, 1, 1u64), put(&record, 2, 2u64), put(&record, 3, 3u64)];
        assert!(values.iter().all(|&v| in_arena(&record, v)));
        assert!(!in_arena(&record, put(&record, 4, 4u64)));
        for (n, value) in (1..).zip(values) {
            assert_eq!(record.value(n), Some(value.cast()));
            // SAFETY: alive.
            assert_eq!(unsafe { value.read() }, u64::from(n));
        }
        record.run_exit();
        record.assert_empty();
    }
    // The newest gives its place back at once.
    for n in 0..100u32 {
        record.set(n, n, u64::from(n));
        assert!(record.used.get() > 0);
        assert!(record.delete(n, &n));
        assert_eq!(record.used.get(), 0);
    }
}

#[test]
fn a_value_is_aligned_wherever_the_record_lies() {
    #[repr(align(64))]
    struct Wide(u8);
    let (record, _) = record();
    put(&record, 1, 1u8);
    for index in 2..5 {
        let wide = put(&record, index, Wide(index as u8));
        assert_eq!(wide.as_ptr().addr() % 64, 0);
        // SAFETY: alive.
        assert_eq!(unsafe { wide.as_ref() }.0, index as u8);
    }
    record.run_exit();
    record.assert_empty();
}

#[test]
fn the_bound_of_rounds_is_reported_once_and_the_rest_dropped() {
    thread_local! { static OVERRUNS: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) } }
    struct Again(Rc<Locals>, Log, u32);
    impl Drop for Again {
        fn drop(&mut self) {
            self.1.borrow_mut().push(1);
            if self.0.phase.get() == Phase::Refusing {
                assert_eq!(self.0.begin(3).unwrap_err(), Unavailable::Destroyed);
                let refused = |f: &dyn Fn()| catch_unwind(AssertUnwindSafe(f)).is_err();
                assert!(refused(&|| self.0.set(1, 1, 1)) && refused(&|| self.0.at_exit(|| ())));
            } else {
                // Its own key can't be used while it is dropped.
                let other = 3 - self.2;
                put(&self.0, other, Again(self.0.clone(), self.1.clone(), other));
            }
        }
    }
    let before = on_exit_overrun(|id| OVERRUNS.with_borrow_mut(|o| o.push(id)));
    let record = Rc::new(Locals::new());
    record.set_id(u64::MAX);
    let log = Log::default();
    put(&record, 1, Again(record.clone(), log.clone(), 1));
    record.run_exit();
    record.assert_empty();
    on_exit_overrun(before);
    assert_eq!(log.borrow().len(), EXIT_ROUNDS + 1);
    assert_eq!(OVERRUNS.take(), [u64::MAX]);
    assert_eq!(Rc::strong_count(&record), 1, "every value was dropped");
}

#[test]
fn only_inheritable_keys_are_inherited_oldest_first() {
    static TWICE: Kind = Kind::inheriting::<u64>(|n| n * 2);
    static SAME: Kind = Kind::inheriting::<String>(String::clone);
    let (parent, child) = (Locals::new(), Locals::new());
    parent.inherit_into(&child);
    child.assert_empty();
    put(&parent, 1, 5u8);
    parent.set(9, 9, 9);
    parent.inherit_into(&child);
    child.assert_empty();
    // SAFETY: one type for each index.
    unsafe {
        parent.begin(2).unwrap().finish(&TWICE, 21u64);
        parent.begin(30).unwrap().finish(&SAME, String::from("s"));
        parent.scoped(&TWICE, 2, 4u64, || {
            parent.inherit_into(&child);
            assert_eq!(child.value(2).unwrap().cast::<u64>().read(), 8);
            child.run_exit();
            child.assert_empty();
        });
    }
    parent.inherit_into(&child);
    assert!(child.is_patched() && child.value(1).is_none());
    // SAFETY: these types, and alive.
    unsafe {
        assert_eq!(child.value(2).unwrap().cast::<u64>().read(), 42);
        assert_eq!(child.value(30).unwrap().cast::<String>().as_ref(), "s");
        assert_eq!((*child.newest.get()).tag, 30);
    }
    parent.run_exit();
    parent.assert_empty();
    // SAFETY: alive: the child's is a clone.
    assert_eq!(unsafe { child.value(30).unwrap().cast::<String>().as_ref() }, "s");
    child.run_exit();
    child.assert_empty();
}

#[test]
fn a_hook_that_panics_leaves_the_child_to_its_exit() {
    static FINE: Kind = Kind::inheriting::<String>(String::clone);
    static BAD: Kind = Kind::inheriting::<u8>(|_| panic!("expected"));
    let (parent, child) = (Locals::new(), Locals::new());
    // SAFETY: one type for each index.
    unsafe {
        parent.begin(1).unwrap().finish(&FINE, String::from("s"));
        parent.begin(2).unwrap().finish(&BAD, 1u8);
    }
    assert!(catch_unwind(AssertUnwindSafe(|| parent.inherit_into(&child))).is_err());
    assert!(child.value(1).is_some() && child.value(2).is_none());
    child.run_exit();
    child.assert_empty();
    // The borrow of the spawner's values has ended.
    parent.reset();
    parent.run_exit();
    parent.assert_empty();
}

#[test]
fn an_exit_under_frames_that_never_return_drops_what_is_not_theirs() {
    // As `std::process::exit` has it; the frames here do return, and must find nothing of theirs touched.
    static KIND: Kind = Kind::typed::<Noisy>();
    let (record, log) = record();
    let noisy = |n| Noisy(log.clone(), n);
    put(&record, 1, noisy(1));
    record.set(5, 5, noisy(5));
    record.set(6, 6, noisy(6));
    let look = record.look::<i32, Noisy>(5, &5).unwrap();
    // SAFETY: one type for the index.
    unsafe {
        record.scoped(&KIND, 1, noisy(10), || {
            record.run_exit();
            assert_eq!(*log.borrow(), [6, 1]);
            assert_eq!(look.value().1, 5);
        });
    }
    assert_eq!(*log.borrow(), [6, 1, 10]);
    drop(look);
    assert_eq!(*log.borrow(), [6, 1, 10, 5]);
}

#[test]
fn the_map_finds_what_shares_a_hash_and_gives_up_slots_when_large() {
    let (record, _) = record();
    for n in 0..500u32 {
        // Seven hashes for all.
        record.set(n % 7 * 0x2000_0000, n, n);
    }
    for n in (0..500u32).step_by(3) {
        assert!(record.delete(n % 7 * 0x2000_0000, &n));
    }
    for n in 0..500u32 {
        let found = record.look::<u32, u32>(n % 7 * 0x2000_0000, &n).map(|look| *look.value());
        assert_eq!(found, (n % 3 != 0).then_some(n));
    }
    assert!(record.look::<u32, u64>(0x2000_0000, &1).is_none() && !record.has(0x2000_0000, &1u64));
    record.run_exit();
    record.assert_empty();
    // SAFETY: nothing else looks.
    assert!(unsafe { &*record.cold.get() }.as_ref().unwrap().map.is_trimmed());
}

/// Calls `unload` on a record when dropped.
struct Unloads(*const Locals, Log);

impl Drop for Unloads {
    fn drop(&mut self) {
        // SAFETY: the tests' records outlive what is in them.
        unsafe { &*self.0 }.unload();
        self.1.borrow_mut().push(0);
    }
}

#[test]
fn unload_in_a_destructor_patches_the_bare_exit_back() {
    let (record, log) = record();
    let fill = || {
        put(&record, 1, Noisy(log.clone(), 1));
        put(&record, 2, Unloads(&raw const record, log.clone()));
        put(&record, 3, Noisy(log.clone(), 3));
    };
    let outer: [&dyn Fn(); 2] = [&|| record.reset(), &|| record.unload()];
    for outer in outer {
        fill();
        record.at_exit(|| unreachable!("discarded"));
        outer();
        record.assert_empty();
        // The inner one drops what is older.
        assert_eq!(log.take(), [3, 1, 0]);
    }
    // In the exit path too, and that goes on to its end.
    fill();
    put(&record, 4, Noisy(log.clone(), 4));
    record.run_exit();
    record.assert_empty();
    assert_eq!(log.take(), [4, 3, 1, 0]);
}

#[test]
fn what_a_destructor_stores_after_its_unload_is_kept() {
    struct Stores(*const Locals, Log);
    impl Drop for Stores {
        fn drop(&mut self) {
            // SAFETY: as above.
            let record = unsafe { &*self.0 };
            record.unload();
            assert!(!record.is_patched());
            put(record, 2, Noisy(self.1.clone(), 2));
        }
    }
    let (record, log) = record();
    put(&record, 1, Stores(&raw const record, log.clone()));
    record.reset();
    assert!(record.is_patched() && record.value(2).is_some() && log.borrow().is_empty());
    record.run_exit();
    record.assert_empty();
    assert_eq!(log.take(), [2]);
}

#[test]
fn a_handler_that_always_registers_itself_comes_to_an_end() {
    fn again(record: *const Locals, log: Log) -> impl FnOnce() + 'static {
        move || {
            log.borrow_mut().push(1);
            // SAFETY: as above.
            unsafe { &*record }.at_exit(boxed(record, log.clone()));
        }
    }
    fn boxed(record: *const Locals, log: Log) -> Box<dyn FnOnce()> {
        Box::new(again(record, log))
    }
    let (record, log) = record();
    let before = exit_panics();
    {
        let log = log.clone();
        record.at_exit(move || log.borrow_mut().push(2));
    }
    record.at_exit(again(&raw const record, log.clone()));
    // Those that are registered one after the other are no chain.
    for _ in 0..2 * HANDLER_DEPTH {
        record.at_exit(|| ());
    }
    record.run_exit();
    record.assert_empty();
    assert!(exit_panics() > before, "the last of the chain was told");
    let ran = log.take();
    assert_eq!(
        (ran.len(), ran.last()),
        (usize::from(HANDLER_DEPTH) + 1, Some(&2)),
        "and the older handler ran after it"
    );
}
