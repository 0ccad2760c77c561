//! Libraries that are loaded while goroutines live, with thread-locals of every model.

use super::{ISOLATED, suspend};
use gorun::runtime::Builder;
use std::ffi::{CString, c_int};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// A counter from `FIRST`, a text, and a large array of zeros; `next` says -1 when one of them is not as it should be.
const SOURCE: &str = r#"
#include <string.h>
#ifdef STATIC
#define MODEL __attribute__((tls_model("initial-exec")))
#define LARGE 64
#else
#define MODEL
#define LARGE 100000
#endif
static __thread int counter MODEL = FIRST;
static __thread char text[16] MODEL = "as it was";
static __thread char zeros[LARGE] MODEL;
int next(void) {
    int n = counter - FIRST;
    if (strcmp(text, n ? "written" : "as it was") || zeros[0] != n || zeros[LARGE - 1] != n) return -1;
    strcpy(text, "written");
    zeros[0] = zeros[LARGE - 1] = n + 1;
    return counter++;
}
"#;

type Next = unsafe extern "C" fn() -> c_int;

struct Library {
    handle: usize,
    next: Next,
    first: c_int,
}

impl Library {
    /// Compiles and loads one, each time a new one; `None`: no C compiler, or none that knows `options`.
    fn load(first: c_int, options: &[&str]) -> Option<Library> {
        static BUILT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("gorun-{}-{}", std::process::id(), BUILT.fetch_add(1, SeqCst));
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let (source, library) = (directory.join(format!("{name}.c")), directory.join(format!("{name}.so")));
        std::fs::write(&source, SOURCE).expect("the directory for such things");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", &format!("-DFIRST={first}")]).args(options);
        let built = compiler.arg("-o").arg(&library).arg(&source).output().is_ok_and(|output| output.status.success());
        let _ = std::fs::remove_file(&source);
        if !built {
            eprintln!("not tried: no `cc` that takes {options:?}");
            return None;
        }
        let path = CString::new(library.as_os_str().as_encoded_bytes()).expect("no 0 in it");
        // SAFETY: texts with their terminators, and a function of this type.
        let loaded = unsafe {
            let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
            assert!(!handle.is_null(), "{}", library.display());
            let next = libc::dlsym(handle, c"next".as_ptr());
            assert!(!next.is_null());
            Library { handle: handle as usize, next: std::mem::transmute::<*mut libc::c_void, Next>(next), first }
        };
        let _ = std::fs::remove_file(&library);
        Some(loaded)
    }

    /// Uses it as somebody who has not used it before.
    fn check(&self, what: &str) {
        for n in 0..3 {
            // SAFETY: loaded.
            assert_eq!(unsafe { (self.next)() }, self.first + n, "{what}");
            suspend();
        }
    }

    fn close(self) {
        // SAFETY: nobody uses it any more.
        assert_eq!(unsafe { libc::dlclose(self.handle as *mut libc::c_void) }, 0);
    }
}

/// `live`: whether goroutines that have begun before may use it.
fn loaded_while_goroutines_live(live: bool, options: &'static [&'static str]) {
    let runtime = Builder::new().workers(4).thread_locals(ISOLATED[0]).build().expect("this platform has it");
    runtime.run(move || {
        let crowd = |n: usize, f: fn()| {
            let goroutines: Vec<_> = (0..n).map(|_| gorun::go(f)).collect();
            goroutines.into_iter().for_each(|g| g.join().expect("no panic"));
        };
        for round in 0..5 {
            // Stacks in the pools.
            crowd(500, gorun::yield_now);
            let (open, gate) = gorun::channel::<&'static Library>(0);
            let (begun, ready) = gorun::channel(500);
            let goroutines: Vec<_> = (0..500)
                .map(|_| {
                    let (gate, begun) = (gate.clone(), begun.clone());
                    gorun::go(move || {
                        begun.send(()).expect("open");
                        let library = gate.recv().expect("open");
                        if live {
                            library.check("one that had begun");
                        }
                    })
                })
                .collect();
            (0..500).for_each(|_| ready.recv().expect("open"));
            // By a goroutine; the next ones start at once.
            let Some(library) = Library::load(1000 * (round + 1), options) else { return };
            let library: &'static Library = Box::leak(Box::new(library));
            let at_once: Vec<_> = (0..50).map(|_| gorun::go(|| library.check("one on a pooled stack"))).collect();
            at_once.into_iter().for_each(|g| g.join().expect("no panic"));
            goroutines.iter().for_each(|_| open.send(library).expect("they wait"));
            goroutines.into_iter().for_each(|g| g.join().expect("no panic"));
            // One after the other, on the same few stacks.
            (0..500).for_each(|_| gorun::go(|| library.check("one after another")).join().expect("no panic"));
            // The process's other threads find it as they should, too.
            std::thread::spawn(|| library.check("a thread")).join().expect("no panic");
            // SAFETY: leaked above, and not used by anybody any more; the last one stays loaded.
            let library = unsafe { Box::from_raw(std::ptr::from_ref(library).cast_mut()) };
            if round < 4 {
                library.close();
            }
            crowd(500, gorun::yield_now);
        }
    });
}

#[test]
fn general_dynamic() {
    loaded_while_goroutines_live(true, &[]);
}

#[test]
fn descriptors() {
    loaded_while_goroutines_live(true, &["-mtls-dialect=gnu2"]);
}

#[test]
fn initial_exec() {
    // Goroutines that have begun may not use it: the loader initialises it in the threads that it knows only.
    loaded_while_goroutines_live(false, &["-DSTATIC"]);
}
