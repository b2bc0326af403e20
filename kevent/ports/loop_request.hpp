// loop_request.hpp: the requests of a queue on a loop: one multishot poll for each descriptor.
#pragma once

#include <kevring/kevent/ports/loop_port.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/operation.hpp>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

namespace kevring::detail {

// A descriptor that the queue watches.
struct loop_port::slot {
    int number = -1;
    std::uint32_t poll_bits = 0;
    std::uint64_t tag = 0;
    bool is_used = false;
    bool has_changed = false;  // its bits, or they are to be reported again
    bool is_recorded = false;  // in `changes`
    request* armed = nullptr;  // of the current attachment
};

// The descriptors of one queue, known to its port and to each loop that it was attached to.
struct loop_port::state {
    std::mutex mutex;

    // Guarded by mutex.
    std::vector<slot> slots;             // by the low half of the tag
    std::vector<std::uint32_t> changes;  // slots that the loop has to look at; never reallocated
    std::int64_t deadline_ns = 0;        // of the port's timer; 0: not set

    // Written under mutex, read also without it.
    std::atomic<attachment*> current{nullptr};  // destroyed on its loop's thread only
    std::atomic<const ring*> loop{nullptr};     // of `current`
};

// The poll of one descriptor. Its memory belongs to the kernel until its last completion.
struct loop_port::request final : completion {
    struct owner_link : list_link {
        explicit owner_link(request& self) noexcept : self(self) {}
        request& self;
    };
    // Changes the bits of the poll, or has those reported that are set.
    struct change final : completion {
        explicit change(request& self) noexcept : self(self) {}
        void prepare(io_uring_sqe& sqe) noexcept override;
        void complete(std::int32_t res, std::uint32_t flags) noexcept override;
        request& self;
    };

    request(attachment& owner, const slot& watched) noexcept
        : owner(owner), number(watched.number), poll_bits(watched.poll_bits), tag(watched.tag) {}

    void prepare(io_uring_sqe& sqe) noexcept override {
        io_uring_prep_poll_multishot(&sqe, number, poll_bits);
    }
    void complete(std::int32_t res, std::uint32_t flags) noexcept override;

    attachment& owner;
    const int number;
    std::uint32_t poll_bits;
    const std::uint64_t tag;
    std::uint32_t seen_bits = 0;  // since the last take()
    owner_link in_all{*this};     // requests of the attachment
    owner_link in_seen{*this};    // with seen_bits
    bool is_in_kernel = false;    // its last completion is to come
    bool is_detached = false;     // of a slot that has left; never armed again
    bool is_change_in_kernel = false;
    bool is_change_wanted = false;  // another change, after the one in the kernel
    change changing{*this};
};

}  // namespace kevring::detail
