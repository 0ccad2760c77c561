#include "gorun-bindings/src/exceptions.h"
#include <stdexcept>
#include <string>

void throw_and_handle(std::int32_t number, rust::Fn<void(std::int32_t)> handler) {
    try {
        throw std::runtime_error("exception " + std::to_string(number));
    } catch (...) {
        handler(number);
        // That which this thread handles, as the C++ library has noted it.
        throw;
    }
}
