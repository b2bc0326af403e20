// publish_to_workers.cpp: a loop publishes the events of one queue, and two worker threads without a
// loop take them from the lock-free ring.
//
//   publish_to_workers PATH     binds a UNIX datagram socket; SIGTERM ends it
#include <kevring/kevent/event_queue.hpp>
#include <kevring/kevent/event_ring.hpp>
#include <kevring/kevent/signal_stream.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <system_error>
#include <thread>
#include <utility>

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace {

using namespace std::chrono_literals;

struct totals {
    std::atomic<unsigned> messages{0};
    std::atomic<unsigned> expirations{0};
    std::atomic<unsigned> signals{0};
};

kevring::fd bind_socket(const char* path) {
    kevring::fd bound(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (::bind(bound.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        throw std::system_error(errno, std::system_category(), path);
    return bound;
}

void handle(const kevring::event& event, int socket, totals& seen) {
    if (event.type() == kevring::event_type::timer) seen.expirations += event.expirations();
    if (event.type() == kevring::event_type::signal) {
        ++seen.signals;
        std::puts("signal");
    }
    if (event.type() != kevring::event_type::socket) return;
    std::array<char, 256> text;
    // An edge: until nothing is left.
    while (true) {
        const ssize_t size = ::recv(socket, text.data(), text.size(), MSG_DONTWAIT);
        if (size < 0) return;
        ++seen.messages;
        std::printf("message %.*s\n", static_cast<int>(size), text.data());
    }
}

// A worker has no loop, and makes no system call while there are events.
void work(kevring::event_ring& events, int socket, totals& seen) {
    while (true) {
        ukevent record{};
        if (events.take_until({&record, 1}, kevring::event_ring::never) == 0) return;  // closed
        handle(kevring::event(record), socket, seen);
    }
}

kevring::task<void> wait_for_end() {
    auto signals = kevring::value_or_throw(kevring::signal_stream::open({SIGTERM}), "SIGTERM");
    auto received = co_await signals.next();
    kevring::value_or_throw(std::move(received), "SIGTERM");
}

kevring::task<void> publish(kevring::event_ring& events, int socket) {
    kevring::event_queue queue;
    const kevring::fd_ref file(socket);
    kevring::value_or_throw(queue.add(kevring::timer(5ms)), "timer");
    kevring::value_or_throw(queue.add(kevring::signal(SIGUSR1)), "signal");
    kevring::value_or_throw(
        queue.add(kevring::socket_events(file, kevring::socket_interest::receive)), "socket");
    auto body = [&](kevring::task_scope& publishing) -> kevring::task<void> {
        publishing.spawn(
            [](kevring::event_queue& source, kevring::event_ring& target) -> kevring::task<void> {
                const auto end = co_await source.publish_to(target);
                if (end.error() != std::errc::operation_canceled)
                    throw std::system_error(end.error(), "publish_to");
            }(queue, events));
        std::puts("ready");
        co_await wait_for_end();
        publishing.request_stop();
    };
    co_await kevring::in_scope(body);
}

}  // namespace

int main(int count, char** arguments) try {
    if (count != 2) {
        std::fputs("usage: publish_to_workers PATH\n", stderr);
        return 2;
    }
    std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
    const kevring::signal_set blocked{SIGTERM, SIGUSR1};
    kevring::value_or_throw(blocked.block(), "signals");  // first: the workers inherit it
    const kevring::fd socket = bind_socket(arguments[1]);
    kevring::event_ring events(256);
    totals seen;
    std::thread first([&] { work(events, socket.number(), seen); });
    std::thread second([&] { work(events, socket.number(), seen); });

    kevring::run(publish(events, socket.number()));
    events.close();
    first.join();
    second.join();
    std::printf("messages: %u, signals: %u, timer: %s\n", seen.messages.load(), seen.signals.load(),
                seen.expirations.load() != 0 ? "yes" : "no");
} catch (const std::exception& failure) {
    std::fprintf(stderr, "publish_to_workers: %s\n", failure.what());
    return 1;
}
