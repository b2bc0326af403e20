// asio_outside.cpp: a program of Asio's that uses coroutines of this library: the io_context drives a ring,
// and an Asio coroutine awaits a task. Echoes lines in upper case. Try: build/examples/asio_outside &
// nc 127.0.0.1 7000
#include <kevring/kevring.hpp>
#include <kevring/net/asio/async_run.hpp>
#include <kevring/net/asio/stream.hpp>

#include <CLI/CLI.hpp>

#include <asio/buffer.hpp>
#include <asio/io_context.hpp>
#include <asio/read_until.hpp>
#include <asio/signal_set.hpp>
#include <asio/write.hpp>

#include <cctype>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>

namespace {

// A session in the style of Asio, on a socket of this library.
class session : public std::enable_shared_from_this<session> {
public:
    explicit session(kevring::socket client) : stream_(std::move(client)) {}
    void start() {
        asio::async_read_until(
            stream_, asio::dynamic_buffer(text_, 1024), '\n',
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
        asio::async_write(stream_, asio::buffer(answer_),
                          [self = shared_from_this()](asio::error_code error, std::size_t) {
                              if (!error) self->start();
                          });
    }

    kevring::asio_stream stream_;
    std::string text_;
    std::string answer_;
};

kevring::task<void> accept_all(kevring::listener listener) {
    while (true) {
        auto client = co_await listener.accept();
        if (!client) co_return;
        std::make_shared<session>(std::move(*client))->start();
    }
}

}  // namespace

int main(int argc, char** argv) try {
    CLI::App options("Echoes lines in upper case, in an io_context.");
    std::string address = "127.0.0.1:7000";
    options.add_option("--listen", address, "HOST:PORT or unix:PATH")->capture_default_str();
    CLI11_PARSE(options, argc, argv);

    const auto local = kevring::value_or_throw(kevring::endpoint::parse(address), address.c_str());
    asio::io_context context(1);
    kevring::ring loop;
    kevring::ring_in_io_context driven(context, loop);
    auto listener = kevring::value_or_throw(kevring::listener::bind(loop, local), "listen");
    kevring::async_run(loop, accept_all(std::move(listener)), [](const std::exception_ptr&) {});
    asio::signal_set signals(context, SIGTERM, SIGINT);
    signals.async_wait([&](const asio::error_code&, int) { driven.stop(); });
    context.run();
} catch (const std::exception& failure) {
    std::fprintf(stderr, "asio_outside: %s\n", failure.what());
    return 1;
}
