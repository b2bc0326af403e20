// fixed_buffer_pool.hpp: memory that the kernel has looked up once, and knows by a number.
#pragma once

#include <kevring/runtime/detail/language.hpp>
#include <kevring/runtime/ring_service.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <system_error>
#include <utility>

namespace kevring {

class ring;

namespace detail {
class fixed_buffer_pool_state;
}

/// Lifetime   Copied by the pool.
struct fixed_buffer_pool_options {
    /// The size of each buffer: 1 byte to 1 GiB.
    std::size_t buffer_bytes = 256 * 1024;
    /// The bound of the table, 1 to 16384. Registered memory is locked, and counts against
    /// RLIMIT_MEMLOCK of the user, whether or not the program uses it.
    unsigned buffer_count_max = 16;
};

/// A whole buffer of a pool; returns itself to the pool on destruction, and another caller may get
/// it. A caller that has passed it to the kernel keeps it until the final completion, which for a
/// zero-copy send is the notification and not the count.
///
/// Lifetime   The memory stays valid as long as this, also after pool and ring were destroyed.
/// Thread     The ring's own.
class fixed_buffer {
public:
    fixed_buffer() noexcept = default;
    fixed_buffer(fixed_buffer&& from) noexcept
        : pool_(std::exchange(from.pool_, nullptr)),
          bytes_(std::exchange(from.bytes_, {})),
          index_(from.index_) {}
    fixed_buffer& operator=(fixed_buffer&& from) noexcept {
        std::swap(pool_, from.pool_);
        std::swap(bytes_, from.bytes_);
        std::swap(index_, from.index_);
        return *this;
    }
    ~fixed_buffer();

    /// False where there was none to be had.
    explicit operator bool() const noexcept { return pool_ != nullptr; }
    std::span<std::byte> bytes() const noexcept { return bytes_; }
    /// Its place in the ring's table: `buf_index` of a request.
    std::uint16_t index() const noexcept { return index_; }

private:
    friend class detail::fixed_buffer_pool_state;
    fixed_buffer(detail::fixed_buffer_pool_state& pool, std::span<std::byte> bytes,
                 std::uint16_t index) noexcept
        : pool_(&pool), bytes_(bytes), index_(index) {}

    detail::fixed_buffer_pool_state* pool_ = nullptr;
    std::span<std::byte> bytes_;
    std::uint16_t index_ = 0;
};

/// Buffers that are registered with a ring (io_uring_register(2)): the kernel does not look their
/// pages up, nor lock them, for each request. A buffer is registered when it is first needed, and
/// stays so; the one used last goes out first.
///
/// The kernel may refuse, because of RLIMIT_MEMLOCK as a rule, or because the program has given the
/// ring a table of its own. That is no error: there are fewer buffers then, or none, and the
/// caller continues with unregistered memory.
///
/// Lifetime   Within that of its ring. Buffers that are out may outlive it: their memory goes with
///            the last of them. A pool that ends while some are out leaves its table to the ring,
///            which accepts no other one then.
/// Thread     The ring's own.
/// In flight  One pool for each ring: the kernel has one table. ring::service<fixed_buffer_pool>()
///            is the shared pool of all callers that need no other size.
/// Errors     The constructor throws std::invalid_argument for sizes out of range.
/// Kernel     IORING_REGISTER_BUFFERS2 with IORING_RSRC_REGISTER_SPARSE, Linux 5.19.
class fixed_buffer_pool final : public ring_service {
public:
    explicit fixed_buffer_pool(ring& loop, const fixed_buffer_pool_options& options = {});
    fixed_buffer_pool(const fixed_buffer_pool&) = delete;
    fixed_buffer_pool& operator=(const fixed_buffer_pool&) = delete;
    ~fixed_buffer_pool() override;

    /// A buffer for this caller alone; an empty one where all are in use, or the kernel registers
    /// no more. A refusal is remembered for a second, so that to ask is cheap.
    fixed_buffer try_acquire() noexcept;

    /// Buffers registered so far, and how many of them are out.
    unsigned buffer_count() const noexcept;
    unsigned in_use_count() const noexcept;
    /// The error of the last registration; none: it succeeded.
    std::error_code last_error() const noexcept;

private:
    detail::fixed_buffer_pool_state* state_;
};

}  // namespace kevring
