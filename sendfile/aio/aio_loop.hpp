// aio_loop.hpp: the thread and the ring that run the transfers of aio_sendfile().
#pragma once

#include <kevring/kevent/detail/aio_completion.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/detail/process.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/runtime/thread_mutex.hpp>
#include <kevring/runtime/work.hpp>
#include <kevring/sendfile/send_plan.hpp>
#include <kevring/sendfile/send_queue.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace kevring::detail {

/// One transfer, with duplicates of its descriptors, and copies of header and trailer: the caller may
/// close and free its own. A transfer that REMOVE stops reads them until its last request has ended, which
/// no event reports.
struct aio_request : work {
    aio_request() noexcept : work(nullptr) {}

    hidden_fd socket;
    hidden_fd file;
    std::uint64_t socket_identity = 0;  // the same for all descriptors of one socket
    file_range range;
    std::vector<std::byte> header;
    std::vector<std::byte> trailer;
    std::shared_ptr<aio_completion> ticket;
};

/// The transfers of one loop, in a line for each socket.
struct aio_line {
    send_queue queue;
    std::size_t transfer_count = 0;
};
using aio_lines = std::map<std::uint64_t, aio_line>;  // by socket

/// Runs a transfer on the current loop, in the line of its socket, and finishes its ticket.
///
/// Lifetime   `lines` outlives the task.
task<void> run_transfer(aio_lines& lines, std::unique_ptr<aio_request> request);

/// One thread for all queues and all transfers of the process. It starts with the first transfer, and
/// runs until the process ends.
///
/// A transfer needs such a thread: the kernel ends requests with the thread that submitted them, and
/// threads that wait in a queue may exit.
///
/// Thread     Any.
class aio_loop {
public:
    /// The object of this process; the child of a fork has its own. Throws std::bad_alloc.
    static aio_loop& get();

    /// Starts the thread unless it runs; 0, or a negative error number.
    int ensure_running();
    /// Starts a transfer. Transfers on one socket run in the order of these calls.
    void start(std::unique_ptr<aio_request> request) noexcept;

private:
    aio_loop() = default;
    static void* main(void* self);
    void drive();
    static void start_on_loop(work& item) noexcept;

    const unsigned fork_generation_ = fork_generation();
    thread_mutex mutex_;
    thread_condition started_;
    bool starting_ KEVRING_GUARDED_BY(mutex_) = false;
    int failure_ KEVRING_GUARDED_BY(mutex_) = 0;
    // Written once under mutex_, before ensure_running() returns 0; read without it afterwards.
    ring* loop_ = nullptr;

    // Used on the loop's thread only.
    task_scope* scope_ = nullptr;
    aio_lines lines_;
};

}  // namespace kevring::detail
