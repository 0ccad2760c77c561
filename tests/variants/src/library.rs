//! The same as a library for C: linked, or loaded by `dlopen`, also beside other copies of gorun.

mod work;

use gorun::runtime::ThreadLocals;
use std::ffi::{CStr, c_char, c_void};

/// Runs goroutines and returns the name of their mode.
#[unsafe(no_mangle)]
pub extern "C" fn gorun_variant() -> *const c_char {
    let name: &CStr = match work::run() {
        ThreadLocals::Isolated => c"isolated",
        ThreadLocals::Pinned => c"pinned",
    };
    name.as_ptr()
}

/// Runs `function(argument)` in a goroutine.
///
/// # Safety
/// The function may be called with this argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gorun_variant_call(function: extern "C" fn(*mut c_void), argument: *mut c_void) {
    let argument = argument as usize;
    gorun::run(|| {
        gorun::go(move || function(argument as *mut c_void)).join().expect("it does not panic");
    });
}
