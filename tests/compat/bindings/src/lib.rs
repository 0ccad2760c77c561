//! What the tests of bindings share: goroutines that all live at once, folders, and the bridge to C++.

use gorun::runtime::{Builder, ThreadLocals};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// C++ exceptions.
#[cxx::bridge]
pub mod exceptions {
    unsafe extern "C++" {
        include!("gorun-bindings/src/exceptions.h");

        /// Throws an exception, calls the handler while it is being handled, and throws it again.
        fn throw_and_handle(number: i32, handler: fn(i32)) -> Result<()>;
    }
}

/// Goroutines of a usual test.
pub const SOME: usize = 200;

/// Runs `f` in `n` isolated goroutines, none of which begins before all are there.
pub fn at_once(n: usize, f: impl Fn(usize) + Send + Sync + 'static) {
    let f = Arc::new(f);
    let runtime =
        Builder::new().workers(4).thread_locals(ThreadLocals::Isolated).build().expect("this platform has it");
    runtime.run(move || {
        let (open, gate) = gorun::channel::<()>(0);
        let goroutines: Vec<_> = (0..n)
            .map(|i| {
                let (f, gate) = (f.clone(), gate.clone());
                gorun::go(move || {
                    assert!(gate.recv().is_err());
                    f(i);
                })
            })
            .collect();
        for _ in 0..4 {
            gorun::yield_now();
        }
        drop(open);
        for (i, goroutine) in goroutines.into_iter().enumerate() {
            goroutine.join().unwrap_or_else(|error| panic!("goroutine {i}: {error}"));
        }
    });
}

/// A folder that is removed with the value.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new one, with a name of this process.
    #[must_use]
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("gorun-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Folder(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
