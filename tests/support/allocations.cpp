#include "tests/support/allocations.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define COUNTED 0
#endif
#endif
#ifndef COUNTED
#define COUNTED 1
#endif

namespace {
std::atomic<std::uint64_t> count{0};
thread_local std::uint64_t good_count = 0;  // allocations before the one that fails
thread_local bool fails = false;
std::atomic<bool> others_fail{false};
thread_local bool is_exempt = false;  // from others_fail
}  // namespace

bool allocations_are_counted() noexcept { return COUNTED != 0; }
std::uint64_t allocation_count() noexcept { return count.load(std::memory_order_relaxed); }

failing_allocation::failing_allocation(std::uint64_t count) noexcept {
    good_count = count;
    fails = true;
}
failing_allocation::~failing_allocation() { fails = false; }
bool failing_allocation::has_failed() const noexcept { return !fails; }

failing_threads::failing_threads() noexcept {
    is_exempt = true;
    others_fail = true;
}
failing_threads::~failing_threads() {
    others_fail = false;
    is_exempt = false;
}

#if COUNTED
void* operator new(std::size_t bytes) {
    count.fetch_add(1, std::memory_order_relaxed);
    if (fails && good_count-- == 0) {
        fails = false;
        throw std::bad_alloc();
    }
    if (others_fail.load(std::memory_order_relaxed) && !is_exempt) throw std::bad_alloc();
    if (void* const memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
    throw std::bad_alloc();
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
    count.fetch_add(1, std::memory_order_relaxed);
    if (fails && good_count-- == 0) {
        fails = false;
        throw std::bad_alloc();
    }
    if (others_fail.load(std::memory_order_relaxed) && !is_exempt) throw std::bad_alloc();
    const auto align = static_cast<std::size_t>(alignment);
    if (void* const memory = std::aligned_alloc(align, (bytes + align - 1) / align * align))
        return memory;
    throw std::bad_alloc();
}
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif
