//! What the tests of bindings share: folders, and the bridge to C++.

use std::path::{Path, PathBuf};

/// C++ exceptions.
#[cxx::bridge]
pub mod exceptions {
    unsafe extern "C++" {
        include!("gorun-bindings/src/exceptions.h");

        /// Throws an exception, calls the handler while it is being handled, and throws it again.
        fn throw_and_handle(number: i32, handler: fn(i32)) -> Result<()>;
    }
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
