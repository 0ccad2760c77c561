//! The tests with mimalloc as the allocator: its heap is a thread-local, and so a goroutine's.

mod suite;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;
