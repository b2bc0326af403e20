// statsd.cpp: counts what programs report by UDP, and prints the totals at its end.
//
//   statsd [--listen HOST:PORT]
//
// Each line of a datagram is NAME:NUMBER|c, as statsd(8) clients send it. SIGINT or SIGTERM prints the
// totals, one line each: NAME TOTAL.
#include <kevring/kevring.hpp>

#include <CLI/CLI.hpp>

#include <charconv>
#include <chrono>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include <signal.h>

namespace {

using namespace std::chrono_literals;

struct totals {
    std::map<std::string, std::int64_t, std::less<>> counters;
    std::uint64_t bad_lines = 0;
};

bool add_line(std::string_view line, totals& all) {
    const std::size_t colon = line.find(':');
    if (colon == 0 || colon == std::string_view::npos) return false;
    const std::string_view value = line.substr(colon + 1);
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || value.substr(static_cast<std::size_t>(end - value.data())) != "|c")
        return false;
    const std::string_view name = line.substr(0, colon);
    auto found = all.counters.find(name);
    if (found == all.counters.end()) found = all.counters.emplace(name, 0).first;
    // Unsigned: a counter that a peer drives beyond its range starts again.
    found->second = static_cast<std::int64_t>(static_cast<std::uint64_t>(found->second) +
                                              static_cast<std::uint64_t>(number));
    return true;
}

void add_datagram(std::string_view text, totals& all) {
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        const std::string_view line = text.substr(0, end);
        if (!line.empty() && !add_line(line, all)) ++all.bad_lines;
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
}

void add(const kevring::pooled_datagram& message, totals& all) {
    const std::span<const std::byte> bytes = message.payload;
    add_datagram({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, all);
}

kevring::task<void> count(kevring::datagram_socket& socket, totals& all) {
    while (true) {
        const auto received = co_await socket.receive_from();
        if (received)
            add(*received, all);
        else if (received.error() == std::errc::operation_canceled)
            co_return;
    }
}

// Counts what has arrived before the end.
kevring::task<void> count_rest(kevring::datagram_socket& socket, totals& all) {
    while (true) {
        const auto received = co_await kevring::with_timeout(socket.receive_from(), 10ms);
        if (!received) co_return;
        add(*received, all);
    }
}

kevring::task<void> serve(kevring::endpoint local, totals& all) {
    auto signals =
        kevring::value_or_throw(kevring::signal_stream::open({SIGINT, SIGTERM}), "signals");
    auto socket = kevring::value_or_throw(kevring::datagram_socket::bind(local), "bind");
    const auto bound = kevring::value_or_throw(socket.local(), "local");
    std::printf("listening on %s\n", bound.to_string().c_str());
    std::fflush(stdout);
    auto body = [&](kevring::task_scope& tasks) -> kevring::task<void> {
        tasks.spawn(count(socket, all));
        static_cast<void>(co_await signals.next());
        tasks.request_stop();
    };
    co_await kevring::in_scope(body);
    co_await count_rest(socket, all);
}

}  // namespace

int main(int argc, char** argv) try {
    CLI::App options("Counts what programs report by UDP.");
    std::string address = "127.0.0.1:8125";
    options.add_option("--listen", address, "HOST:PORT")->capture_default_str();
    CLI11_PARSE(options, argc, argv);

    const auto local = kevring::value_or_throw(kevring::endpoint::parse(address), address.c_str());
    totals all;
    kevring::run(serve(local, all));
    for (const auto& [name, total] : all.counters)
        std::printf("%s %" PRId64 "\n", name.c_str(), total);
    if (all.bad_lines > 0) std::printf("bad lines: %" PRIu64 "\n", all.bad_lines);
} catch (const std::exception& failure) {
    std::fprintf(stderr, "statsd: %s\n", failure.what());
    return 1;
}
