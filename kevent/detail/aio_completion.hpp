// aio_completion.hpp: the state of a transfer, shared by its queue and the loop that runs it.
#pragma once

#include <kevring/kevent/detail/source.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <stop_token>

namespace kevring::detail {

/// One transfer that completes as an event. The loop that runs it finishes it once; the queue is
/// notified through a descriptor, as for other types.
///
/// Thread     Any.
class aio_completion {
public:
    /// Errors     Those of eventfd(2).
    ///
    /// With the constructor and no descriptor, the loop that finishes it also marks its record ready.
    static result<std::shared_ptr<aio_completion>> make();

    /// The transfer is over: `byte_count` bytes were passed to the kernel; `error_number` is 0 or
    /// an errno.
    void finish(std::uint64_t byte_count, int error_number) noexcept;
    /// Whether finish() has been called; then the results below are there.
    bool finished() const noexcept { return finished_.load(std::memory_order_acquire); }
    std::uint64_t byte_count() const noexcept { return byte_count_; }
    int error_number() const noexcept { return error_number_; }

    /// Stopped when the registration of the transfer is removed.
    std::stop_source stop;
    /// Readable once the transfer is over.
    fd_ref event_fd() const noexcept { return event_fd_; }

    explicit aio_completion(hidden_fd event_fd) noexcept : event_fd_(std::move(event_fd)) {}

private:
    const hidden_fd event_fd_;
    std::uint64_t byte_count_ = 0;  // written before finished_
    int error_number_ = 0;
    std::atomic<bool> finished_{false};
};

/// The same for a transfer on the queue's own loop, which marks the record ready: no descriptor is
/// watched.
std::unique_ptr<source> make_loop_aio_source(source_host& host, registration& target,
                                             std::shared_ptr<aio_completion> ticket);

/// The source of a record of type AIO; REMOVE of the record stops the transfer.
///
/// Errors     Those of dup(2).
result<std::unique_ptr<source>> make_aio_source(source_host& host, registration& target,
                                                std::shared_ptr<aio_completion> ticket);

}  // namespace kevring::detail
