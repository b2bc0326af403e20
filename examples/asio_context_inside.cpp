// asio_context_inside.cpp: a server that was written for an io_context, and a ring that runs it: both
// work on one thread. Echoes lines in upper case; SIGUSR1 prints their number, SIGTERM ends the program.
// Try: build/examples/asio_context_inside & nc 127.0.0.1 7000
#include <kevring/kevring.hpp>
#include <kevring/net/asio/io_context_in_ring.hpp>

#include <CLI/CLI.hpp>

#include <asio/buffer.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read_until.hpp>
#include <asio/write.hpp>

#include <cctype>
#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

#include <signal.h>

namespace {

// The server, which knows Asio only.

class session : public std::enable_shared_from_this<session> {
public:
    session(asio::ip::tcp::socket client, std::size_t& line_count)
        : client_(std::move(client)), line_count_(line_count) {}
    void start() {
        asio::async_read_until(
            client_, asio::dynamic_buffer(text_, 1024), '\n',
            [self = shared_from_this()](asio::error_code error, std::size_t count) {
                if (!error) self->answer(count);
            });
    }

private:
    void answer(std::size_t count) {
        answer_ = text_.substr(0, count);
        text_.erase(0, count);
        for (char& each : answer_)
            each = static_cast<char>(std::toupper(static_cast<unsigned char>(each)));
        ++line_count_;
        asio::async_write(client_, asio::buffer(answer_),
                          [self = shared_from_this()](asio::error_code error, std::size_t) {
                              if (!error) self->start();
                          });
    }

    asio::ip::tcp::socket client_;
    std::size_t& line_count_;
    std::string text_;
    std::string answer_;
};

class server {
public:
    server(asio::io_context& context, const asio::ip::tcp::endpoint& local)
        : acceptor_(context, local) {
        accept_next();
    }
    std::size_t line_count() const { return line_count_; }

private:
    void accept_next() {
        acceptor_.async_accept([this](asio::error_code error, asio::ip::tcp::socket client) {
            if (error) return;
            std::make_shared<session>(std::move(client), line_count_)->start();
            accept_next();
        });
    }

    asio::ip::tcp::acceptor acceptor_;
    std::size_t line_count_ = 0;
};

// The program, whose loop is a ring.

kevring::task<void> serve(asio::ip::tcp::endpoint local) {
    const kevring::signal_set wanted{SIGINT, SIGTERM, SIGUSR1};
    auto signals = kevring::value_or_throw(kevring::signal_stream::open(wanted), "signals");
    asio::io_context context(1);
    server lines(context, local);
    kevring::io_context_in_ring driven(*kevring::ring::current(), context);
    while (true) {
        const auto signal = co_await signals.next();
        if (!signal || signal->number != SIGUSR1) co_return;
        std::printf("%zu lines\n", lines.line_count());  // on the thread of the handlers
        std::fflush(stdout);
    }
}

}  // namespace

int main(int argc, char** argv) try {
    CLI::App options("Echoes lines in upper case, by an io_context on a ring.");
    std::string address = "127.0.0.1:7000";
    options.add_option("--listen", address, "HOST:PORT")->capture_default_str();
    CLI11_PARSE(options, argc, argv);

    const auto local = kevring::value_or_throw(kevring::endpoint::parse(address), address.c_str());
    const auto tcp = kevring::to_asio(local);
    if (!tcp) throw std::invalid_argument(address + ": not an IP address and port");
    kevring::run(serve(*tcp));
} catch (const std::exception& failure) {
    std::fprintf(stderr, "asio_context_inside: %s\n", failure.what());
    return 1;
}
