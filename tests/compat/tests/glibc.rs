//! The tests with glibc's malloc, whose cache travels with the worker.

mod suite;
