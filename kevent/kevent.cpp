// kevent.cpp: the C interface: checks arguments, finds the queue, and calls it.
//
// No exception leaves these functions but that of a cancelled thread, which unwinds through them;
// so they are not noexcept.
#include <kevring/kevent/kevent.h>

#include <kevring/kevent/detail/call_guard.hpp>
#include <kevring/kevent/detail/caller_ring.hpp>
#include <kevring/kevent/detail/port_choice.hpp>
#include <kevring/kevent/detail/queue_core.hpp>
#include <kevring/kevent/detail/queue_table.hpp>
#include <kevring/kevent/ports/driver_port.hpp>
#include <kevring/kevent/sources/inode.hpp>
#include <kevring/kevent/sources/naio.hpp>
#include <kevring/kevent/sources/posix_timer.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/detail/process.hpp>
#include <kevring/runtime/kernel.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <time.h>

namespace {

using kevring::detail::call_guard;
using kevring::detail::close_detection;
using kevring::detail::find_queue;
using kevring::detail::identification;
using kevring::detail::queue_core;
using kevring::detail::queue_ref;
using kevring::detail::wait_limit;

// Until when a call waits; false if `timeout` is none.
bool read_timeout(const timespec& timeout, unsigned flags, wait_limit& limit) {
    constexpr long ns_per_s = 1'000'000'000;
    if (timeout.tv_sec == -1) {
        limit = wait_limit::forever();
        return true;
    }
    if (timeout.tv_sec < 0 || timeout.tv_nsec < 0 || timeout.tv_nsec >= ns_per_s) return false;
    const bool absolute = (flags & KEVENT_FLAGS_ABSTIME) != 0;
    if (!absolute && timeout.tv_sec == 0 && timeout.tv_nsec == 0) {
        limit = wait_limit::no_wait();
        return true;
    }
    if (timeout.tv_sec >= kevring::never_ns / ns_per_s) {
        limit = wait_limit::forever();
        return true;
    }
    const std::int64_t given_ns = std::int64_t{timeout.tv_sec} * ns_per_s + timeout.tv_nsec;
    limit.clock = absolute ? wait_limit::kind::realtime : wait_limit::kind::relative;
    limit.deadline_ns = given_ns;
    return true;
}

// Reads until when a waiting call waits; 0, or a negative error number. A call with a valid timeout
// asks whether the descriptor is non-blocking only before it sleeps, which saves a system call.
int read_limit(const queue_ref& found, const timespec& timeout, unsigned flags, wait_limit& limit) {
    if ((flags & ~KEVENT_FLAGS_ABSTIME) != 0) return -EINVAL;
    if (read_timeout(timeout, flags, limit)) return 0;
    if (!found.queue->is_non_blocking()) return -EINVAL;
    limit = wait_limit::no_wait();
    return 0;
}

// Runs the body of a call. A child that shares the memory of its parent must not change a queue:
// its descriptors are not those of the parent.
template <class Body>
auto control_queue(int fd, Body&& body) -> decltype(body(std::declval<const queue_ref&>())) {
    try {
        if (!kevring::detail::runs_in_own_process()) return -EBADF;
        kevring::detail::check_next_queue();
        const queue_ref found = find_queue(fd);
        if (found.queue == nullptr) return found.error_number;
        return body(found);
    } catch (const std::bad_alloc&) {
        return -ENOMEM;
    }
}

// Runs the body of a call that can find out by itself whether its number refers to the queue.
template <class Body>
int call_queue(int fd, Body&& body) {
    for (const identification how : {identification::by_queue, identification::by_lookup}) {
        const queue_ref found = find_queue(fd, how);
        if (found.queue == nullptr) return found.error_number;
        const int result = body(found, found.is_identified ? queue_core::identified : fd);
        if (result != queue_core::not_identified) return result;
    }
    return -EBADF;
}

// A wrong argument. An error of the descriptor takes precedence.
int refuse(int failure, int unidentified) {
    return unidentified == queue_core::identified ? failure : queue_core::not_identified;
}

// MODIFY of a queue whose port refuses calls of a child that shares the memory of its parent.
int modify_by_port(int fd, unsigned num, ukevent* arg) {
    const queue_ref found = find_queue(fd, identification::by_queue_only);
    if (found.queue == nullptr) return queue_core::not_identified;
    const int result = found.queue->modify(arg, num, fd);
    // Second: such a child would check the descriptors of its own.
    if (result != queue_core::not_identified) kevring::detail::check_next_queue();
    return result;
}

// A queue whose driver publishes. Errors: throws std::bad_alloc and std::system_error.
std::shared_ptr<queue_core> make_driven_queue(kevent_ring* ring, unsigned ring_size,
                                              std::string_view reason) {
    auto carrier = std::make_unique<kevring::detail::driver_port>();
    kevring::detail::driver_port& driver = *carrier;
    auto queue = std::make_unique<queue_core>(std::move(carrier), ring, ring_size, reason,
                                              kevring::detail::publication::by_driver);
    const auto publish = [](void* context) noexcept {
        static_cast<queue_core*>(context)->publish_events();
    };
    driver.start({publish, queue.get()});
    // The thread ends first: it uses the queue.
    return {queue.release(), [&driver](queue_core* ended) noexcept {
                driver.stop();
                delete ended;
            }};
}

// The body of aio_recv() and aio_send().
long start_naio(int fd, std::uint32_t event, int socket, kevring::detail::naio_buffer buffer,
                int flags) {
    return control_queue(fd, [&](const queue_ref& found) -> long {
        constexpr auto size_max = std::numeric_limits<std::int32_t>::max();
        if (buffer.size == 0 || buffer.size > size_max) return -EINVAL;
        if (buffer.begin == nullptr) return -EFAULT;
        ukevent record{};
        record.id.raw[0] = static_cast<std::uint32_t>(socket);
        record.type = KEVENT_NAIO;
        record.event = event;
        record.req_flags = KEVENT_REQ_ONESHOT;
        record.ptr = buffer.begin;
        const auto make = [&](kevring::detail::source_host& host,
                              kevring::detail::registration& target) {
            return kevring::detail::make_naio_source(host, target, kevring::fd_ref(socket), buffer,
                                                     flags);
        };
        int failure = 0;
        do {
            // 2006 had the size here, so that there could be one request of a size.
            record.id.raw[1] = static_cast<std::uint32_t>(found.queue->allocate_id()) & 0x7fffffff;
            failure = found.queue->add_with_source(record, make);
        } while (failure == -EEXIST);
        return failure != 0 ? failure : static_cast<long>(record.id.raw_u64);
    });
}

}  // namespace

