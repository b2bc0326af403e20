// scripted_kernel.hpp: the kernel with scripted faults: requests fail, return short counts, complete
// late or end after one completion.
//
// It is a layer between a ring and the real kernel. It changes submission entries before the kernel
// receives them, and completions before the ring receives them; everything else is as in production.
#pragma once

#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/kernel.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include <sys/socket.h>
#include <sys/uio.h>

class scripted_kernel final : public kevring::kernel {
public:
    // The results of the next requests with an opcode.

    /// The next `count` requests with this opcode are not executed, and complete with `-error`.
    void fail(std::uint8_t opcode, int error, unsigned count = 1) {
        for (unsigned i = 0; i < count; ++i) failures_[opcode].push_back(error);
    }
    /// Requests with this opcode transfer at most `byte_count` bytes.
    void shorten(std::uint8_t opcode, std::uint32_t byte_count) { lengths_[opcode] = byte_count; }
    /// Multishot requests with this opcode end after their first completion, without an error.
    void end_after_first(std::uint8_t opcode) { single_[opcode] = true; }
    /// Cancelled requests with this opcode complete with `-error`, as in older kernels.
    void answer_cancelled(std::uint8_t opcode, int error) { cancelled_[opcode] = error; }
    /// Delays completions of this opcode until release().
    void hold(std::uint8_t opcode) { held_opcode_ = opcode; }
    /// Delays notifications of zero-copy sends until release().
    void hold_notices() { holds_notices_ = true; }
    /// Delivers the delayed completions, the last first.
    void release() {
        held_opcode_.reset();
        holds_notices_ = false;
    }
    std::size_t held_count() const noexcept { return held_.size(); }

    // The results of the calls themselves.

    std::deque<int> enter_answers;  // of the next enters, which do not reach the kernel
    int setup_error = 0;
    std::map<unsigned, int> register_errors;  // by operation of io_uring_register(2); while present
    std::optional<std::int64_t> clock_ns;     // if set: the time, which only sleeping advances

    unsigned submitted(std::uint8_t opcode) const {
        const auto found = submitted_.find(opcode);
        return found == submitted_.end() ? 0 : found->second;
    }

    /// Number of calls with this operation of io_uring_register(2).
    unsigned registered(unsigned opcode) const {
        const auto found = registered_.find(opcode);
        return found == registered_.end() ? 0 : found->second;
    }

    // The ring gets this object's own completion queue, to which completions are copied.
    int ring_setup(unsigned entries, io_uring_params& params, io_uring& ring) noexcept override {
        if (setup_error != 0) return -setup_error;
        const int made = kernel::ring_setup(entries, params, ring);
        if (made < 0) return made;
        real_ = ring.cq;
        entries_.resize(params.cq_entries);
        ring.cq.khead = &head_;
        ring.cq.ktail = &tail_;
        ring.cq.cqes = entries_.data();
        return made;
    }
    void ring_exit(io_uring& ring) noexcept override {
        ring.cq = real_;
        kernel::ring_exit(ring);
    }

    int ring_enter(io_uring& ring, unsigned submit_count, unsigned wait_count, unsigned flags,
                   const __kernel_timespec* timeout) noexcept override {
        if (!enter_answers.empty()) {
            const int answer = enter_answers.front();
            enter_answers.pop_front();
            return answer;
        }
        change_requests(ring);
        const __kernel_timespec at_once{};
        if (clock_ns && timeout != nullptr) {
            *clock_ns += timeout->tv_sec * 1'000'000'000 + timeout->tv_nsec;
            timeout = &at_once;
        }
        if (!holds() && !held_.empty()) wait_count = 0;
        const int answer = kernel::ring_enter(ring, submit_count, wait_count, flags, timeout);
        copy_completions();
        return answer;
    }

    // Linux 6.1 posts the completions of its worker threads without IORING_SQ_TASKRUN, and the ring
    // cannot see them: they become visible in an enter.
    bool holds_completions(const io_uring&) const noexcept override {
        const bool real_ones = *real_.khead != __atomic_load_n(real_.ktail, __ATOMIC_ACQUIRE);
        return real_ones || (!holds() && !held_.empty());
    }

    int ring_register(io_uring& ring, unsigned opcode, void* argument,
                      unsigned count) noexcept override {
        ++registered_[opcode];
        if (const auto found = register_errors.find(opcode); found != register_errors.end())
            return -found->second;
        return kernel::ring_register(ring, opcode, argument, count);
    }

    std::int64_t steady_ns() noexcept override {
        return clock_ns ? *clock_ns : kernel::steady_ns();
    }

private:
    struct short_message {
        msghdr header;
        std::vector<iovec> parts;
    };
    std::deque<short_message> messages_;  // the kernel may read them until the ring ends

    struct answer {
        std::uint64_t user_data;
        std::int32_t res;
        std::uint32_t flags;
    };

