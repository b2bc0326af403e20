// buffer_pool.hpp: memory that the kernel picks from when bytes arrive.
#pragma once

#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/ring_service.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace kevring {

class ring;

namespace detail {
class buffer_pool_state;
}

/// Lifetime   Copied by the pool.
struct buffer_pool_options {
    /// The size of each buffer; at least 64.
    std::size_t buffer_bytes = 4096;
    /// The size of each buffer of a second class, for streams whose messages fill whole buffers:
    /// each is taken when bytes are there, used again last in, first out, and freed when it has
    /// long been idle. 0: there is no second class.
    std::size_t large_buffer_bytes = 0;
    /// The bound of the buffers of the second class; streams that find none use the first class.
    unsigned large_buffer_count_max = 48;
    /// Buffers at the beginning. More are added when the kernel runs out, so that the pool has as
    /// many as are in use at a time: few buffers stay in the processor's caches.
    unsigned buffer_count = 16;
    /// The bound of that: at most 32768. Receivers wait until one is returned while the program
    /// holds all.
    unsigned buffer_count_max = 4096;
    /// The bound of memory that has been in use and is kept, for the first class. Above it no
    /// buffer is added, whatever buffer_count_max says.
    std::size_t resident_bytes_max = std::size_t{20} << 20;

    /// The options of a ring's own pool: memory is touched page by page, so that a message of 64
    /// bytes takes one page of its buffer.
    static constexpr buffer_pool_options ring_default() noexcept {
        buffer_pool_options options;
        options.buffer_bytes = std::size_t{32} << 10;
        options.large_buffer_bytes = std::size_t{128} << 10;
        return options;
    }
};

/// A part of a pool's buffer, with bytes in it; returns itself to the pool on destruction.
///
/// Lifetime   The memory stays valid as long as this, also after the pool was destroyed.
/// Thread     The ring's own; destroyed on another, it ends the process with a message.
class borrowed_buffer {
public:
    borrowed_buffer() noexcept = default;
    borrowed_buffer(borrowed_buffer&& from) noexcept
        : pool_(std::exchange(from.pool_, nullptr)),
          data_(std::exchange(from.data_, nullptr)),
          byte_count_(std::exchange(from.byte_count_, 0)),
          index_(from.index_) {}
    borrowed_buffer& operator=(borrowed_buffer&& from) noexcept {
        if (this != &from) {
            return_to_pool();
            pool_ = std::exchange(from.pool_, nullptr);
            data_ = std::exchange(from.data_, nullptr);
            byte_count_ = std::exchange(from.byte_count_, 0);
            index_ = from.index_;
        }
        return *this;
    }
    ~borrowed_buffer() { return_to_pool(); }

    std::byte* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return byte_count_; }
    /// No bytes: from a receive, the peer has shut down its sending side.
    bool empty() const noexcept { return byte_count_ == 0; }
    std::span<std::byte> bytes() const noexcept { return {data_, byte_count_}; }

    /// Forgets the first `count` bytes, which have been dealt with.
    void remove_prefix(std::size_t count) noexcept;
    /// Sends the memory home now.
    void reset() noexcept {
        return_to_pool();
        pool_ = nullptr;
        data_ = nullptr;
        byte_count_ = 0;
    }

private:
    friend class detail::buffer_pool_state;
    // Bytes that had to make room in the pool; beyond every index, as a pool has 32768 buffers.
    static constexpr std::uint16_t no_index = 0xffff;

    borrowed_buffer(detail::buffer_pool_state& pool, std::uint16_t index, std::byte* data,
                    std::uint32_t byte_count) noexcept
        : pool_(&pool), data_(data), byte_count_(byte_count), index_(index) {}
    void return_to_pool() noexcept;

    detail::buffer_pool_state* pool_ = nullptr;
    std::byte* data_ = nullptr;
    std::uint32_t byte_count_ = 0;
    std::uint16_t index_ = 0;
};

/// Buffers that belong to no connection: the kernel takes one when bytes are there, so memory grows
/// with what happens, not with what is connected. Where all are out, those whose bytes no task has
/// read yet are copied to other memory, so that peers that send ahead starve no other.
///
/// Lifetime   Within that of its ring. Borrowed buffers, and streams that receive from the pool,
///            may outlive it: the last of them releases its memory. A stream whose pool was
///            destroyed fails with no_buffer_space.
/// Thread     The ring's own.
/// Errors     The constructor throws std::system_error, or std::invalid_argument for sizes out of
///            range.
/// Kernel     IORING_REGISTER_PBUF_RING, Linux 5.19.
class buffer_pool final : public ring_service {
public:
    /// With buffer_pool_options::ring_default().
    explicit buffer_pool(ring& loop);
    buffer_pool(ring& loop, const buffer_pool_options& options);
    buffer_pool(const buffer_pool&) = delete;
    buffer_pool& operator=(const buffer_pool&) = delete;
    ~buffer_pool() override;

    /// Buffers made so far, and how many of them are out with the program.
    unsigned buffer_count() const noexcept;
    unsigned borrowed_count() const noexcept;
    /// Buffers of the second class that are in use, or kept for use.
    unsigned large_buffer_count() const noexcept;
    /// The bytes of the first class that have been in use, and are kept.
    std::size_t resident_bytes() const noexcept;
    /// How often the kernel found none.
    std::uint64_t starved_count() const noexcept;

    detail::buffer_pool_state& state() const noexcept { return *state_; }

private:
    detail::buffer_pool_state* state_;
};

}  // namespace kevring
