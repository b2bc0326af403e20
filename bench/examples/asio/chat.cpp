// bench/examples/asio/chat.cpp: examples/chat.cpp in Asio.
#include "bench/examples/asio/address.hpp"

#include <asio.hpp>

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <deque>
#include <exception>
#include <list>
#include <memory>
#include <string>
#include <utility>

namespace {

using asio::awaitable;
using asio::redirect_error;
using asio::use_awaitable;
using asio::ip::tcp;
using line = std::shared_ptr<const std::string>;

// Both coroutines of a client own it; the first that ends closes the socket for the other.
struct member {
    explicit member(tcp::socket connected)
        : client(std::move(connected)),
          changed(client.get_executor(), asio::steady_timer::time_point::max()) {}
    tcp::socket client;
    asio::steady_timer changed;  // is cancelled when a line arrives, or the end
    std::deque<line> lines;
    std::size_t lost_count = 0;
    bool ending = false;
};

class room {
public:
    explicit room(std::size_t line_count_max) noexcept : line_count_max_(line_count_max) {}

    awaitable<void> serve(tcp::socket client) {
        const auto self = std::make_shared<member>(std::move(client));
        members_.push_back(self);
        asio::co_spawn(self->client.get_executor(), send_lines(self), asio::detached);
        asio::error_code error;
        std::string received;
        while (true) {
            const std::size_t count =
                co_await asio::async_read_until(self->client, asio::dynamic_buffer(received, 1024),
                                                '\n', redirect_error(use_awaitable, error));
            if (error) break;
            send_to_others(self, std::make_shared<std::string>(received.substr(0, count)));
            received.erase(0, count);
        }
        self->ending = true;  // the lines that are queued are still sent
        self->changed.cancel();
        members_.remove(self);
    }

private:
    static awaitable<void> send_lines(std::shared_ptr<member> self) {
        asio::error_code error;
        while (true) {
            if (self->lines.empty()) {
                if (self->ending) break;
                co_await self->changed.async_wait(redirect_error(use_awaitable, error));
                continue;
            }
            std::string text = *self->lines.front();
            self->lines.pop_front();
            if (self->lost_count != 0) {
                text.insert(0, "(" + std::to_string(self->lost_count) + " lines lost)\n");
                self->lost_count = 0;
            }
            asio::steady_timer limit(self->client.get_executor(), std::chrono::seconds(30));
            limit.async_wait([self](const asio::error_code& stopped) {
                if (!stopped) self->client.cancel();
            });
            co_await asio::async_write(self->client, asio::buffer(text),
                                       redirect_error(use_awaitable, error));
            if (error) break;
        }
        self->client.shutdown(tcp::socket::shutdown_both, error);
    }
    void send_to_others(const std::shared_ptr<member>& sender, const line& text) {
        for (const auto& each : members_) {
            if (each == sender) continue;
            if (each->lines.size() >= line_count_max_) {
                ++each->lost_count;
            } else {
                each->lines.push_back(text);
                each->changed.cancel();
            }
        }
    }

    std::size_t line_count_max_;
    std::list<std::shared_ptr<member>> members_;
};

awaitable<void> serve(tcp::endpoint local, room& everyone) {
    const auto executor = co_await asio::this_coro::executor;
    tcp::acceptor acceptor(executor, local);
    while (true) {
        tcp::socket client = co_await acceptor.async_accept(use_awaitable);
        asio::co_spawn(executor, everyone.serve(std::move(client)), [](std::exception_ptr failure) {
            try {
                if (failure) std::rethrow_exception(failure);
            } catch (const std::exception& each) {
                std::fprintf(stderr, "chat: %s\n", each.what());
            }
        });
    }
}

}  // namespace

int main(int argc, char** argv) try {
    CLI::App options("Sends the lines of each client to all others.");
    std::string address = "127.0.0.1:7000";
    std::size_t line_count_max = 64;
    options.add_option("--listen", address, "HOST:PORT")->capture_default_str();
    options.add_option("--lines", line_count_max, "lines that wait for a client that reads slowly")
        ->capture_default_str();
    CLI11_PARSE(options, argc, argv);

    asio::io_context context(1);
    room everyone(line_count_max);
    asio::co_spawn(context, serve(parse_address(address), everyone),
                   [](std::exception_ptr failure) {
                       if (failure) std::rethrow_exception(failure);
                   });
    context.run();
} catch (const std::exception& failure) {
    std::fprintf(stderr, "chat: %s\n", failure.what());
    return 1;
}
