// ring_submit.cpp: entries outside of the loop's own enter: full queues, cancels, failures.
#include <kevring/runtime/ring.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/ring_state.hpp>
#include <kevring/runtime/detail/uring.hpp>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace kevring {

using detail::load_acquire;
using detail::queuing_ring;
using detail::ring_failed;
using detail::store_release;

namespace {

// The cause and the remedy of an errno of io_uring_enter(2) or IORING_REGISTER_SEND_MSG_RING that
// no repetition mends.
[[gnu::cold]] const char* explain_broken_ring(int error) noexcept {
    switch (error) {
        case EBADF:
        case EOPNOTSUPP:  // the number is another file's by now
            return "the ring's descriptor was closed; close only descriptors that the program "
                   "opened, and none by a loop over all numbers";
        case EEXIST:
            return "another thread or process entered the ring; use a ring on the thread that "
                   "first drove it, and call only execve() or _exit() after vfork()";
        case EPERM:
        case EACCES:
        case ENOSYS:
            return "a seccomp filter refuses io_uring since the ring was created; install filters "
                   "that allow io_uring_enter and io_uring_register, or install them first";
        case EBADR:
            return "the kernel had no memory for completions and lost some; raise the memory limit "
                   "or ring_options::completion_entries";
        default:
            return "internal error: the kernel refuses the library's request; report it with the "
                   "kernel's version";
    }
}

}  // namespace

// Requests in flight can be neither stopped nor awaited any more, and their frames must not be
// destroyed: the program has no state to continue from.
[[noreturn, gnu::cold]] void detail::ring_failed(const char* call, int error) noexcept {
    std::fprintf(stderr, "kevring: %s: %s\n  %s\n", call, std::strerror(error),
                 explain_broken_ring(error));
    std::abort();
}

bool ring::withdraw(completion& request, unsigned entry_index) noexcept {
    if (created_by_parent_process() || entry_tail_ - entry_index - 1 >= unsubmitted()) return false;
    io_uring_sqe& entry = sqes_[entry_index & sq_mask_];
    const std::uint64_t address = reinterpret_cast<std::uintptr_t>(&request);
    if ((entry.user_data & ~detail::user_data_refused) != address) return false;
    std::memset(&entry, 0, sizeof entry);
    entry.opcode = IORING_OP_NOP;
    entry.fd = -1;
    entry.user_data = detail::user_data_ignored;
    --in_flight_;
    return true;
}

void ring::submit_entries_naming(int descriptor) noexcept {
    ring* const loop = queuing_ring;
    if (loop == nullptr || loop->created_by_parent_process()) return;
    for (unsigned index = loop->entry_tail_ - loop->unsubmitted(); index != loop->entry_tail_;
         ++index) {
        const io_uring_sqe& entry = loop->sqes_[index & loop->sq_mask_];
        // The second descriptor of a splice; in others this is 0, or makes them go early.
        if (entry.fd == descriptor || entry.splice_fd_in == descriptor) {
            loop->submit();
            return;
        }
    }
}

void ring::queue_cancel(completion& request) noexcept {
    KEVRING_ASSERT(on_ring_thread(),
                   "stop requested on a thread that does not drive the ring; use a std::stop_token "
                   "with with_stop(), or post() the stop");
    if (created_by_parent_process()) [[unlikely]]
        return;
    io_uring_sqe& entry = next_entry();
    entry.opcode = IORING_OP_ASYNC_CANCEL;
    entry.fd = -1;
    entry.addr = reinterpret_cast<std::uintptr_t>(&request);
    entry.user_data = detail::user_data_ignored;
    ++counters_.cancels;
}

// Hands over what is queued so that there is room. Frames are not resumed here: the caller may be
// in the middle of anything. Completions that must make way are saved for the next reap.
[[gnu::cold]] void ring::flush_full_queue() noexcept {
    ++counters_.full_submissions;
    submit_down_to(sq_entries_ - 1);
}

[[gnu::cold]] void ring::submit() noexcept {
    if (!created_by_parent_process()) submit_down_to(0);
    if (queuing_ring == this) queuing_ring = nullptr;
}

// Enters until at most `count_max` entries are left.
[[gnu::cold]] void ring::submit_down_to(unsigned count_max) noexcept {
    while (unsubmitted() > count_max) {
        store_release(sq_tail_, entry_tail_);
        ++counters_.enters;
        const int entered = system_.ring_enter(*uring_, unsubmitted(), 0, 0, nullptr);
        if (entered > 0) continue;
        switch (entered) {
            case 0:
            case -EINTR: break;
            case -EBUSY:
            case -EAGAIN:
            case -ENOMEM:
                // The kernel holds completions that found no room, or lacks memory: save the
                // available ones, and let it post the rest.
                save_completions();
                system_.ring_enter(*uring_, 0, 0, IORING_ENTER_GETEVENTS, nullptr);
                save_completions();
                break;
            default: ring_failed("io_uring_enter", -entered);
        }
    }
}

[[gnu::cold]] void ring::save_completions() noexcept {
    unsigned head = *cq_head_;
    const unsigned tail = load_acquire(cq_tail_);
    for (; head != tail; ++head) {
        const io_uring_cqe& entry = cqes_[head & cq_mask_];
        saved_.push_back({entry.user_data, entry.res, entry.flags});
    }
    store_release(cq_head_, head);
}

}  // namespace kevring
