// foreign_loop.cpp: a ring inside of an epoll loop that the program has already: an echo server,
// and lines on standard input, which ask how much was echoed. Try: build/examples/foreign_loop
#include <kevring/kevring.hpp>

#include <CLI/CLI.hpp>

#include <array>
#include <cstdio>
#include <exception>
#include <string>
#include <system_error>

#include <sys/epoll.h>
#include <unistd.h>

kevring::task<void> echo(kevring::socket client, std::size_t& echoed_bytes) {
    while (true) {
        const auto received = co_await client.receive();
        if (!received || received->empty()) co_return;
        const auto sent = co_await client.send(received->bytes());
        if (!sent) co_return;
        echoed_bytes += received->size();
    }
}

kevring::task<void> serve(kevring::listener listener, std::size_t& echoed_bytes) {
    auto accept_all = [&](kevring::task_scope& clients) -> kevring::task<void> {
        while (true) {
            auto client = co_await listener.accept();
            if (!client) co_return;
            clients.spawn(echo(std::move(*client), echoed_bytes));
        }
    };
    co_await kevring::in_scope(accept_all);
}

void watch(int epoll, int descriptor) {
    epoll_event interest{};
    interest.events = EPOLLIN;  // level-triggered
    interest.data.fd = descriptor;
    if (::epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &interest) != 0)
        throw std::system_error(errno, std::system_category(), "epoll_ctl");
}

int main(int argc, char** argv) try {
    CLI::App options("Echoes on a ring that an epoll loop drives.");
    std::string address = "127.0.0.1:7000";
    options.add_option("--listen", address, "HOST:PORT or unix:PATH")->capture_default_str();
    CLI11_PARSE(options, argc, argv);

    std::size_t echoed_bytes = 0;
    kevring::ring loop;
    const auto local = kevring::value_or_throw(kevring::endpoint::parse(address), address.c_str());
    kevring::spawn(
        loop,
        serve(kevring::value_or_throw(kevring::listener::bind(loop, local), "bind"), echoed_bytes));

    const kevring::fd epoll(::epoll_create1(EPOLL_CLOEXEC));
    watch(epoll.number(), STDIN_FILENO);
    watch(epoll.number(), loop.native_handle());
    while (true) {
        std::array<epoll_event, 16> events{};
        const int count =
            ::epoll_wait(epoll.number(), events.data(), events.size(), loop.poll_timeout_ms());
        if (count < 0 && errno != EINTR)
            throw std::system_error(errno, std::system_category(), "epoll_wait");
        for (int i = 0; i < count; ++i) {
            if (events[static_cast<std::size_t>(i)].data.fd != STDIN_FILENO) continue;
            std::array<char, 256> line{};
            if (::read(STDIN_FILENO, line.data(), line.size()) <= 0) return 0;
            std::printf("%zu bytes echoed\n", echoed_bytes);
            std::fflush(stdout);
        }
        loop.run_once(false);  // after each wait: for completions, timers and posted work alike
    }
} catch (const std::exception& failure) {
    std::fprintf(stderr, "foreign_loop: %s\n", failure.what());
    return 1;
}
