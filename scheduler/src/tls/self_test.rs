//! The self-test: a throw-away block, in which everything is done that a goroutine will rely on.
//!
//! Called once, by [`layout`](super::availability::layout), after the exploration and before anybody gets a block.

use super::block::{Block, KeyRounds, Loaded, RSEQ_CPU_ID};
use super::error::{Failure, Unsupported};
use super::fsbase;
use super::layout::Layout;
use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::thread::ThreadId;

/// Room for the block, at least; its "stack" is never run on.
const AREA: usize = 1 << 18;
const UNTOUCHED: u64 = 0x5e1f_7e57;

thread_local! {
    static PLAIN: Cell<u64> = const { Cell::new(UNTOUCHED) };
    static DROPPED: RefCell<Vec<Counter>> = const { RefCell::new(Vec::new()) };
}

struct Counter(*const Cell<u32>);

impl Drop for Counter {
    fn drop(&mut self) {
        // SAFETY: `run` keeps the count until the destructors have run.
        let count = unsafe { &*self.0 };
        count.set(count.get() + 1);
    }
}

/// What must be seen with the block loaded.
struct Expected<'a> {
    /// The size of its stack.
    area: usize,
    /// The processor that the thread runs on, if it can be kept there.
    processor: Option<usize>,
    drops: &'a Cell<u32>,
}

/// What was seen with the block loaded.
struct Seen {
    wrong: Option<&'static str>,
    thread: Option<ThreadId>,
}

pub(super) fn run(layout: &Layout) -> Result<(), Failure> {
    // On a thread of its own: whatever goes wrong in libc's state goes wrong there.
    let test = || on_this_thread(layout);
    let outcome = std::thread::scope(|scope| {
        std::thread::Builder::new().name("gorun-self-test".to_owned()).spawn_scoped(scope, test).map(|t| t.join())
    });
    match outcome {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Unsupported::new("the self-test panicked").into()),
        Err(error) => Err(Failure::refused("no thread for the self-test", &error)),
    }
}

fn on_this_thread(layout: &Layout) -> Result<(), Failure> {
    let drops = Cell::new(0);
    let outside = std::thread::current().id();
    set_plain(1);
    let mut area = vec![0xA5_u8; AREA.max(2 * layout.room())].into_boxed_slice();
    let low = area.as_mut_ptr();
    // SAFETY: the area is ours and large enough, and has one block at a time.
    let create = || match unsafe { Block::create(layout, low, low.add(area.len())) } {
        Some((block, _)) => Ok(block),
        None => Err(Failure::refused("no thread-local block", &ErrorKind::OutOfMemory.into())),
    };
    let mut block = create()?;
    let expected = Expected { area: area.len(), processor: stay_on_one_processor(), drops: &drops };
    let first = turn(layout, &block, &expected);
    // A stale block is replaced, as any goroutine's is. It is always stale if this code is in a library that was loaded by
    // `dlopen`: its thread-locals, these included, are allocated when they are touched.
    if block.is_stale() {
        // SAFETY: not loaded any more.
        unsafe { block.destroy(layout) };
        block = create()?;
    }
    let second = turn(layout, &block, &expected);
    // SAFETY: as above.
    unsafe { block.destroy(layout) };
    let wrong = first.wrong.or(second.wrong).or_else(|| {
        if first.thread == Some(outside) || second.thread == Some(outside) || first.thread == second.thread {
            Some("threads are not told apart")
        } else if drops.get() != 2 {
            Some("destructors did not run once each")
        } else if plain() != 1 {
            Some("the thread's own thread-locals changed")
        } else {
            None
        }
    });
    match wrong {
        None => Ok(()),
        Some(wrong) => Err(Unsupported::new(format!("the self-test failed: {wrong}")).into()),
    }
}

/// Binds this thread, which soon ends, to the last processor it may use: the first one's number is what an area that is not
/// in use says, too. `None` where that is not allowed.
fn stay_on_one_processor() -> Option<usize> {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: sets of processors are plain memory, for which all zeros is the empty set.
    unsafe {
        let (mut all, mut one): (libc::cpu_set_t, libc::cpu_set_t) = std::mem::zeroed();
        if libc::sched_getaffinity(0, size, &raw mut all) != 0 {
            return None;
        }
        let last = (0..libc::CPU_SETSIZE as usize).rev().find(|cpu| libc::CPU_ISSET(*cpu, &all))?;
        libc::CPU_SET(last, &mut one);
        (libc::sched_setaffinity(0, size, &raw const one) == 0).then_some(last)
    }
}

