// poll.hpp: readiness of a descriptor, once or as a stream.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/multishot.hpp>
#include <kevring/runtime/operation.hpp>

#include <cstdint>

namespace kevring {

/// Waits until a descriptor is ready: for libraries that want to read and write themselves.
///
/// Result     The events that are there, as poll(2) names them: POLLIN, POLLOUT, POLLHUP, POLLERR.
/// Errors     operation_canceled, timed_out; bad_file_descriptor; operation_not_permitted for a
///            file that cannot be polled.
/// Lifetime   `file` stays open until the await ends.
/// Kernel     IORING_OP_POLL_ADD, Linux 5.1.
class [[nodiscard]] poll_operation final : public operation {
public:
    poll_operation(ring& loop, fd_ref file, std::uint32_t events,
                   std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)), file_(file), events_(events) {}

    [[nodiscard]] result<std::uint32_t> await_resume() const noexcept {
        if (res() < 0) return failure();
        return static_cast<std::uint32_t>(res());
    }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref file_;
    std::uint32_t events_;
};

/// Each time a descriptor becomes ready, as edges: one request of the kernel for all of them.
///
/// Result     Each next() gives the events since the last, merged. Events that are there when the
///            stream begins count as an edge.
/// Errors     Of next(): operation_canceled and timed_out by the scope around it, and then no event
///            is lost; those of poll_operation.
/// Lifetime   `file` stays open as long as the stream.
/// Thread     The ring's own.
/// In flight  One next() at a time; another ends with connection_already_in_progress.
/// Kernel     IORING_OP_POLL_ADD with IORING_POLL_ADD_MULTI, Linux 5.13.
class poll_stream : public multishot_stream {
public:
    poll_stream(ring& loop, fd_ref file, std::uint32_t events);

    class [[nodiscard]] next_operation final : public next_base {
    public:
        using next_base::next_base;
        [[nodiscard]] result<std::uint32_t> await_resume() noexcept;
    };
    next_operation next() noexcept { return next_operation(state_); }

private:
    class state;
    friend class next_operation;
};

}  // namespace kevring
