//! The arena: slots, chunks, classes, reservations, two threads at once.

//! The arenas are the process's: each test has a class of its own.

use super::*;
use crate::base::child;
use crate::memory::{guards_need_mappings, page_size};
use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;

fn class(mib: usize) -> StackClass {
    StackClass::of_slot(mib << 20)
}

/// Writes a byte and says what was there.
fn touch(at: *mut u8, value: u8) -> u8 {
    // SAFETY: S2: the tests touch only slots they hold, or mean to crash.
    unsafe { at.replace(value) }
}

fn touch_all(slots: &[Slot], value: u8, before: u8) {
    slots.iter().for_each(|s| assert_eq!(touch(s.base(), value), before));
}

fn give_all(slots: Vec<Slot>) {
    slots.into_iter().for_each(|s| give_back(s, true));
}

#[test]
fn slots_are_disjoint_and_writable_from_base_to_top() {
    let class = class(1);
    reserve(class, 200).expect("reserve");
    let mut slots = Vec::new();
    take_many(class, 150, &mut slots).expect("take_many");
    slots.extend((0..50).map(|_| take(class).expect("take")));
    let limits: HashSet<usize> = slots.iter().map(|s| s.limit().addr()).collect();
    assert_eq!(limits.len(), 200);
    for slot in &slots {
        let (limit, top) = (slot.limit().addr(), slot.top().addr());
        assert_eq!((top - limit, slot.size(), top % 16), (1 << 20, 1 << 20, 0));
        assert!((limit + 1..top).step_by(1 << 14).all(|a| slot_of(a).is_some_and(|i| i.limit == limit)));
        assert_eq!(touch(slot.base(), 1), 0);
        // SAFETY: inside the slot.
        assert_eq!(touch(unsafe { slot.top().sub(1) }, 1), 0);
    }
    give_all(slots);
    unreserve(class, 200);
}

#[test]
fn the_last_one_given_back_is_the_next_one_taken() {
    let class = class(2);
    reserve(class, 3).expect("reserve");
    let slots: Vec<Slot> = (0..3).map(|_| take(class).expect("take")).collect();
    let tops: Vec<_> = slots.iter().map(Slot::top).collect();
    give_all(slots);
    let one = take(class).expect("take");
    assert_eq!(one.top(), tops[2]);
    let mut rest = vec![one];
    take_many(class, 2, &mut rest).expect("take_many");
    assert_eq!([rest[1].top(), rest[2].top()], [tops[1], tops[0]]);
    give_all(rest);
    unreserve(class, 3);
}

#[test]
fn pages_are_zero_again_unless_they_are_kept() {
    let class = class(4);
    reserve(class, 1).expect("reserve");
    for (keep, expected) in [(true, 7), (false, 0)] {
        let slot = take(class).expect("take");
        // SAFETY: inside the slot.
        let last = unsafe { slot.top().sub(1) };
        touch(slot.base(), 7);
        touch(last, 7);
        give_back(slot, keep);
        let slot = take(class).expect("take");
        assert_eq!((touch(slot.base(), 7), touch(last, 7)), (expected, expected));
        give_back(slot, true);
    }
    unreserve(class, 1);
}

#[test]
fn slot_of_knows_every_byte_of_a_slot_and_nothing_else() {
    let class = class(8);
    reserve(class, 2).expect("reserve");
    let slot = take(class).expect("take");
    let (limit, top, guard) = (slot.limit().addr(), slot.top().addr(), class.guard_size());
    assert_eq!(guard, 1 << 20);
    let info = |in_guard| Some(SlotInfo { limit, base: limit + guard, top, class, in_guard });
    assert_eq!(slot_of(limit), info(true));
    assert_eq!(slot_of(limit + guard - 1), info(true));
    assert_eq!(slot_of(limit + guard), info(false));
    assert_eq!(slot_of(top - 1), info(false));
    assert_ne!(slot_of(top), info(false));
    let local = 0u8;
    assert_eq!(slot_of((&raw const local).addr()), None);
    assert_eq!(slot_of(0), None);
    assert_eq!(slot_of(usize::MAX), None);
    give_back(slot, true);
    unreserve(class, 2);
}

