//! The tests with jemalloc as the allocator: its cache is a thread-local, and so a goroutine's.

mod suite;

#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
