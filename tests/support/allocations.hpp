// allocations.hpp: how often this program has called operator new.
#pragma once

#include <cstdint>

/// False under sanitizers, which bring an operator new of their own.
bool allocations_are_counted() noexcept;
std::uint64_t allocation_count() noexcept;
