// bench/examples/asio/pipeline.cpp: examples/pipeline.cpp in Asio.
#include <asio.hpp>
#include <asio/experimental/concurrent_channel.hpp>

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <thread>

namespace {

using asio::awaitable;
using asio::redirect_error;
using asio::use_awaitable;

constexpr std::int64_t waiting_count_max = 4;

using channel = asio::experimental::concurrent_channel<void(asio::error_code, std::uint64_t)>;

// The channel does not tell how many numbers wait in it. A receiver may count before the sender.
struct numbers {
    explicit numbers(asio::io_context& context) : items(context, waiting_count_max) {}
    channel items;
    std::atomic<std::int64_t> waiting_count{0};
};

awaitable<void> make(numbers& target, std::uint64_t last) {
    for (std::uint64_t i = 1; i <= last; ++i) {
        const asio::error_code none;
        co_await target.items.async_send(none, i,
                                         use_awaitable);  // waits while the channel is full
        ++target.waiting_count;
    }
    target.items.close();
}

awaitable<void> sum(numbers& source) {
    std::uint64_t total = 0;
    std::int64_t waiting_count_most = 0;
    asio::error_code error;
    while (true) {
        waiting_count_most = std::max(waiting_count_most, source.waiting_count.load());
        const std::uint64_t next =
            co_await source.items.async_receive(redirect_error(use_awaitable, error));
        if (error) break;  // closed and empty
        --source.waiting_count;
        total += next;
    }
    std::printf("%" PRIu64 "\n", total);
    std::printf("%s\n", waiting_count_most <= waiting_count_max ? "bounded" : "unbounded");
}

void rethrow(std::exception_ptr failure) {
    if (failure) std::rethrow_exception(failure);
}

}  // namespace

int main(int argc, char** argv) try {
    const std::uint64_t last = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1000;
    asio::io_context first(1);
    asio::io_context second(1);
    numbers items(second);
    asio::co_spawn(first, make(items, last), rethrow);
    asio::co_spawn(second, sum(items), rethrow);
    std::exception_ptr failure;
    std::thread maker([&] {
        try {
            first.run();
        } catch (...) {
            failure = std::current_exception();
            items.items.close();
        }
    });
    second.run();
    maker.join();
    rethrow(failure);
} catch (const std::exception& failure) {
    std::fprintf(stderr, "pipeline: %s\n", failure.what());
    return 1;
}