#[test]
fn reservations_are_counted_and_given_back() {
    let class = class(16);
    let arena = &ARENAS[class.index()];
    reserve(class, FIRST_CHUNK).expect("reserve");
    assert_eq!(arena.capacity.load(Ordering::Relaxed), FIRST_CHUNK);
    unreserve(class, FIRST_CHUNK);
    reserve(class, FIRST_CHUNK).expect("reserve");
    assert_eq!(arena.capacity.load(Ordering::Relaxed), FIRST_CHUNK);
    reserve(class, 1).expect("reserve");
    assert_eq!(arena.capacity.load(Ordering::Relaxed), 2 * FIRST_CHUNK);
    assert_eq!(arena.reserved.load(Ordering::Relaxed), FIRST_CHUNK + 1);
    // What cannot be had changes nothing.
    for n in [USER_SPACE / class.slot_size(), usize::MAX] {
        assert!(matches!(reserve(class, n), Err(StackError::AddressSpace { .. })));
    }
    assert_eq!(arena.reserved.load(Ordering::Relaxed), FIRST_CHUNK + 1);
    assert_eq!(arena.capacity.load(Ordering::Relaxed), 2 * FIRST_CHUNK);
    unreserve(class, FIRST_CHUNK + 1);
}

#[test]
fn slots_kept_without_a_reservation_make_the_arena_grow() {
    let class = class(32);
    let mut slots = Vec::new();
    take_many(class, FIRST_CHUNK + 1, &mut slots).expect("grows");
    assert_eq!(slots.len(), FIRST_CHUNK + 1);
    slots.extend((0..FIRST_CHUNK).map(|_| take(class).expect("grows")));
    let tops: HashSet<_> = slots.iter().map(Slot::top).collect();
    assert_eq!(tops.len(), slots.len());
    give_all(slots);
}

#[test]
fn threads_never_hold_the_same_slot() {
    let class = StackClass::of_slot(64 << 10);
    std::thread::scope(|scope| {
        for id in 1..=4u8 {
            scope.spawn(move || {
                for round in 0..300 {
                    let n = 1 + (round + usize::from(id)) % 9;
                    reserve(class, n).expect("reserve");
                    let mut slots = vec![take(class).expect("take")];
                    take_many(class, n - 1, &mut slots).expect("take_many");
                    touch_all(&slots, id, 0);
                    std::thread::yield_now();
                    touch_all(&slots, 0, id);
                    give_all(slots);
                    unreserve(class, n);
                }
            });
        }
    });
    let arena = &ARENAS[class.index()];
    // Never more than 4 * 9 at a time, so the first chunk was enough.
    assert_eq!(arena.capacity.load(Ordering::Relaxed), FIRST_CHUNK);
    assert_eq!(arena.reserved.load(Ordering::Relaxed), 0);
}

fn guard_faults(test: &str, env: &[(&str, &str)], fallback: Option<bool>) {
    if child::is(test) {
        assert!(fallback.is_none_or(|f| f == guards_need_mappings()));
        let class = class(1);
        reserve(class, 1).expect("reserve");
        let slot = take(class).expect("take");
        touch(slot.base(), 1);
        // The guard outlives the pages above it.
        give_back(slot, false);
        let slot = take(class).expect("take");
        assert_eq!(touch(slot.base(), 1), 0);
        // SAFETY: still inside the slot; the write below is the crash that is tested.
        touch(unsafe { slot.base().sub(1) }, 1);
        std::process::exit(0);
    }
    let out = child::run(module_path!(), test, env);
    assert_eq!(out.status.signal(), Some(libc::SIGSEGV), "{out:?}");
}

#[test]
fn the_guard_page_faults() {
    guard_faults("the_guard_page_faults", &[], None);
}

#[test]
fn the_fallback_guard_page_faults() {
    let env = [("GORUN_NO_GUARD_INSTALL", "1")];
    guard_faults("the_fallback_guard_page_faults", &env, Some(true));
}

#[test]
fn too_little_address_space_is_an_error_and_leaves_room() {
    const NAME: &str = "too_little_address_space_is_an_error_and_leaves_room";
    if !child::is(NAME) {
        return child::passes(module_path!(), NAME, &[]);
    }
    let pages = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: usize = pages.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    let most = (pages * page_size() + (256 << 20)) as libc::rlim_t;
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: `limit` outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);

    let class = class(1);
    let error = reserve(class, 1000).expect_err("256 MiB are left");
    assert_eq!(error, StackError::AddressSpace { asked: 1000 << 20, errno: libc::ENOMEM });
    assert_eq!(slot_of(0), None);
    // Nothing was kept: as much as before can be had, in chunks small enough.
    reserve(class, 200).expect("200 MiB");
    let mut more = 0;
    while reserve(class, 1).is_ok() {
        more += 1;
    }
    assert!((20..56).contains(&more), "{more}");
    // And there is still room for everybody else.
    let mut slots = Vec::new();
    take_many(class, 200 + more, &mut slots).expect("all were reserved");
    touch_all(&slots, 1, 0);
    assert!(take(class).is_err());
    assert_eq!(vec![1u8; 8 << 20].iter().map(|&b| usize::from(b)).sum::<usize>(), 8 << 20);
    give_all(slots);
}
