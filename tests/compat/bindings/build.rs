//! Compiles the C++ side of `exceptions`.

fn main() {
    cxx_build::bridge("src/lib.rs").file("src/exceptions.cc").std("c++17").compile("gorun-bindings");
    println!("cargo:rerun-if-changed=src/exceptions.cc");
    println!("cargo:rerun-if-changed=src/exceptions.h");
}
