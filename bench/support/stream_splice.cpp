// bench/support/stream_splice.cpp: a proxy on epoll that moves bytes by splice(2) through pipes.
//
// For docs/design/0070: is a proxy without a copy to user memory cheaper than one with recv(2) and
// send(2), as stream_epoll has? It takes the options of the baselines; --buffer-bytes is the size of
// the pipe of each direction. splice(2) is called directly: the kernel gives every IORING_OP_SPLICE to
// a worker.
#include "bench/support/baseline.hpp"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <utility>
#include <vector>

namespace {

using namespace kevring::bench;

// From the socket that is its index to `target`.
struct direction {
    int target = -1;
    int pipe_read = -1;
    int pipe_write = -1;
    std::size_t piped_bytes = 0;
    bool ended = false;
};

class splice_proxy {
public:
    splice_proxy(int listener, const baseline_options& options)
        : listener_(listener), options_(options), directions_(baseline_fd_count_max) {
        watch(listener, EPOLLIN);
    }

    void run() {
        std::array<epoll_event, 256> events;
        for (;;) {
            const int count =
                epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
            for (int index = 0; index < count; ++index) {
                const int fd = events[static_cast<unsigned>(index)].data.fd;
                if (fd == listener_) {
                    accept();
                    continue;
                }
                const auto kinds = events[static_cast<unsigned>(index)].events;
                if (direction_of(fd).target >= 0 && (kinds & EPOLLOUT) != 0)
                    pass_on(direction_of(fd).target);
                if (direction_of(fd).target >= 0 && (kinds & ~EPOLLOUT) != 0) pass_on(fd);
            }
        }
    }

private:
    direction& direction_of(int fd) { return directions_[static_cast<unsigned>(fd)]; }

    void watch(int fd, std::uint32_t kinds) {
        epoll_event event{};
        event.events = kinds;
        event.data.fd = fd;
        epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
    }

    void accept() {
        const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        const int backend = baseline_connect(options_, O_NONBLOCK);
        if (backend < 0) {
            ::close(fd);
            return;
        }
        open(fd, backend);
        open(backend, fd);
        for (const int one : {fd, backend}) watch(one, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    }

    void open(int fd, int target) {
        std::array<int, 2> ends{-1, -1};
        if (pipe2(ends.data(), O_NONBLOCK | O_CLOEXEC) != 0) baseline_failed("pipe2");
        fcntl(ends[1], F_SETPIPE_SZ, static_cast<int>(options_.buffer_bytes));
        direction_of(fd) = {target, ends[0], ends[1], 0, false};
    }

    void close(int fd) {
        for (const int one : {fd, direction_of(fd).target}) {
            ::close(direction_of(one).pipe_read);
            ::close(direction_of(one).pipe_write);
            direction_of(one) = {};
            ::close(one);
        }
    }

    // Until there is nothing to read, or no room to write to.
    void pass_on(int fd) {
        direction& from = direction_of(fd);
        constexpr unsigned flags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
        for (;;) {
            if (from.piped_bytes == 0) {
                if (from.ended) return;
                const ssize_t count =
                    splice(fd, nullptr, from.pipe_write, nullptr, 1U << 20, flags);
                if (count < 0 && errno == EAGAIN) return;
                if (count < 0) return close(fd);
                if (count == 0) {
                    from.ended = true;
                    if (direction_of(from.target).ended) return close(fd);
                    shutdown(from.target, SHUT_WR);
                    return;
                }
                from.piped_bytes = static_cast<std::size_t>(count);
            }
            const ssize_t count =
                splice(from.pipe_read, nullptr, from.target, nullptr, from.piped_bytes, flags);
            if (count < 0 && errno == EAGAIN) return;
            if (count <= 0) return close(fd);
            from.piped_bytes -= static_cast<std::size_t>(count);
        }
    }

    const int listener_;
    const baseline_options& options_;
    const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
    std::vector<direction> directions_;  // by descriptor
};

}  // namespace

int main(int argc, char** argv) {
    const auto options = parse_baseline_options(argc, argv);
    if (options.work != stream_work::proxy) baseline_usage("stream_splice has --work proxy");
    baseline_serve(options, [&options](int listener) { splice_proxy(listener, options).run(); });
}
