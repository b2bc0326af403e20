// ring_state.hpp: state and helpers that the files of the ring share.
#pragma once

#include <kevring/runtime/ring.hpp>

#include <atomic>
#include <cstdint>

namespace kevring::detail {

// The mailbox of a ring that sleeps holds this sentinel, which is the address of no work.
inline work* asleep() noexcept { return reinterpret_cast<work*>(1); }

// The ring that holds this thread's entries that have not been submitted; there is one at most.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local ring* queuing_ring;

// A number that no other thread of this process has had: the address of a thread_local is reused.
inline std::uint64_t this_thread() noexcept {
    static std::atomic<std::uint64_t> last{0};
    if (thread_number == 0) thread_number = last.fetch_add(1, std::memory_order_relaxed) + 1;
    return thread_number;
}

template <class T>
T load_acquire(const T* source) noexcept {  // pairs with the kernel's release of the same word
    return __atomic_load_n(source, __ATOMIC_ACQUIRE);
}
template <class T>
void store_release(T* target, T value) noexcept {  // pairs with the kernel's acquire of the word
    __atomic_store_n(target, value, __ATOMIC_RELEASE);
}

// Aborts with the cause and the remedy of an errno of `call` that no repetition mends: requests in
// flight can be neither stopped nor awaited any more, and their frames must not be destroyed.
[[noreturn, gnu::cold]] void ring_failed(const char* call, int error) noexcept;

}  // namespace kevring::detail