/// One goroutine's turn. F2: nothing but the two loads, and calls that are not inlined and do not unwind.
#[inline(never)]
fn turn(layout: &Layout, block: &Block, expected: &Expected<'_>) -> Seen {
    let mut loaded = Loaded::new(Some(layout));
    let home = loaded.home();
    // SAFETY: F1: ours alone.
    unsafe { loaded.switch(block.base()) };
    block.begin(layout);
    let seen = probe(layout, block, expected);
    end(layout, block);
    // SAFETY: F1: the thread's own.
    unsafe { loaded.switch(home) };
    seen
}

/// Looks; a panic is something wrong, too.
#[inline(never)]
fn probe(layout: &Layout, block: &Block, expected: &Expected<'_>) -> Seen {
    catch_unwind(AssertUnwindSafe(|| look(layout, block, expected)))
        .unwrap_or(Seen { wrong: Some("a panic"), thread: None })
}

#[inline(never)]
fn end(layout: &Layout, block: &Block) {
    // SAFETY: the probe has returned.
    unsafe {
        block.run_destructors(layout, &mut KeyRounds::new());
        block.reset(layout);
    }
}

fn look(layout: &Layout, block: &Block, expected: &Expected<'_>) -> Seen {
    let mut seen = Seen { wrong: None, thread: None };
    let mut check = |holds: bool, wrong| {
        if !holds {
            seen.wrong.get_or_insert(wrong);
        }
    };
    check(fsbase::current() == block.base(), "the FS base is not the block's");
    // SAFETY: plain libc calls with memory of our own.
    unsafe {
        check(libc::pthread_self() as usize == block.base(), "pthread_self is not the block");
        check(libc::close(-1) == -1 && *libc::__errno_location() == libc::EBADF, "errno");
        check(libc::isalpha(i32::from(b'g')) != 0, "character classes");
        let mut attributes = std::mem::zeroed();
        let (mut address, mut size) = (ptr::null_mut(), 0);
        let code = libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes);
        libc::pthread_attr_getstack(&raw const attributes, &raw mut address, &raw mut size);
        libc::pthread_attr_destroy(&raw mut attributes);
        let stack = address as usize..address as usize + size;
        // It asks the kernel for the thread's affinity last, which knows no thread of ours.
        check(code == 0 || code == libc::ESRCH, "pthread_getattr_np");
        check(size == expected.area && stack.contains(&block.base()), "the stack that libc believes in");
        if let Some(at) = layout.rseq {
            let cpu_id = ptr::with_exposed_provenance::<i32>(block.base().wrapping_add_signed(at + RSEQ_CPU_ID));
            check(cpu_id.read_volatile() < 0, "the area for restartable sequences looks registered");
        }
        check(expected.processor.is_none_or(|cpu| libc::sched_getcpu() == cpu as i32), "sched_getcpu");
    }
    check(plain() == UNTOUCHED, "a fresh thread-local");
    set_plain(2);
    check(plain() == 2, "a thread-local that was written");
    DROPPED.with_borrow_mut(|dropped| dropped.push(Counter(expected.drops)));
    let allocated: Vec<Box<usize>> = (0..100).map(Box::new).collect();
    check(allocated.iter().map(|b| **b).sum::<usize>() == 4950, "the heap");
    // Where a panic ends the process (`panic = "abort"`) nothing unwinds.
    if cfg!(panic = "unwind") {
        let caught = catch_unwind(AssertUnwindSafe(|| resume_unwind(Box::new(7_u8))));
        check(caught.is_err_and(|payload| payload.is::<u8>()) && !std::thread::panicking(), "unwinding");
    }
    seen.thread = Some(std::thread::current().id());
    seen
}

#[inline(never)]
fn plain() -> u64 {
    PLAIN.get()
}

#[inline(never)]
fn set_plain(value: u64) {
    PLAIN.set(value);
}
