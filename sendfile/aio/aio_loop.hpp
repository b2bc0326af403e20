// aio_loop.hpp: the thread and the ring that carry out the transfers of aio_sendfile().
#pragma once

#include <kevring/kevent/detail/aio_ticket.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/runtime/work.hpp>
#include <kevring/sendfile/send_order.hpp>
#include <kevring/sendfile/send_plan.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace kevring::detail {

/// One transfer, with descriptors of its own: the caller may close its numbers.
struct aio_request : work {
    aio_request() noexcept : work(nullptr) {}

    hidden_fd socket;
    hidden_fd file;
    std::uint64_t socket_identity = 0;  // the same for all descriptors of one socket
    file_range range;
    std::vector<std::span<const std::byte>> header;
    std::vector<std::span<const std::byte>> trailer;
    std::shared_ptr<aio_ticket> ticket;
};

/// One thread for all queues of the process, whatever the number of transfers: it starts with the
/// first, and stays.
///
/// A queue's waiters come and go with their threads, and a request of the kernel ends with the
/// thread that made it; so a transfer needs a thread that stays.
///
/// Thread     Any.
class aio_loop {
public:
    /// After fork() the child has one of its own.
    static aio_loop& get() noexcept;

    /// Makes the thread run where it does not; 0, or a negative error number.
    int ensure_running();
    /// Begins a transfer. Those on one socket follow one another in the order of these calls.
    void begin(std::unique_ptr<aio_request> request) noexcept;

private:
    struct line {
        send_order order;
        std::size_t transfer_count = 0;
    };

    static void* main(void* self);
    void drive();
    static void begin_on_loop(work& item) noexcept;
    task<void> carry(std::unique_ptr<aio_request> request);

    std::mutex mutex_;
    std::condition_variable started_;
    bool starting_ = false;
    int failure_ = 0;
    ring* ring_ = nullptr;  // set under mutex_, once

    // The loop's thread's own.
    task_scope* scope_ = nullptr;
    std::map<std::uint64_t, line> lines_;  // by socket
};

}  // namespace kevring::detail
