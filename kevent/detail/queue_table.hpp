// queue_table.hpp: which descriptor number is the control descriptor of which queue.
//
// Programs close a control descriptor by close(2), which tells nobody. So each look-up asks whether
// the number still means the queue's file, and a thread that sleeps most of the time asks it of all
// queues: what a queue holds open is released soon after the close, without a further call. A queue
// can do without that thread.
//
// Thread      Any. After fork() the child finds no queue.
// Spec        5.1, 5.11; docs/design/0040-kevent-queue.md.
#pragma once

#include <kevring/kevent/detail/queue_core.hpp>

#include <cstdint>
#include <memory>

namespace kevring::detail {

/// A queue that a call is made on; it lives at least as long as the call.
struct found_queue {
    std::shared_ptr<queue_core> queue;
    bool non_blocking = false;  // O_NONBLOCK, read at this call
    int error_number = 0;       // -EBADF, -EINVAL; then `queue` is null
};

found_queue find_queue(int number);

/// What finds that a control descriptor was closed, if no call is made on its number.
enum class close_is_found : std::uint8_t {
    by_a_thread,  // soon
    by_a_call,    // of enter_queue()
};

/// Makes a control descriptor for a queue and returns it, or a negative error number. The table
/// keeps the queue until that number is closed.
int enter_queue(std::shared_ptr<queue_core> queue, close_is_found how);

}  // namespace kevring::detail
