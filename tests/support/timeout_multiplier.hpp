// timeout_multiplier.hpp: more time for tests on a slow machine.
#pragma once

#include <cstdlib>

/// The value of KEVRING_TEST_TIMEOUT_MULTIPLIER, which tests/kernels/run sets; at least 1.
inline int timeout_multiplier() noexcept {
    const char* const text = std::getenv("KEVRING_TEST_TIMEOUT_MULTIPLIER");
    const int value = text != nullptr ? std::atoi(text) : 1;
    return value > 1 ? value : 1;
}
