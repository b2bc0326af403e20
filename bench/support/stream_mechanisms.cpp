// bench/support/stream_mechanisms.cpp: echo and sink on liburing by the ways that newer kernels offer.
//
// For docs/design/0070: does a way to receive several buffers with one completion change the cost of
// a message? It takes the options of the baselines and --mechanism:
//   multishot    a completion and a buffer for each receive, as in stream_liburing; Linux 6.0
//   bundle       a completion for as many buffers as the socket fills (IORING_RECVSEND_BUNDLE), Linux 6.10
//   incremental  receives share a buffer until it is full (IOU_PBUF_RING_INC), Linux 6.12
// In all of them one request sends what has come since the last one, from where it was received.
#include "bench/support/baseline.hpp"
#include "bench/support/bench_ring.hpp"
#include "bench/support/stream_request.hpp"

#include <limits.h>
#include <sys/uio.h>

#include <vector>

namespace {

using namespace kevring::bench;

// Newer than the header of liburing 2.3 (include/uapi/linux/io_uring.h).
constexpr std::uint16_t receive_bundle = 1U << 4;   // IORING_RECVSEND_BUNDLE
constexpr std::uint32_t buffer_has_room = 1U << 4;  // IORING_CQE_F_BUF_MORE

struct piece {
    char* data;
    std::uint32_t bytes;
    std::uint16_t id;
};

struct connection {
    std::vector<piece> waiting;
    std::vector<piece> sending;
    std::vector<iovec> parts;
    msghdr message{};
    std::size_t bytes = 0;  // of the send in flight
    bool receiving = false;
    bool starved = false;
};

// The state of a buffer that several pieces share.
struct buffer_use {
    unsigned pieces = 0;  // that are not sent yet
    std::uint32_t offset = 0;
    bool full = true;
};

class mechanism_server {
public:
    mechanism_server(int listener, const baseline_options& options)
        : listener_(listener),
          options_(options),
          mechanism_(options.mechanism),
          count_(count_of_buffers(options.buffer_bytes)),
          ring_({.submission_count = 1024,
                 .completion_count = 8192,
                 .buffer_count = count_,
                 .buffer_bytes = options.buffer_bytes,
                 .incremental = mechanism_ == stream_mechanism::incremental}),
          connections_(baseline_fd_count_max),
          uses_(count_),
          order_(count_),
          place_(count_) {
        for (unsigned id = 0; id < count_; ++id) note_order(static_cast<std::uint16_t>(id));
        accept();
    }

    void run() {
        for (;;) {
            ring_.run_once([this](const io_uring_cqe& cqe) { complete(cqe); });
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
        io_uring_sqe& sqe = ring_.next();
        io_uring_prep_recv_multishot(&sqe, fd, nullptr, 0, 0);
        if (mechanism_ == stream_mechanism::bundle) sqe.ioprio |= receive_bundle;
        sqe.flags |= IOSQE_BUFFER_SELECT;
        sqe.buf_group = bench_ring::buffer_group;
        sqe.user_data = label(tag::receive, fd);
        connection_of(fd).receiving = true;
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

    // The order in which the kernel takes the buffers: a bundle names the first of them only.
    void note_order(std::uint16_t id) {
        order_[tail_ % count_] = id;
        place_[id] = tail_++;
    }

    void recycle(std::uint16_t id) {
        note_order(id);
        ring_.recycle(id);
        returned_ = true;
    }

    void released(std::uint16_t id) {
        buffer_use& use = uses_[id];
        if (--use.pieces == 0 && use.full) recycle(id);
    }

    void received(int fd, const io_uring_cqe& cqe) {
        connection& from = connection_of(fd);
        if (cqe.res > 0) {
            auto id = static_cast<std::uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
            auto left = static_cast<std::uint32_t>(cqe.res);
            if (mechanism_ == stream_mechanism::incremental) {
                buffer_use& use = uses_[id];
                from.waiting.push_back({ring_.buffer(id) + use.offset, left, id});
                ++use.pieces;
                use.full = (cqe.flags & buffer_has_room) == 0;
                use.offset = use.full ? 0 : use.offset + left;
            } else {
                unsigned place = place_[id];
                while (left > 0) {
                    id = order_[place++ % count_];
                    const std::uint32_t part = std::min(left, options_.buffer_bytes);
                    from.waiting.push_back({ring_.buffer(id), part, id});
                    ++uses_[id].pieces;
                    left -= part;
                }
            }
            if (options_.work == stream_work::sink) {
                for (const piece& each : from.waiting) released(each.id);
                from.waiting.clear();
            } else if (from.sending.empty()) {
                send(fd);
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

    void send(int fd) {
        connection& one = connection_of(fd);
        one.sending.swap(one.waiting);
        if (one.sending.size() > IOV_MAX) {
            one.waiting.assign(one.sending.begin() + IOV_MAX, one.sending.end());
            one.sending.resize(IOV_MAX);
        }
        one.parts.clear();
        one.bytes = 0;
        for (const piece& each : one.sending) {
            one.parts.push_back({each.data, each.bytes});
            one.bytes += each.bytes;
        }
        io_uring_sqe& sqe = ring_.next();
        if (one.parts.size() == 1) {
            io_uring_prep_send(&sqe, fd, one.parts[0].iov_base, one.parts[0].iov_len,
                               MSG_WAITALL | MSG_NOSIGNAL);
        } else {
            one.message.msg_iov = one.parts.data();
            one.message.msg_iovlen = one.parts.size();
            io_uring_prep_sendmsg(&sqe, fd, &one.message, MSG_WAITALL | MSG_NOSIGNAL);
        }
        sqe.user_data = label(tag::send, fd);
    }

    void sent(int fd, int result) {
        connection& one = connection_of(fd);
        const bool whole = result >= 0 && static_cast<std::size_t>(result) == one.bytes;
        if (!whole) shutdown(fd, SHUT_RDWR);  // ends the receives, and that closes
        for (const piece& each : one.sending) released(each.id);
        one.sending.clear();
        if (!whole) {
            for (const piece& each : one.waiting) released(each.id);
            one.waiting.clear();
        }
        if (!one.waiting.empty()) return send(fd);
        if (!one.receiving && !one.starved) close_when_done(fd);
    }

    void close_when_done(int fd) {
        if (connection_of(fd).sending.empty()) ::close(fd);
    }

    const int listener_;
    const baseline_options& options_;
    const stream_mechanism mechanism_;
    const unsigned count_;
    bench_ring ring_;
    std::vector<connection> connections_;  // by descriptor
    std::vector<buffer_use> uses_;         // by number of the buffer
    std::vector<std::uint16_t> order_;
    std::vector<unsigned> place_;
    unsigned tail_ = 0;
    std::vector<int> starved_;
    bool returned_ = false;
};

}  // namespace

int main(int argc, char** argv) {
    const auto options = parse_baseline_options(argc, argv);
    if (options.work != stream_work::echo && options.work != stream_work::sink)
        baseline_usage("stream_mechanisms has --work echo and sink");
    baseline_serve(options,
                   [&options](int listener) { mechanism_server(listener, options).run(); });
}
