// bench/support/hello_epoll.cpp: a fixed response to every request, on edge-triggered epoll.
//
// The loop of a good epoll server: one wait, then recv(2) and send(2) for each ready connection.
// A client that lets its responses pile up past the socket's buffer is closed.
#include "bench/support/baseline.hpp"
#include "bench/support/hello_response.hpp"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <vector>

namespace {

using namespace kevring::bench;

void watch(int epoll, int fd) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
    event.data.fd = fd;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) baseline_failed("epoll_ctl");
}

// Until there is nothing more; false when the connection is to be closed.
bool answer(int fd, head_counter& heads) {
    std::array<char, 4096> bytes;
    for (;;) {
        const ssize_t count = recv(fd, bytes.data(), bytes.size(), 0);
        if (count < 0) return errno == EAGAIN;
        if (count == 0) return false;
        unsigned due = heads.count({bytes.data(), static_cast<std::size_t>(count)});
        for (; due > 0; --due) {
            const ssize_t sent =
                send(fd, hello_response.data(), hello_response.size(), MSG_NOSIGNAL);
            if (sent != static_cast<ssize_t>(hello_response.size())) return false;
        }
        // A short read emptied the socket; the next edge reports more bytes.
        if (count < static_cast<ssize_t>(bytes.size())) return true;
    }
}

[[noreturn]] void serve(int listener) {
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) baseline_failed("epoll_create1");
    epoll_event listening{};
    listening.events = EPOLLIN;
    listening.data.fd = listener;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &listening) != 0) baseline_failed("epoll_ctl");

    std::vector<head_counter> heads(baseline_fd_count_max);  // by descriptor
    std::array<epoll_event, 512> events;
    for (;;) {
        const int count = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), -1);
        for (int i = 0; i < count; ++i) {
            const int fd = events[static_cast<unsigned>(i)].data.fd;
            if (fd == listener) {
                const int peer = accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (peer < 0) continue;
                heads[static_cast<unsigned>(peer)] = {};
                watch(epoll, peer);
            } else if (!answer(fd, heads[static_cast<unsigned>(fd)])) {
                close(fd);
            }
        }
    }
}

}  // namespace

int main(int argc, char** argv) { baseline_serve(parse_baseline_options(argc, argv), serve); }
