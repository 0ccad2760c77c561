//! Frames that are larger than a page, of functions without stack probes: what they jump over is a guard as well.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(unsafe_code, reason = "moves the stack pointer, as C's `alloca` does")]

mod common;

use common::child::{is_child, signaled, skip_isolated};
use gorun::runtime::ThreadLocals;

/// What a C compiler makes of a function with a large array, without `-fstack-clash-protection`: the stack pointer is moved
/// at once, and the first byte written is the lowest.
#[inline(never)]
fn jump(bytes: usize) {
    // SAFETY: none where it runs out of the stack, which is what is tried; otherwise below the stack pointer is nobody's.
    unsafe {
        std::arch::asm!(
            "mov {saved}, rsp",
            "sub rsp, {bytes}",
            "mov byte ptr [rsp], 1",
            "mov rsp, {saved}",
            saved = out(reg) _,
            bytes = in(reg) bytes,
        );
    }
}

/// Calls itself until so many bytes of the stack below `top` are in use, and then `f`.
#[inline(never)]
fn descend(top: usize, bytes: usize, f: fn()) {
    let frame = std::hint::black_box([0_u8; 256]);
    if top - frame.as_ptr().addr() < bytes {
        descend(top, bytes, f)
    } else {
        f()
    }
    std::hint::black_box(&frame);
}

fn here() -> usize {
    let byte = 0_u8;
    std::hint::black_box(&raw const byte).addr()
}

/// In a goroutine with a stack of `size` that is full but for the last 2 KiB of what was asked for, beside another one.
fn at_the_end_of(size: Option<usize>, mode: ThreadLocals, f: fn()) {
    let builder = || {
        let builder = gorun::Builder::new().name("jumps").thread_locals(mode);
        if let Some(size) = size { builder.stack_size(size) } else { builder }
    };
    let size = size.unwrap_or(DEFAULT);
    gorun::run(|| {
        let ((begun, begins), (gate, opens)) = (gorun::channel(0), gorun::channel::<()>(0));
        let neighbour = builder().go(move || {
            begun.send(()).unwrap();
            assert!(opens.recv().is_err());
        });
        begins.recv().unwrap();
        builder().go(move || descend(here(), size - 2048, f)).unwrap().join().unwrap();
        drop(gate);
        neighbour.unwrap().join().unwrap();
    });
}

/// The default size of a stack.
const DEFAULT: usize = 1088 << 10;

/// The cases, each in a process of its own: kind of thread-locals, stack size, what is done at its end.
fn run(case: &str) {
    let mode = if case.contains("pinned") { ThreadLocals::Pinned } else { ThreadLocals::Isolated };
    if case.contains("locked memory") {
        // SAFETY: no preconditions. Refused, memory is as ever, and the case holds as well.
        unsafe { libc::mlockall(libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    }
    match case {
        case if case.contains("large") => at_the_end_of(Some(2 << 20), mode, || jump(250_000)),
        _ => at_the_end_of(None, mode, || jump(150_000)),
    }
}

#[test]
fn a_frame_that_jumps_over_pages_ends_in_the_report() {
    const NAME: &str = "a_frame_that_jumps_over_pages_ends_in_the_report";
    if is_child() {
        return run(&std::env::var("CASE").unwrap());
    }
    let isolated = gorun::runtime::isolation().is_ok();
    for case in ["isolated", "isolated, large", "isolated, locked memory", "pinned", "pinned, large"] {
        if case.contains("isolated") && !isolated {
            skip_isolated();
            continue;
        }
        for fallback in ["0", "1"] {
            let stderr = signaled(NAME, libc::SIGABRT, &[("CASE", case), ("GORUN_NO_GUARD_INSTALL", fallback)]);
            let report = stderr.lines().find(|line| line.starts_with("gorun: goroutine "));
            let report = report.unwrap_or_else(|| panic!("{case}: no report: {stderr}"));
            assert!(report.contains(" \"jumps\", ") && report.contains("overflowed its stack of "), "{case}: {report}");
        }
    }
}

#[test]
fn a_stack_holds_what_was_asked_for() {
    let isolated = gorun::runtime::isolation().is_ok();
    for mode in [ThreadLocals::Pinned, ThreadLocals::Isolated] {
        if mode == ThreadLocals::Isolated && !isolated {
            return skip_isolated();
        }
        for size in [None, Some(30_000), Some(64 << 10), Some(1 << 20), Some(2 << 20)] {
            at_the_end_of(size, mode, || ());
        }
    }
}
