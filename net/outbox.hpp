// outbox.hpp: bytes that wait for a slow reader, with a bound at which their writers wait.
//
//     kevring::outbox box(client, {.byte_count_max = 64 << 10});
//     tasks.spawn(send_all(box));                          // awaits box.run()
//     const auto written = co_await box.write(text);       // waits while 64 KiB are held
//     if (!box.try_write(text)) ++lost_count;              // or drops what does not fit
#pragma once

#include <kevring/net/socket.hpp>
#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/byte_views.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/detail/process.hpp>
#include <kevring/runtime/reset_event.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/semaphore.hpp>
#include <kevring/runtime/task.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace kevring {

struct outbox_options {
    /// The bytes that the outbox holds at most; at least 1. The socket's send buffer is not included.
    std::size_t byte_count_max = std::size_t{1} << 20;
    /// A peer that takes no byte for this time ends run() with timed_out. By default it may take any
    /// time.
    clamped_duration stall_timeout = nanoseconds::max();
};

/// A buffer between the writers of a connection and its peer. Writers return as soon as their bytes are
/// in the outbox, and wait while a slow peer has filled it; run() sends.
///
/// `Stream` has an await send(std::span<const std::byte>), as `socket` has: it sends all bytes or
/// fails.
///
/// Order      The bytes of one write are contiguous. Writes are sent in the order of their calls, also
///            of those that wait: a large one is not overtaken by smaller ones.
/// Memory     At most byte_count_max bytes are queued, in buffers that grow with their use and are
///            released when all is sent.
/// Lifetime   `target` outlives the outbox, and the outbox every await on it.
/// Thread     The loop's thread.
/// In flight  run() is the only sender of `target`; any number of write() and flush().
template <class Stream>
class basic_outbox {
public:
    explicit basic_outbox(Stream& target, const outbox_options& options = {})
        : target_(target),
          stall_timeout_(options.stall_timeout),
          byte_count_max_(std::min(options.byte_count_max, byte_count_limit)),
          free_bytes_(byte_count_max_) {
        KEVRING_ASSERT(byte_count_max_ > 0,
                       "outbox without space; set byte_count_max to at least 1");
    }
    basic_outbox(const basic_outbox&) = delete;
    basic_outbox& operator=(const basic_outbox&) = delete;
    ~basic_outbox() {
        KEVRING_ASSERT(!running_ || fork_generation_ != detail::fork_generation(),
                       "outbox destroyed while run() is awaited; stop and join the task first");
    }

    /// Queues a copy of `bytes`, all of them or none. Waits while they do not fit.
    ///
    /// Errors     message_size for more than byte_count_max bytes; the error of run() after it has
    ///            failed; broken_pipe after close(); operation_canceled and timed_out by the scope
    ///            around it. No byte is queued then.
    /// Lifetime   `bytes` stay valid until the await completes.
    task<result<void>> write(std::span<const std::byte> bytes) {
        if (const std::error_code refusal = refusal_of(bytes.size()))
            co_return tl::unexpected<std::error_code>(refusal);
        const auto acquired = co_await free_bytes_.acquire(bytes.size());
        if (const std::error_code refusal = refusal_after(acquired, bytes.size()))
            co_return tl::unexpected<std::error_code>(refusal);
        append(bytes);
        co_return result<void>();
    }
    task<result<void>> write(std::string_view text) {
        return write(std::as_bytes(std::span(text)));
    }
    template <byte_view Bytes>
    task<result<void>> write(const Bytes& bytes) {
        return write(bytes_of(bytes));
    }
    /// The same for the bytes of all elements of a list, which are contiguous.
    template <byte_view_list List>
    task<result<void>> write(const List& list) {
        return write_parts(detail::parts_of(list));
    }

