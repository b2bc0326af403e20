// paced_kernel.hpp: the kernel, but each io_uring_enter(2) shows the loop one completion at most.
//
// The number of completions that an iteration finds depends on time otherwise, and with it the instructions of each.
// The calls do not wait in the kernel either: valgrind up to 3.19 holds its lock during io_uring_enter(2), so that no
// other thread of the program would run.
#pragma once

#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/kernel.hpp>

#include <cerrno>
#include <cstdint>
#include <ctime>
#include <vector>

/// For one ring.
class paced_kernel final : public kevring::kernel {
public:
    int ring_setup(unsigned entries, io_uring_params& params, io_uring& ring) noexcept override {
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
        const bool waits = wait_count > 0 && !has_real_completion();
        const std::int64_t end_ns =
            timeout == nullptr ? INT64_MAX
                               : steady_ns() + timeout->tv_sec * 1'000'000'000 + timeout->tv_nsec;
        const int answer = kernel::ring_enter(ring, submit_count, 0, flags, nullptr);
        while (waits && answer >= 0 && !has_real_completion()) {
            if (steady_ns() >= end_ns) return -ETIME;
            const timespec pause{.tv_sec = 0, .tv_nsec = 100'000};
            ::nanosleep(&pause, nullptr);
            kernel::ring_enter(ring, 0, 0, flags, nullptr);
        }
        copy_completion();
        return answer;
    }
    bool holds_completions(const io_uring&) const noexcept override {
        return has_real_completion();
    }

private:
    bool has_real_completion() const noexcept {
        return *real_.khead != __atomic_load_n(real_.ktail, __ATOMIC_ACQUIRE);
    }
    void copy_completion() noexcept {
        if (!has_real_completion() || tail_ != __atomic_load_n(&head_, __ATOMIC_ACQUIRE)) return;
        const unsigned from = *real_.khead;
        entries_[tail_ & (entries_.size() - 1)] = real_.cqes[from & *real_.kring_mask];
        __atomic_store_n(real_.khead, from + 1, __ATOMIC_RELEASE);
        __atomic_store_n(&tail_, tail_ + 1, __ATOMIC_RELEASE);
    }

    io_uring_cq real_{};
    std::vector<io_uring_cqe> entries_;
    unsigned head_ = 0;
    unsigned tail_ = 0;
};
