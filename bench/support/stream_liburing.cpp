// bench/support/stream_liburing.cpp: streams on liburing, as fast as possible: echo, sink, source
// and proxy.
//
// Multishot receive into provided buffers, and the bytes are sent from the buffer that received
// them, without a copy. A send must complete before its buffer is recycled, so sends have
// completions here (CQE_SKIP_SUCCESS would suppress them). One send per connection is in flight,
// because a second one could overtake a first that waits for buffer space; further buffers are
// queued by their numbers. A connection whose target takes nothing can hold many buffers: a server
// for the world needs a bound for each.
#include "bench/support/baseline.hpp"
#include "bench/support/bench_ring.hpp"
#include "bench/support/stream_request.hpp"

#include <vector>

namespace {

using namespace kevring::bench;

constexpr std::uint16_t no_buffer = 0xffff;

// One direction: its socket receives, and `target` sends; both are the same in an echo.
struct connection {
    int target = -1;
    std::uint16_t first = no_buffer;  // is being sent
    std::uint16_t last = no_buffer;
    bool receiving = false;
    bool starved = false;
    bool sending = false;  // of a source
    bool done = false;     // has received and sent everything
};

struct held_buffer {
    std::uint16_t next = no_buffer;
    std::uint32_t bytes = 0;
};

class stream_server {
public:
    stream_server(int listener, const baseline_options& options)
        : listener_(listener),
          options_(options),
          ring_({.submission_count = 1024,
                 .completion_count = 8192,
                 .buffer_count = count_of_buffers(options.buffer_bytes),
                 .buffer_bytes = options.buffer_bytes}),
          connections_(baseline_fd_count_max),
          held_(count_of_buffers(options.buffer_bytes)),
          message_(options.message_bytes, 's') {
        accept();
    }

    void run() {
        for (;;) {
            ring_.run_once([this](const io_uring_cqe& cqe) { complete(cqe); });
            // Only after a buffer was recycled, otherwise this would spin.
            if (returned_ && !starved_.empty()) {
                for (const int fd : starved_) {
                    connection_of(fd).starved = false;
                    receive(fd);
                }
                starved_.clear();
            }
            returned_ = false;
        }
    }

private:
    connection& connection_of(int fd) { return connections_[static_cast<unsigned>(fd)]; }

    void accept() { ring_.accept_all(listener_, label(tag::accept, listener_)); }

    void receive(int fd) {
        ring_.receive_all(fd, label(tag::receive, fd));
        connection_of(fd).receiving = true;
    }

    // `fd` received the bytes.
    void send(int fd, const char* bytes, std::size_t byte_count) {
        io_uring_sqe& sqe = ring_.next();
        io_uring_prep_send(&sqe, connection_of(fd).target, bytes, byte_count,
                           MSG_WAITALL | MSG_NOSIGNAL);
        sqe.user_data = label(tag::send, fd);
    }
    void send(int fd, std::uint16_t id) { send(fd, ring_.buffer(id), held_[id].bytes); }
    void produce(int fd) {
        send(fd, message_.data(), message_.size());
        connection_of(fd).sending = true;
    }

    void complete(const io_uring_cqe& cqe) {
        const int fd = static_cast<int>(static_cast<std::uint32_t>(cqe.user_data));
        switch (static_cast<tag>(cqe.user_data >> 32)) {
            case tag::receive: return received(fd, cqe);
            case tag::send: return sent(fd, cqe.res);
            case tag::accept: break;
        }
        if (cqe.res >= 0) accepted(cqe.res);
        if (!(cqe.flags & IORING_CQE_F_MORE)) accept();
    }

    void accepted(int fd) {
        int other = fd;
        if (options_.work == stream_work::proxy) {
            other = baseline_connect(options_);
            if (other < 0) {
                ::close(fd);
                return;
            }
            connection_of(other) = connection{.target = fd};
            receive(other);
        }
        connection_of(fd) = connection{.target = other};
        receive(fd);
        if (options_.work == stream_work::source) produce(fd);
    }

    void received(int fd, const io_uring_cqe& cqe) {
        connection& from = connection_of(fd);
        if (cqe.res > 0) {
            const auto id = static_cast<std::uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
            if (options_.work == stream_work::sink || options_.work == stream_work::source) {
                ring_.recycle(id);
                returned_ = true;
            } else {
                held_[id] = {no_buffer, static_cast<std::uint32_t>(cqe.res)};
                if (from.first == no_buffer) {
                    from.first = id;
                    send(fd, id);
                } else {
                    held_[from.last].next = id;
                }
                from.last = id;
            }
        }
        if (cqe.flags & IORING_CQE_F_MORE) return;
        from.receiving = false;
        if (cqe.res > 0) {
            receive(fd);
        } else if (cqe.res == -ENOBUFS) {
            from.starved = true;
            starved_.push_back(fd);
        } else {
            close_when_done(fd);
        }
    }

    void sent(int fd, int result) {
        connection& from = connection_of(fd);
        if (options_.work == stream_work::source) {
            from.sending = false;
            if (result == static_cast<int>(message_.size()) && from.receiving) return produce(fd);
            shutdown(fd, SHUT_RDWR);
            if (!from.receiving && !from.starved) close_when_done(fd);
            return;
        }
        const bool whole = result == static_cast<int>(held_[from.first].bytes);
        if (!whole) {  // ends the receives, and that closes
            shutdown(fd, SHUT_RDWR);
            if (from.target != fd) shutdown(from.target, SHUT_RDWR);
        }
        do {
            const std::uint16_t next = held_[from.first].next;
            ring_.recycle(from.first);
            returned_ = true;
            from.first = next;
        } while (!whole && from.first != no_buffer);
        if (from.first != no_buffer) return send(fd, from.first);
        from.last = no_buffer;
        if (!from.receiving && !from.starved) close_when_done(fd);
    }

    void close_when_done(int fd) {
        connection& from = connection_of(fd);
        if (from.first != no_buffer || from.sending) return;
        from.done = true;
        const int other = from.target;
        if (!connection_of(other).done) {
            shutdown(other, SHUT_WR);
            return;
        }
        ::close(fd);
        if (other != fd) ::close(other);
    }

    const int listener_;
    const baseline_options& options_;
    bench_ring ring_;
    std::vector<connection> connections_;  // by descriptor
    std::vector<held_buffer> held_;        // by number of the buffer
    std::vector<char> message_;            // of a source
    std::vector<int> starved_;
    bool returned_ = false;
};

}  // namespace

int main(int argc, char** argv) {
    const auto options = parse_baseline_options(argc, argv);
    baseline_serve(options, [&options](int listener) { stream_server(listener, options).run(); });
}
