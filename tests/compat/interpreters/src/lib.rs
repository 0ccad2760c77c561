//! Empty, because a package needs a library: all is in `tests`.
