//! Runs goroutines that allocate and hold a thread-local over waits, and prints which mode they had. With the path of a
//! library of `library.rs`, the library's goroutines run at the same time, over its own copy of gorun.

mod work;

use std::ffi::{CStr, CString, c_char, c_int, c_void};

#[cfg(feature = "rpmalloc")]
#[global_allocator]
static GLOBAL: rpmalloc::RpMalloc = rpmalloc::RpMalloc;

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

fn main() {
    let library = match std::env::args().nth(1) {
        Some(what) if what == "goexit" => {
            return gorun::run(|| drop(gorun::go(|| gorun::goexit()).join()));
        }
        Some(path) => Some(std::thread::spawn(move || in_library(path))),
        None => None,
    };
    println!("{}", work::run());
    if let Some(library) = library {
        println!("{}", library.join().expect("it does not panic"));
    }
}

/// Calls the library's function, and returns the mode.
fn in_library(path: String) -> String {
    const RTLD_NOW: c_int = 2;
    let path = CString::new(path).expect("no NUL in it");
    // SAFETY: names with their terminators; the function of this name is of this type, and its result is a text that stays.
    unsafe {
        let library = dlopen(path.as_ptr(), RTLD_NOW);
        assert!(!library.is_null(), "{path:?}");
        let function = dlsym(library, c"gorun_variant".as_ptr());
        assert!(!function.is_null());
        let function = std::mem::transmute::<*mut c_void, extern "C" fn() -> *const c_char>(function);
        CStr::from_ptr(function()).to_string_lossy().into_owned()
    }
}
