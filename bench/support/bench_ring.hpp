// bench/support/bench_ring.hpp: a bare io_uring with provided receive buffers, for the baselines.
//
// The baselines and the load generator measure the library and do not use it: this is a careful
// use of liburing, with the cheapest set-up that was found (SINGLE_ISSUER,
// DEFER_TASKRUN, registered ring descriptor, one enter per loop iteration).
//
// Thread      The thread that created it, for every member.
// Errors      std::system_error from the constructor; a failing enter ends the program, because the
//             figures measured after it would be meaningless.
#pragma once

#include <liburing.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <system_error>

namespace kevring::bench {

class bench_ring {
public:
    struct sizes {
        unsigned submission_count = 1024;
        unsigned completion_count = 4096;
        unsigned buffer_count = 256;  // a power of two, at most 32768
        unsigned buffer_bytes = 4096;
        bool discard = false;      // all buffers share one memory, for bytes that are not read
        bool incremental = false;  // receives share a buffer until it is full; Linux 6.12
    };

    static constexpr std::uint16_t buffer_group = 0;

    explicit bench_ring(const sizes& limits) : sizes_(limits) {
        io_uring_params params{};
        params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                       IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
        params.cq_entries = limits.completion_count;
        check(io_uring_queue_init_params(limits.submission_count, &ring_, &params),
              "io_uring_setup");
        io_uring_register_ring_fd(&ring_);  // saves a lookup for each enter; fine without

        // liburing 2.3 has no io_uring_setup_buf_ring().
        ring_bytes_ = limits.buffer_count * sizeof(io_uring_buf);
        data_bytes_ = limits.buffer_bytes * (limits.discard ? 1 : std::size_t{limits.buffer_count});
        buffers_ = static_cast<io_uring_buf_ring*>(map(ring_bytes_));
        data_ = static_cast<char*>(map(data_bytes_));
        // The first version of io_uring_buf_reg, in liburing 2.3, has no flags.
        struct {
            std::uint64_t ring_addr;
            std::uint32_t ring_entries;
            std::uint16_t bgid;
            std::uint16_t flags;
            std::uint64_t reserved[3];
        } registration{};
        static_assert(sizeof registration == sizeof(io_uring_buf_reg));
        constexpr std::uint16_t flag_incremental = 2;  // IOU_PBUF_RING_INC
        registration.ring_addr = reinterpret_cast<std::uint64_t>(buffers_);
        registration.ring_entries = limits.buffer_count;
        registration.bgid = buffer_group;
        registration.flags = limits.incremental ? flag_incremental : 0;
        check(io_uring_register_buf_ring(&ring_, reinterpret_cast<io_uring_buf_reg*>(&registration),
                                         0),
              "io_uring_register_buf_ring");
        io_uring_buf_ring_init(buffers_);
        for (unsigned id = 0; id < limits.buffer_count; ++id)
            recycle(static_cast<std::uint16_t>(id));
        publish_buffers();
    }

    bench_ring(const bench_ring&) = delete;
    bench_ring& operator=(const bench_ring&) = delete;

    ~bench_ring() {
        io_uring_queue_exit(&ring_);
        munmap(data_, data_bytes_);
        munmap(buffers_, ring_bytes_);
    }

    // The next submission entry; a full queue is flushed first.
    io_uring_sqe& next() {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        while (sqe == nullptr) {
            submit();
            sqe = io_uring_get_sqe(&ring_);
        }
        return *sqe;
    }

    // Connections of a listening socket, one completion for each.
    void accept_all(int listener, std::uint64_t user_data, int flags = 0) {
        io_uring_sqe& sqe = next();
        io_uring_prep_multishot_accept(&sqe, listener, nullptr, nullptr, SOCK_CLOEXEC | flags);
        sqe.user_data = user_data;
    }

    // Receives into the ring's buffers until a completion without F_MORE.
    void receive_all(int fd, std::uint64_t user_data) {
        io_uring_sqe& sqe = next();
        io_uring_prep_recv_multishot(&sqe, fd, nullptr, 0, 0);
        sqe.flags |= IOSQE_BUFFER_SELECT;
        sqe.buf_group = buffer_group;
        sqe.user_data = user_data;
    }

    // Submits what is queued and does not wait.
    void submit() {
        publish_buffers();
        const int got = io_uring_submit(&ring_);
        ++enter_count_;
        if (got < 0 && got != -EINTR && got != -EBUSY && got != -EAGAIN) die("submit", got);
    }

    // Submits what is queued, waits for a completion, and passes each available one to `handle`.
    template <class Handle>
    void run_once(Handle&& handle) {
        publish_buffers();
        const int got = io_uring_submit_and_wait(&ring_, 1);
        ++enter_count_;
        if (got < 0 && got != -EINTR) die("submit and wait", got);
        reap(handle);
    }

    // As above, for at most `timeout_ns`.
    template <class Handle>
    void run_once(std::int64_t timeout_ns, Handle&& handle) {
        publish_buffers();
        __kernel_timespec timeout{};
        timeout.tv_sec = timeout_ns / 1'000'000'000;
        timeout.tv_nsec = timeout_ns % 1'000'000'000;
        io_uring_cqe* first = nullptr;
        const int got = io_uring_submit_and_wait_timeout(&ring_, &first, 1, &timeout, nullptr);
        ++enter_count_;
        if (got < 0 && got != -EINTR && got != -ETIME) die("submit and wait", got);
        reap(handle);
    }

    char* buffer(unsigned id) noexcept {
        return data_ + (sizes_.discard ? 0 : std::size_t{id} * sizes_.buffer_bytes);
    }

    // The kernel can use it from the next iteration.
    void recycle(std::uint16_t id) noexcept {
        io_uring_buf_ring_add(buffers_, buffer(id), sizes_.buffer_bytes, id,
                              static_cast<int>(sizes_.buffer_count - 1), unpublished_++);
    }

    std::uint64_t enter_count() const noexcept { return enter_count_; }

private:
    template <class Handle>
    void reap(Handle& handle) {
        unsigned head = 0;
        unsigned count = 0;
        io_uring_cqe* cqe = nullptr;
        io_uring_for_each_cqe(&ring_, head, cqe) {
            handle(*cqe);
            ++count;
        }
        io_uring_cq_advance(&ring_, count);
    }

    void publish_buffers() noexcept {
        if (unpublished_ == 0) return;
        io_uring_buf_ring_advance(buffers_, unpublished_);
        unpublished_ = 0;
    }

    static void* map(std::size_t bytes) {
        void* memory =
            mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
        if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
        return memory;
    }

    static void check(int result, const char* what) {
        if (result < 0) throw std::system_error(-result, std::generic_category(), what);
    }

    [[noreturn, gnu::cold]] static void die(const char* what, int result) {
        std::fprintf(stderr, "io_uring %s: %s\n", what, std::strerror(-result));
        std::exit(1);
    }

    // Constant after construction.
    io_uring ring_{};
    sizes sizes_;
    std::size_t ring_bytes_ = 0;
    std::size_t data_bytes_ = 0;
    io_uring_buf_ring* buffers_ = nullptr;
    char* data_ = nullptr;

    int unpublished_ = 0;
    std::uint64_t enter_count_ = 0;
};

}  // namespace kevring::bench
