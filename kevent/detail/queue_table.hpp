// queue_table.hpp: maps the number of a control descriptor to its queue.
//
// A program closes a control descriptor by close(2), which notifies no one. So each lookup checks
// whether the number still refers to the queue's file. One thread of the library, which sleeps most
// of the time, checks all queues, so that the files of a closed queue are released without a
// further call. A queue can do without that thread.
//
// Thread      Any. In the child of a fork the table is empty.
// Spec        5.1, 5.11; docs/design/0040-kevent-queue.md.
#pragma once

#include <kevring/kevent/detail/queue_core.hpp>

#include <cstdint>
#include <memory>

namespace kevring::detail {

/// A queue that a call is made on; it lives at least as long as the call.
struct queue_ref {
    std::shared_ptr<queue_core> queue;
    int error_number = 0;       // -EBADF, -EINVAL; then `queue` is null
    bool is_identified = true;  // the number refers to the queue's file
};

/// The call that finds out whether a number still refers to the file of a queue.
enum class identification : std::uint8_t {
    by_lookup,      // find_queue()
    by_queue,       // the call on the queue, if queue_core::identifies_control()
    by_queue_only,  // the same; without that no queue is found, and the number is not checked
};

/// Finds the queue of a control descriptor. One system call tells whether `number` still refers to
/// the queue's file: a duplicate of another queue's descriptor, which may have got the number of a
/// closed one, is not taken for it.
///
/// Errors     -EBADF: the number is closed; -EINVAL: it refers to another file.
queue_ref find_queue(int number, identification how = identification::by_lookup) noexcept;

/// Closes the control descriptor `number`. Afterwards no call finds its queue, and no driver writes
/// to its ring. Errors: those of find_queue().
int close_queue(int number) noexcept;

/// How the library notices that a control descriptor was closed, if no call is made on its number.
enum class close_detection : std::uint8_t {
    by_thread,  // within 50 ms
    by_call,    // by kevent_init(), or by one of the next calls that control other queues
};

/// Makes a control descriptor for a queue. The table keeps the queue until that number is closed.
///
/// Result     The number, or a negative error number.
/// Errors     std::bad_alloc, and then no descriptor is left open.
int insert_queue(std::shared_ptr<queue_core> queue, close_detection how);

/// Checks one of the queues that are found by_call, the next one with each call.
void check_next_queue() noexcept;

}  // namespace kevring::detail
