// hello.cpp: answers every HTTP request with the same 150 bytes, for measuring the way there.
#include <kevring/kevring.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

namespace {

constexpr std::string_view response =
    "HTTP/1.1 200 OK\r\n"
    "Server: kevring-hello\r\n"
    "Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n"
    "Content-Type: text/plain\r\n"
    "Content-Length: 13\r\n"
    "X-Fill: ab\r\n"
    "\r\n"
    "Hello, world\n";
static_assert(response.size() == 150);

// Counts the ends of request heads in a stream that may be cut anywhere.
class head_counter {
public:
    std::size_t feed(std::string_view bytes) noexcept {
        std::size_t count = 0;
        for (const char c : bytes) {
            matched_ = c == end[matched_] ? matched_ + 1 : (c == '\r' ? 1 : 0);
            if (matched_ == end.size()) {
                matched_ = 0;
                ++count;
            }
        }
        return count;
    }

private:
    static constexpr std::string_view end = "\r\n\r\n";
    std::size_t matched_ = 0;
};

constexpr std::size_t batch_max = 64;  // pipelined requests answered by one send

std::string_view responses() {
    static const std::string many = [] {
        std::string text;
        for (std::size_t i = 0; i < batch_max; ++i) text += response;
        return text;
    }();
    return many;
}

kevring::task<void> answer(kevring::socket client) {
    head_counter heads;
    while (true) {
        const auto got = co_await client.receive();
        if (!got || got->empty()) co_return;
        const std::string_view text(reinterpret_cast<const char*>(got->data()), got->size());
        for (std::size_t owed = heads.feed(text); owed > 0;) {
            const std::size_t batch = std::min(owed, batch_max);
            const auto sent = co_await client.send(responses().substr(0, batch * response.size()));
            if (!sent) co_return;
            owed -= batch;
        }
    }
}

kevring::task<void> serve(kevring::endpoint local) {
    auto bound = kevring::listener::bind(local, {.reuse_port = true});
    auto listener = kevring::value_or_throw(std::move(bound), "listen");
    auto accept_all = [&](kevring::supervisor_scope& clients) -> kevring::task<void> {
        while (true) {
            auto client = co_await listener.accept();
            if (!client) co_return;
            clients.spawn(answer(std::move(*client)));
        }
    };
    co_await kevring::in_scope(accept_all);
}

}  // namespace

int main(int argc, char** argv) try {
    CLI::App options("Answers every HTTP request with the same 150 bytes.");
    std::string address = "127.0.0.1:7080";
    unsigned thread_count = 1;
    options.add_option("--listen", address, "HOST:PORT or unix:PATH")->capture_default_str();
    options.add_option("--threads", thread_count, "one loop on each")->capture_default_str();
    CLI11_PARSE(options, argc, argv);

    const auto local = kevring::value_or_throw(kevring::endpoint::parse(address), address.c_str());
    kevring::run(thread_count, [&](unsigned) { return serve(local); });
} catch (const std::exception& failure) {
    std::fprintf(stderr, "hello: %s\n", failure.what());
    return 1;
}