int kevent_init(kevent_ring* ring, unsigned ring_size, unsigned flags) {
    const call_guard whole_call;
    constexpr unsigned port_flags = KEVENT_INIT_ONE_THREAD | KEVENT_INIT_ASYNC;
    if ((flags & ~(KEVENT_INIT_NO_THREAD | port_flags)) != 0) return -EINVAL;
    if ((flags & port_flags) == port_flags) return -EINVAL;
    if ((ring == nullptr) != (ring_size == 0)) return -EINVAL;
    if (ring != nullptr) {
        const int failure = kevring::detail::caller_ring::check(ring, ring_size);
        if (failure != 0) return failure;
    } else if ((flags & KEVENT_INIT_ASYNC) != 0) {
        return -EINVAL;
    }
    if (!kevring::detail::runs_in_own_process()) return -EPERM;
    try {
        const auto detection = (flags & KEVENT_INIT_NO_THREAD) != 0 ? close_detection::by_call
                                                                    : close_detection::by_thread;
        if ((flags & KEVENT_INIT_ASYNC) != 0)
            return kevring::detail::insert_queue(
                make_driven_queue(ring, ring_size, "KEVENT_INIT_ASYNC"), detection);
        if (ring != nullptr && kevring::detail::is_driver_forced())
            return kevring::detail::insert_queue(
                make_driven_queue(ring, ring_size, "KEVRING_KEVENT_PORT"), detection);
        kevring::detail::chosen_port chosen = kevring::detail::choose_port(flags);
        return kevring::detail::insert_queue(
            std::make_shared<queue_core>(std::move(chosen.carrier), ring, ring_size, chosen.reason),
            detection);
    } catch (const std::bad_alloc&) {
        return -ENOMEM;
    } catch (const std::system_error& failure) {
        return -failure.code().value();
    }
}

int kevent_describe(int fd, char* buffer, size_t size) {
    const call_guard whole_call;
    return control_queue(fd, [&](const queue_ref& found) {
        if (buffer == nullptr && size != 0) return -EFAULT;
        const std::string text = found.queue->describe();
        if (size != 0) {
            const size_t count = std::min(text.size(), size - 1);
            std::memcpy(buffer, text.data(), count);
            buffer[count] = '\0';
        }
        return static_cast<int>(text.size());
    });
}

int kevent_close(int fd) {
    const call_guard whole_call;
    if (!kevring::detail::runs_in_own_process()) return -EBADF;
    return kevring::detail::close_queue(fd);
}