    /// The same without waiting. False: the bytes do not fit, other writers wait, or write() would
    /// fail; no byte is queued.
    [[nodiscard]] bool try_write(std::span<const std::byte> bytes) {
        if (refusal_of(bytes.size()) || !free_bytes_.try_acquire(bytes.size())) return false;
        append(bytes);
        return true;
    }
    [[nodiscard]] bool try_write(std::string_view text) {
        return try_write(std::as_bytes(std::span(text)));
    }
    template <byte_view Bytes>
    [[nodiscard]] bool try_write(const Bytes& bytes) {
        return try_write(bytes_of(bytes));
    }
    template <byte_view_list List>
    [[nodiscard]] bool try_write(const List& list) {
        const std::vector<iovec> parts = detail::parts_of(list);
        const std::size_t byte_count = byte_count_of(parts);
        if (refusal_of(byte_count) || !free_bytes_.try_acquire(byte_count)) return false;
        append_parts(parts, byte_count);
        return true;
    }

    /// Waits until the outbox is empty: the kernel has all bytes.
    ///
    /// Errors     The error of run(); operation_canceled and timed_out by the scope around it.
    task<result<void>> flush() {
        const auto emptied = co_await empty_.wait();
        if (!emptied) co_return tl::unexpected<std::error_code>(emptied.error());
        if (failure_) co_return tl::unexpected<std::error_code>(failure_);
        co_return result<void>();
    }

    /// Accepts no more bytes: writers that wait fail. run() sends those that are held, and ends.
    void close() noexcept {
        if (std::exchange(closed_, true)) return;
        filled_.set();
        // Writers that wait are released in their order, find the outbox closed, and return the bytes.
        free_bytes_.release(byte_count_max_);
    }

    /// Sends the queued bytes until close(). Awaited once, by a task beside the writers.
    ///
    /// Errors     Those of Stream::send(); timed_out after the stall timeout of the options;
    ///            operation_canceled and timed_out by the scope around it. The bytes that are held are
    ///            dropped then, and writers fail with the same error.
    task<result<void>> run() {
        KEVRING_ASSERT(!running_ && !failure_, "outbox run twice; let one task await run(), once");
        const running_flag running(running_);
        std::error_code failure;
        while (!failure) {
            if (!queued_.empty()) {
                sending_.swap(queued_);
                try {
                    failure = co_await send_block();
                } catch (...) {
                    fail(std::make_error_code(std::errc::not_enough_memory));
                    throw;
                }
            } else if (closed_) {
                co_return result<void>();
            } else {
                const auto filled = co_await filled_.wait();
                if (!filled) failure = filled.error();
            }
        }
        fail(failure);
        co_return tl::unexpected<std::error_code>(failure);
    }

    /// The bytes that are queued, or being sent.
    std::size_t held_bytes() const noexcept { return held_bytes_; }

private:
    class running_flag {
    public:
        explicit running_flag(bool& flag) noexcept : flag_(flag) { flag_ = true; }
        running_flag(const running_flag&) = delete;
        running_flag& operator=(const running_flag&) = delete;
        ~running_flag() { flag_ = false; }

    private:
        bool& flag_;
    };

    // One send: the peer makes progress when a piece has been sent, or a part of it.
    static constexpr std::size_t piece_bytes_max = std::size_t{64} << 10;
    static constexpr std::size_t kept_bytes_max = 4096;
    // close() releases as much again, and a semaphore has at most SIZE_MAX permits.
    static constexpr std::size_t byte_count_limit = SIZE_MAX / 4;

    std::error_code refusal_of(std::size_t byte_count) const noexcept {
        if (failure_) return failure_;
        if (closed_) return std::make_error_code(std::errc::broken_pipe);
        if (byte_count > byte_count_max_) return std::make_error_code(std::errc::message_size);
        return {};
    }

