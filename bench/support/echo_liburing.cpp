// bench/support/echo_liburing.cpp: the echo server on liburing, as fast as possible.
//
// The baseline for examples/echo: multishot receive into provided buffers, and the bytes are sent
// from the buffer that received them, without a copy. A send must complete before its buffer is
// recycled, so sends have completions here (CQE_SKIP_SUCCESS would suppress them). One send per
// connection is in flight, because a second one could overtake a first that waits for buffer space;
// further buffers are queued by their numbers.
#include "bench/support/baseline.hpp"
#include "bench/support/bench_ring.hpp"

#include <array>
#include <vector>

namespace {

using namespace kevring::bench;

constexpr unsigned buffer_count = 1024;
constexpr std::uint16_t no_buffer = 0xffff;

enum class tag : std::uint64_t { accept, receive, send };

constexpr std::uint64_t label(tag what, int fd) {
    return static_cast<std::uint64_t>(what) << 32 | static_cast<std::uint32_t>(fd);
}

struct connection {
    std::uint16_t first = no_buffer;  // is being sent
    std::uint16_t last = no_buffer;
    bool receiving = false;
    bool starved = false;
};

struct held_buffer {
    std::uint16_t next = no_buffer;
    std::uint32_t bytes = 0;
};

class echo_server {
public:
    explicit echo_server(int listener) : listener_(listener) {
        connections_.resize(baseline_fd_count_max);
        accept();
    }

    void run() {
        for (;;) {
            ring_.turn([this](const io_uring_cqe& cqe) { complete(cqe); });
            // Only after a buffer was recycled, otherwise this would spin.
            if (returned_ && !starved_.empty()) {
                for (const int fd : starved_) {
                    connections_[static_cast<unsigned>(fd)].starved = false;
                    receive(fd);
                }
                starved_.clear();
            }
            returned_ = false;
        }
    }

private:
    void accept() { ring_.accept_all(listener_, label(tag::accept, listener_)); }

    void receive(int fd) {
        ring_.receive_all(fd, label(tag::receive, fd));
        connections_[static_cast<unsigned>(fd)].receiving = true;
    }

    void send(int fd, std::uint16_t id) {
        io_uring_sqe& sqe = ring_.next();
        io_uring_prep_send(&sqe, fd, ring_.buffer(id), held_[id].bytes, MSG_WAITALL | MSG_NOSIGNAL);
        sqe.user_data = label(tag::send, fd);
    }

    void complete(const io_uring_cqe& cqe) {
        const int fd = static_cast<int>(static_cast<std::uint32_t>(cqe.user_data));
        switch (static_cast<tag>(cqe.user_data >> 32)) {
            case tag::receive: return received(fd, cqe);
            case tag::send: return sent(fd, cqe.res);
            case tag::accept: break;
        }
        if (cqe.res >= 0) receive(cqe.res);
        if (!(cqe.flags & IORING_CQE_F_MORE)) accept();
    }

    void received(int fd, const io_uring_cqe& cqe) {
        connection& from = connections_[static_cast<unsigned>(fd)];
        if (cqe.res > 0) {
            const auto id = static_cast<std::uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
            held_[id] = {no_buffer, static_cast<std::uint32_t>(cqe.res)};
            if (from.first == no_buffer) {
                from.first = id;
                send(fd, id);
            } else {
                held_[from.last].next = id;
            }
            from.last = id;
        }
        if (cqe.flags & IORING_CQE_F_MORE) return;
        from.receiving = false;
        if (cqe.res > 0) {
            receive(fd);
        } else if (cqe.res == -ENOBUFS) {
            from.starved = true;
            starved_.push_back(fd);
        } else {
            close_when_done(fd, from);
        }
    }

    void sent(int fd, int result) {
        connection& to = connections_[static_cast<unsigned>(fd)];
        const bool whole = result == static_cast<int>(held_[to.first].bytes);
        if (!whole) shutdown(fd, SHUT_RDWR);  // ends the receive, and that closes
        do {
            const std::uint16_t next = held_[to.first].next;
            ring_.give_back(to.first);
            returned_ = true;
            to.first = next;
        } while (!whole && to.first != no_buffer);
        if (to.first != no_buffer) return send(fd, to.first);
        to.last = no_buffer;
        if (!to.receiving && !to.starved) close_when_done(fd, to);
    }

    void close_when_done(int fd, const connection& client) {
        if (client.first == no_buffer) ::close(fd);
    }

    int listener_;
    bench_ring ring_{{.submission_count = 1024,
                      .completion_count = 8192,
                      .buffer_count = buffer_count,
                      .buffer_bytes = 4096}};
    std::vector<connection> connections_;  // by descriptor
    std::array<held_buffer, buffer_count> held_{};
    std::vector<int> starved_;
    bool returned_ = false;
};

}  // namespace

int main(int argc, char** argv) {
    const auto options = parse_baseline_options(argc, argv);
    baseline_serve(options, [](int listener) { echo_server(listener).run(); });
}
