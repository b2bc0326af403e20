// aio_ticket.hpp: what a queue and whoever carries a transfer out share about it.
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

/// One transfer that completes as an event. The carrier finishes it once; the queue hears of that
/// by a descriptor, as of anything else.
///
/// Thread     Any.
class aio_ticket {
public:
    /// Errors     Those of eventfd(2).
    static result<std::shared_ptr<aio_ticket>> make();

    /// The transfer is over: `byte_count` bytes are on their way; `error_number` is 0 or an errno.
    void finish(std::uint64_t byte_count, int error_number) noexcept;
    /// Whether finish() has been called; then the results below are there.
    bool finished() const noexcept { return finished_.load(std::memory_order_acquire); }
    std::uint64_t byte_count() const noexcept { return byte_count_; }
    int error_number() const noexcept { return error_number_; }

    /// Stopped when nobody wants the transfer any more.
    std::stop_source stop;
    /// Readable once the transfer is over.
    fd_ref notice() const noexcept { return notice_; }

    explicit aio_ticket(hidden_fd notice) noexcept : notice_(std::move(notice)) {}

private:
    const hidden_fd notice_;
    std::uint64_t byte_count_ = 0;  // written before finished_
    int error_number_ = 0;
    std::atomic<bool> finished_{false};
};

/// The source of a record of type AIO; REMOVE of the record stops the transfer.
///
/// Errors     Those of dup(2).
result<std::unique_ptr<source>> make_aio_source(source_host& host, registration& of,
                                                std::shared_ptr<aio_ticket> ticket);

}  // namespace kevring::detail