    // After a wait for space. An error: nothing is acquired.
    std::error_code refusal_after(const result<void>& acquired, std::size_t byte_count) noexcept {
        if (!acquired) return acquired.error();
        const std::error_code refusal = refusal_of(byte_count);
        if (refusal)
            free_bytes_.release(byte_count);  // the next writer is released, and fails as well
        return refusal;
    }
    task<result<void>> write_parts(std::vector<iovec> parts) {
        const std::size_t byte_count = byte_count_of(parts);
        if (const std::error_code refusal = refusal_of(byte_count))
            co_return tl::unexpected<std::error_code>(refusal);
        const auto acquired = co_await free_bytes_.acquire(byte_count);
        if (const std::error_code refusal = refusal_after(acquired, byte_count))
            co_return tl::unexpected<std::error_code>(refusal);
        append_parts(parts, byte_count);
        co_return result<void>();
    }
    static std::size_t byte_count_of(const std::vector<iovec>& parts) noexcept {
        std::size_t byte_count = 0;
        for (const iovec& part : parts) byte_count += part.iov_len;
        return byte_count;
    }

    // Have acquired the bytes.
    void append_parts(const std::vector<iovec>& parts, std::size_t byte_count) {
        try {
            // So that all are queued, or none; a vector that grows doubles.
            if (queued_.capacity() - queued_.size() < byte_count)
                queued_.reserve(std::max(queued_.size() + byte_count, 2 * queued_.capacity()));
        } catch (...) {
            free_bytes_.release(byte_count);
            throw;
        }
        for (const iovec& part : parts) append(detail::bytes_of_part(part));
    }
    void append(std::span<const std::byte> bytes) {
        if (bytes.empty()) return;
        try {
            queued_.insert(queued_.end(), bytes.begin(), bytes.end());
        } catch (...) {
            free_bytes_.release(bytes.size());
            throw;
        }
        held_bytes_ += bytes.size();
        empty_.reset();
        filled_.set();
    }

    template <class Sent>
    static std::size_t count_of(const Sent& sent) noexcept {
        if constexpr (requires { sent.bytes_sent(); }) {
            return sent.bytes_sent();
        } else {
            return sent ? *sent : 0;
        }
    }

    task<std::error_code> send_block() {
        std::size_t offset = 0;
        // A stream with a buffer, as tls_stream has, may have taken bytes that it has not sent.
        bool unfinished = false;
        while (offset < sending_.size() || unfinished) {
            const auto rest = std::span<const std::byte>(sending_).subspan(offset);
            const auto piece = rest.first(std::min(rest.size(), piece_bytes_max));
            const auto sent = co_await with_timeout(target_.send(piece), stall_timeout_);
            const std::size_t count = count_of(sent);
            offset += count;
            held_bytes_ -= count;
            free_bytes_.release(count);
            unfinished = !sent;
            // A peer that takes bytes slowly is not stalled. An outer deadline ends the next send.
            if (!sent && (count == 0 || sent.error() != std::errc::timed_out))
                co_return sent.error();
        }
        sending_.clear();
        if (sending_.capacity() > kept_bytes_max) std::vector<std::byte>().swap(sending_);
        if (held_bytes_ == 0) empty_.set();
        co_return std::error_code();
    }

    void fail(std::error_code failure) noexcept {
        failure_ = failure;
        std::vector<std::byte>().swap(queued_);
        std::vector<std::byte>().swap(sending_);
        // Writers that wait are released in their order, and fail.
        free_bytes_.release(std::exchange(held_bytes_, 0));
        empty_.set();
    }

    // Constant after construction.
    Stream& target_;
    const nanoseconds stall_timeout_;
    const std::size_t byte_count_max_;
    const unsigned fork_generation_ = detail::fork_generation();

    semaphore free_bytes_;
    auto_reset_event filled_;
    manual_reset_event empty_{true};
    std::vector<std::byte> queued_;
    std::vector<std::byte> sending_;
    std::size_t held_bytes_ = 0;
    std::error_code failure_;
    bool closed_ = false;
    bool running_ = false;
};

/// The outbox of a socket.
using outbox = basic_outbox<socket>;

}  // namespace kevring