int kevent_ctl(int fd, unsigned cmd, unsigned num, ukevent* arg) {
    const call_guard whole_call;
    if (cmd == KEVENT_CTL_MODIFY && num != 0 && arg != nullptr) {
        const int result = modify_by_port(fd, num, arg);
        if (result != queue_core::not_identified) return result;
    }
    return control_queue(fd, [&](const queue_ref& found) {
        if (cmd > KEVENT_CTL_READY) return -EINVAL;
        if (num == 0) {
            if (cmd == KEVENT_CTL_READY) found.queue->interrupt_wait();
            return 0;
        }
        if (arg == nullptr) return -EFAULT;
        queue_core& queue = *found.queue;
        if (cmd == KEVENT_CTL_MODIFY) return queue.modify(arg, num);
        if (cmd == KEVENT_CTL_ADD) return queue.add(arg, num);
        return cmd == KEVENT_CTL_REMOVE ? queue.remove(arg, num) : queue.mark_ready(arg, num);
    });
}

int kevent_get_events(int fd, unsigned min_nr, unsigned max_nr, timespec timeout, ukevent* buf,
                      unsigned flags) {
    const call_guard whole_call;
    return call_queue(fd, [&](const queue_ref& found, int unidentified) {
        wait_limit limit;
        if (const int failure = read_limit(found, timeout, flags, limit); failure != 0)
            return refuse(failure, unidentified);
        if (buf == nullptr && max_nr != 0) return refuse(-EFAULT, unidentified);
        return found.queue->get_events(min_nr, max_nr, limit, buf, unidentified);
    });
}

int kevent_wait(int fd, unsigned num, unsigned old_uidx, timespec timeout, unsigned flags) {
    const call_guard whole_call;
    return call_queue(fd, [&](const queue_ref& found, int unidentified) {
        if (!found.queue->has_ring() || num > found.queue->ring_size())
            return refuse(-EINVAL, unidentified);
        wait_limit limit;
        if (const int failure = read_limit(found, timeout, flags, limit); failure != 0)
            return refuse(failure, unidentified);
        return found.queue->wait(num, old_uidx, limit, unidentified);
    });
}

int kevent_commit(int fd, unsigned new_uidx, unsigned over) {
    const call_guard whole_call;
    const queue_ref found = find_queue(fd);
    if (found.queue == nullptr) return found.error_number;
    return found.queue->commit(new_uidx, over);
}

long kevent_timer_create(int fd, clockid_t clock, const itimerspec* when, int flags, void* user) {
    const call_guard whole_call;
    return control_queue(fd, [&](const queue_ref& found) -> long {
        if (when == nullptr) return -EFAULT;
        ukevent record{};
        record.id.raw_u64 = found.queue->allocate_id();
        record.type = KEVENT_POSIX_TIMER;
        record.event = KEVENT_MASK_ALL;
        const bool periodic = when->it_interval.tv_sec != 0 || when->it_interval.tv_nsec != 0;
        record.req_flags = periodic ? 0 : KEVENT_REQ_ONESHOT;
        record.ptr = user;
        const int failure = found.queue->add_with_source(
            record, [&](kevring::detail::source_host& host, kevring::detail::registration& target) {
                return kevring::detail::make_posix_timer_source(host, target, clock, *when, flags);
            });
        return failure != 0 ? failure : static_cast<long>(record.id.raw_u64);
    });
}

int kevent_inode_changes(int fd, kevent_id id, unsigned max_nr, kevent_change* buf) {
    const call_guard whole_call;
    return control_queue(fd, [&](const queue_ref& found) {
        if (buf == nullptr && max_nr != 0) return -EFAULT;
        return found.queue->query_source(
            id.raw_u64, kevring::event_type::inode, [&](kevring::detail::source& inode) {
                return kevring::detail::take_inode_changes(inode, max_nr, buf);
            });
    });
}

long aio_recv(int kevent_fd, int sock_fd, void* buffer, size_t size, int flags) {
    const call_guard whole_call;
    return start_naio(kevent_fd, KEVENT_SOCKET_RECV, sock_fd, {static_cast<char*>(buffer), size},
                      flags);
}

long aio_send(int kevent_fd, int sock_fd, const void* buffer, size_t size, int flags) {
    const call_guard whole_call;
    auto* const begin = static_cast<char*>(const_cast<void*>(buffer));  // it is only read
    return start_naio(kevent_fd, KEVENT_SOCKET_SEND, sock_fd, {begin, size}, flags);
}
