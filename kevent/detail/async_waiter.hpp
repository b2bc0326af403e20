// async_waiter.hpp: a suspended coroutine in the wait list of a queue.
#pragma once

#include <kevring/runtime/detail/intrusive_list.hpp>

namespace kevring::detail {

/// One suspended coroutine. No thread waits for it in the port: its loop is woken.
///
/// Thread     That of the coroutine; the link is guarded by the queue's lock.
struct async_waiter : list_link {
    unsigned min_count = 1;
    bool is_listed = false;  // written by the coroutine's thread only
};

}  // namespace kevring::detail
