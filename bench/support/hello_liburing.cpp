// bench/support/hello_liburing.cpp: a fixed response to every request, on bare liburing.
//
// The lower bound for a small response: multishot receive, provided buffers, sends without a
// completion (CQE_SKIP_SUCCESS) in the same enter as the wait. It trusts its clients to read: with
// no completions it cannot see that a send waits for room, so a client that pipelines without
// reading could see two responses mixed. A server for the world needs the completions.
#include "bench/support/baseline.hpp"
#include "bench/support/bench_ring.hpp"
#include "bench/support/hello_response.hpp"

#include <algorithm>
#include <vector>

namespace {

using namespace kevring::bench;

constexpr unsigned repeat_max = 64;

enum class tag : std::uint64_t { accept, receive, send };

constexpr std::uint64_t label(tag what, int fd) {
    return static_cast<std::uint64_t>(what) << 32 | static_cast<std::uint32_t>(fd);
}

class hello_server {
public:
    explicit hello_server(int listener) : listener_(listener), heads_(baseline_fd_count_max) {
        for (unsigned i = 0; i < repeat_max; ++i) responses_ += hello_response;
        accept();
    }

    void run() {
        for (;;) ring_.run_once([this](const io_uring_cqe& cqe) { complete(cqe); });
    }

private:
    void accept() { ring_.accept_all(listener_, label(tag::accept, listener_)); }

    void receive(int fd) { ring_.receive_all(fd, label(tag::receive, fd)); }

    void complete(const io_uring_cqe& cqe) {
        const int fd = static_cast<int>(static_cast<std::uint32_t>(cqe.user_data));
        switch (static_cast<tag>(cqe.user_data >> 32)) {
            case tag::receive: return received(fd, cqe);
            // Only failures get here. The descriptor is still this connection's: its receive
            // ends after this, and closes.
            case tag::send: shutdown(fd, SHUT_RDWR); return;
            case tag::accept: break;
        }
        if (cqe.res >= 0) {
            heads_[static_cast<unsigned>(cqe.res)] = {};
            receive(cqe.res);
        }
        if (!(cqe.flags & IORING_CQE_F_MORE)) accept();
    }

    void received(int fd, const io_uring_cqe& cqe) {
        if (cqe.res > 0) {
            const auto id = static_cast<std::uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
            const unsigned due = heads_[static_cast<unsigned>(fd)].count(
                {ring_.buffer(id), static_cast<std::size_t>(cqe.res)});
            ring_.recycle(id);
            if (due > 0) answer(fd, std::min(due, repeat_max));
        }
        if (cqe.flags & IORING_CQE_F_MORE) return;
        if (cqe.res > 0 || cqe.res == -ENOBUFS) return receive(fd);  // all buffers were recycled
        ::close(fd);
    }

    void answer(int fd, unsigned count) {
        io_uring_sqe& sqe = ring_.next();
        io_uring_prep_send(&sqe, fd, responses_.data(), count * hello_response.size(),
                           MSG_WAITALL | MSG_NOSIGNAL);
        sqe.flags |= IOSQE_CQE_SKIP_SUCCESS;
        sqe.user_data = label(tag::send, fd);
    }

    int listener_;
    bench_ring ring_{{.submission_count = 1024,
                      .completion_count = 8192,
                      .buffer_count = 1024,
                      .buffer_bytes = 4096}};
    std::vector<head_counter> heads_;  // by descriptor
    std::string responses_;
};

}  // namespace

int main(int argc, char** argv) {
    const auto options = parse_baseline_options(argc, argv);
    baseline_serve(options, [](int listener) { hello_server(listener).run(); });
}
