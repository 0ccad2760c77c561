#pragma once
#include "rust/cxx.h"
#include <cstdint>

// Throws an exception, calls the handler while it is being handled, and throws it again.
void throw_and_handle(std::int32_t number, rust::Fn<void(std::int32_t)> handler);
