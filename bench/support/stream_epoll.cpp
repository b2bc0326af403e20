// bench/support/stream_epoll.cpp: streams on edge-triggered epoll: echo, sink, source and proxy.
//
// The loop of a good epoll server: one wait, then recv(2) and send(2) for each ready connection.
// All connections share one receive buffer, which stays in the processor's caches. Bytes that a
// socket does not take are copied, and sent when it has room; until then nothing is received for
// it.
#include "bench/support/baseline.hpp"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <vector>

namespace {

using namespace kevring::bench;

// One connection does this many receives or sends before the others are served.
constexpr unsigned steps_max = 16;

struct connection {
    int target = -1;            // gets what is received: this connection itself, or the other side
    std::vector<char> rest;     // that `target` did not take
    std::size_t rest_sent = 0;  // ... at first, and has taken since; of a source: of its message
    bool open = false;
    bool ended = false;   // the peer has ended its sending side
    bool listed = false;  // is in `again_`
};

class stream_server {
public:
    stream_server(int listener, const baseline_options& options)
        : listener_(listener),
          options_(options),
          bytes_(std::max(options.buffer_bytes, options.message_bytes), 's'),
          connections_(baseline_fd_count_max) {
        if (epoll_ < 0) baseline_failed("epoll_create1");
        watch(listener, EPOLLIN);
    }

    [[noreturn]] void run() {
        std::array<epoll_event, 512> events;
        std::vector<int> again;
        for (;;) {
            const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()),
                                         again_.empty() ? -1 : 0);
            again.clear();
            again.swap(again_);
            for (int i = 0; i < count; ++i) {
                const epoll_event& event = events[static_cast<unsigned>(i)];
                if (event.data.fd == listener_)
                    accept();
                else
                    ready(event.data.fd, event.events);
            }
            for (const int fd : again) {
                connection& one = connection_of(fd);
                if (!one.open || !one.listed) continue;
                one.listed = false;
                step(fd, true);
            }
        }
    }

private:
    connection& connection_of(int fd) { return connections_[static_cast<unsigned>(fd)]; }

    void watch(int fd, std::uint32_t kinds) {
        epoll_event event{};
        event.events = kinds;
        event.data.fd = fd;
        if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) baseline_failed("epoll_ctl");
    }

    void accept() {
        const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        int other = fd;
        if (options_.work == stream_work::proxy) {
            other = baseline_connect(options_, O_NONBLOCK);
            if (other < 0) {
                ::close(fd);
                return;
            }
            open(other, fd);
        }
        open(fd, other);
    }

    void open(int fd, int target) {
        connection& fresh = connection_of(fd);
        fresh.target = target;
        fresh.rest.clear();
        fresh.rest_sent = 0;
        fresh.ended = fresh.listed = false;
        fresh.open = true;
        watch(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    }

    void ready(int fd, std::uint32_t kinds) {
        if (!connection_of(fd).open) return;
        if (options_.work == stream_work::source) {
            if ((kinds & (EPOLLRDHUP | EPOLLERR)) != 0) return close(fd);
            return step(fd, true);
        }
        if ((kinds & EPOLLOUT) != 0) {
            const int source = connection_of(fd).target;  // both point to each other
            if (!connection_of(source).rest.empty() && flush(source)) step(source, true);
        }
        if ((kinds & (EPOLLIN | EPOLLRDHUP | EPOLLERR)) != 0 && connection_of(fd).open)
            step(fd, (kinds & EPOLLRDHUP) != 0);
    }

    // Continues with a connection; `to_the_end`: a short read does not mean that nothing is left.
    void step(int fd, bool to_the_end) {
        for (unsigned count = 0; count < steps_max; ++count) {
            const bool more =
                options_.work == stream_work::source ? produce(fd) : pass_on(fd, to_the_end);
            if (!more) return;
        }
        connection& one = connection_of(fd);
        if (!one.listed) again_.push_back(fd);
        one.listed = true;
    }

    bool produce(int fd) {
        connection& one = connection_of(fd);
        const ssize_t sent = send(fd, bytes_.data() + one.rest_sent,
                                  options_.message_bytes - one.rest_sent, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) close(fd);
            return false;
        }
        one.rest_sent = (one.rest_sent + static_cast<std::size_t>(sent)) % options_.message_bytes;
        return one.rest_sent == 0;  // else there is no room
    }

    bool pass_on(int fd, bool to_the_end) {
        connection& from = connection_of(fd);
        if (!from.rest.empty() || from.ended) return false;
        const ssize_t count = recv(fd, bytes_.data(), options_.buffer_bytes, 0);
        if (count < 0) {
            if (errno != EAGAIN) close(fd);
            return false;
        }
        if (count == 0) {
            end(fd);
            return false;
        }
        const auto byte_count = static_cast<std::size_t>(count);
        if (options_.work != stream_work::sink) {
            ssize_t sent = send(from.target, bytes_.data(), byte_count, MSG_NOSIGNAL);
            if (sent < 0) {
                if (errno != EAGAIN) {
                    close(fd);
                    return false;
                }
                sent = 0;
            }
            if (sent < count) {
                from.rest.assign(bytes_.data() + sent, bytes_.data() + count);
                from.rest_sent = 0;
                return false;
            }
        }
        // A short read emptied the socket; the next edge reports more bytes.
        return byte_count == options_.buffer_bytes || to_the_end;
    }

    // True when `target` has taken all that was left.
    bool flush(int fd) {
        connection& from = connection_of(fd);
        const ssize_t sent = send(from.target, from.rest.data() + from.rest_sent,
                                  from.rest.size() - from.rest_sent, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) close(fd);
            return false;
        }
        from.rest_sent += static_cast<std::size_t>(sent);
        if (from.rest_sent < from.rest.size()) return false;
        from.rest.clear();
        return true;
    }

    void end(int fd) {
        connection& from = connection_of(fd);
        from.ended = true;
        if (connection_of(from.target).ended) return close(fd);
        shutdown(from.target, SHUT_WR);
    }

    void close(int fd) {
        const int other = connection_of(fd).target;
        for (const int one : {fd, other}) {
            if (!connection_of(one).open) continue;
            connection_of(one).open = false;
            ::close(one);
        }
    }

    const int listener_;
    const baseline_options& options_;
    const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
    std::vector<char> bytes_;
    std::vector<connection> connections_;  // by descriptor
    std::vector<int> again_;               // that have more to do
};

}  // namespace

int main(int argc, char** argv) {
    const auto options = parse_baseline_options(argc, argv);
    baseline_serve(options, [&options](int listener) { stream_server(listener, options).run(); });
}