    void change_requests(io_uring& ring) {
        const unsigned tail = __atomic_load_n(ring.sq.ktail, __ATOMIC_ACQUIRE);
        for (; seen_tail_ != tail; ++seen_tail_) {
            io_uring_sqe& entry = ring.sq.sqes[seen_tail_ & *ring.sq.kring_mask];
            if (entry.user_data < kevring::detail::user_data_first_address) continue;  // its own
            ++submitted_[entry.opcode];
            opcode_of_[entry.user_data] = entry.opcode;
            if (auto& next = failures_[entry.opcode]; !next.empty()) {
                results_[entry.user_data] = -next.front();
                next.pop_front();
                const std::uint64_t user_data = entry.user_data;
                entry = {};
                entry.user_data = user_data;  // a NOP, whose completion is changed later
                continue;
            }
            if (const auto limit = lengths_.find(entry.opcode);
                limit != lengths_.end() && entry.opcode == IORING_OP_SENDMSG) {
                shorten_message(entry, limit->second);
            } else if (limit != lengths_.end() && entry.len > limit->second) {
                entry.len = limit->second;
                entry.msg_flags &= ~static_cast<std::uint32_t>(MSG_WAITALL);
            }
            if (single_[entry.opcode]) {
                if (entry.opcode == IORING_OP_POLL_ADD) entry.len = 0;
                if (entry.opcode == IORING_OP_RECV) entry.ioprio &= ~IORING_RECV_MULTISHOT;
                if (entry.opcode == IORING_OP_ACCEPT) entry.ioprio &= ~IORING_ACCEPT_MULTISHOT;
            }
        }
    }

    // Replaces a message by its first `byte_count` bytes.
    void shorten_message(io_uring_sqe& entry, std::size_t byte_count) {
        const auto& whole = *reinterpret_cast<const msghdr*>(entry.addr);
        short_message& message = messages_.emplace_back();
        message.header = whole;
        for (std::size_t i = 0; i < whole.msg_iovlen && byte_count > 0; ++i) {
            iovec part = whole.msg_iov[i];
            part.iov_len = std::min(part.iov_len, byte_count);
            byte_count -= part.iov_len;
            message.parts.push_back(part);
        }
        message.header.msg_iov = message.parts.data();
        message.header.msg_iovlen = message.parts.size();
        entry.addr = reinterpret_cast<std::uintptr_t>(&message.header);
        entry.msg_flags &= ~static_cast<std::uint32_t>(MSG_WAITALL);
    }

    bool put(const answer& one) {
        if (tail_ - __atomic_load_n(&head_, __ATOMIC_ACQUIRE) == entries_.size()) return false;
        io_uring_cqe& entry = entries_[tail_ & (entries_.size() - 1)];
        entry.user_data = one.user_data;
        entry.res = one.res;
        entry.flags = one.flags;
        __atomic_store_n(&tail_, tail_ + 1, __ATOMIC_RELEASE);
        return true;
    }

    bool holds() const noexcept { return held_opcode_ || holds_notices_; }
    bool is_held(const answer& one) {
        if (one.user_data < kevring::detail::user_data_first_address) return false;
        if (holds_notices_ && (one.flags & IORING_CQE_F_NOTIF) != 0) return true;
        return held_opcode_ && opcode_of_[one.user_data] == *held_opcode_;
    }

    void copy_completions() {
        unsigned from = *real_.khead;
        const unsigned end = __atomic_load_n(real_.ktail, __ATOMIC_ACQUIRE);
        for (; from != end; ++from) {
            const io_uring_cqe& entry = real_.cqes[from & *real_.kring_mask];
            answer one{entry.user_data, entry.res, entry.flags};
            if (const auto found = results_.find(one.user_data); found != results_.end())
                one.res = found->second;
            if (const auto found = cancelled_.find(opcode_of_[one.user_data]);
                found != cancelled_.end() && one.res == -ECANCELED)
                one.res = -found->second;
            if (is_held(one))
                held_.push_back(one);
            else if (!put(one))
                break;  // the rest stays in the kernel's queue
            results_.erase(one.user_data);
        }
        __atomic_store_n(real_.khead, from, __ATOMIC_RELEASE);
        while (!holds() && !held_.empty() && put(held_.back())) held_.pop_back();
    }

    std::map<std::uint8_t, std::deque<int>> failures_;
    std::map<std::uint8_t, std::uint32_t> lengths_;
    std::map<std::uint8_t, bool> single_;
    std::map<std::uint8_t, int> cancelled_;
    std::map<std::uint8_t, unsigned> submitted_;
    std::map<std::uint64_t, std::uint8_t> opcode_of_;
    std::map<std::uint64_t, std::int32_t> results_;
    std::map<unsigned, unsigned> registered_;
    std::optional<std::uint8_t> held_opcode_;
    bool holds_notices_ = false;
    std::vector<answer> held_;
    unsigned seen_tail_ = 0;  // of the submission queue
    io_uring_cq real_{};
    std::vector<io_uring_cqe> entries_;
    unsigned head_ = 0;
    unsigned tail_ = 0;
};
