// chat.cpp: lines from each client to all others; a client that reads too slowly loses lines, and
// delays no other client. Try: build/examples/chat & nc 127.0.0.1 7000
#include <kevring/kevring.hpp>

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <list>
#include <memory>
#include <string>

namespace {

using line = std::shared_ptr<const std::string>;

struct member {
    explicit member(std::size_t line_count_max) : lines(line_count_max) {}
    kevring::channel<line> lines;
    std::size_t lost_count = 0;
};

class room {
public:
    explicit room(std::size_t line_count_max) noexcept : line_count_max_(line_count_max) {}

    kevring::task<void> serve(kevring::socket client) {
        const auto self = members_.emplace(members_.end(), line_count_max_);
        auto talk = [&](kevring::task_scope& tasks) -> kevring::task<void> {
            tasks.spawn(send_lines(client, *self));
            kevring::byte_reader reader(client);
            while (true) {
                const auto text = co_await reader.read_line(1024);
                if (!text) break;
                send_to_others(&*self, std::make_shared<std::string>(std::string(*text) + '\n'));
            }
            self->lines.close();  // the lines that are queued are still sent
        };
        std::exception_ptr failure;
        try {
            co_await kevring::in_scope(talk);
        } catch (...) {
            failure = std::current_exception();
        }
        members_.erase(self);
        if (failure) std::rethrow_exception(failure);
        co_await client.close();
    }

private:
    static kevring::task<void> send_lines(kevring::socket& client, member& self) {
        while (true) {
            const auto next = co_await self.lines.receive();
            if (!next) co_return;
            std::string text = **next;
            if (self.lost_count != 0) {
                text.insert(0, "(" + std::to_string(self.lost_count) + " lines lost)\n");
                self.lost_count = 0;
            }
            const auto sent =
                co_await kevring::with_timeout(client.send(text), std::chrono::seconds(30));
            if (!sent) throw std::system_error(sent.error(), "send");
        }
    }
    void send_to_others(const member* sender, const line& text) {
        for (member& each : members_)
            if (&each != sender && !each.lines.try_send(line(text))) ++each.lost_count;
    }

    std::size_t line_count_max_;
    std::list<member> members_;
};

kevring::task<void> serve(kevring::endpoint local, std::size_t line_count_max) {
    auto listener = kevring::value_or_throw(kevring::listener::bind(local), "listen");
    room everyone(line_count_max);
    auto accept_all = [&](kevring::supervisor_scope& clients) -> kevring::task<void> {
        while (true) {
            auto client = co_await listener.accept();
            if (!client) co_return;
            clients.spawn(everyone.serve(std::move(*client)), "client");
        }
    };
    co_await kevring::in_scope(accept_all);
}

}  // namespace

int main(int argc, char** argv) try {
    CLI::App options("Sends the lines of each client to all others.");
    std::string address = "127.0.0.1:7000";
    std::size_t line_count_max = 64;
    options.add_option("--listen", address, "HOST:PORT or unix:PATH")->capture_default_str();
    options.add_option("--lines", line_count_max, "lines that wait for a client that reads slowly")
        ->capture_default_str();
    CLI11_PARSE(options, argc, argv);

    const auto local = kevring::value_or_throw(kevring::endpoint::parse(address), address.c_str());
    kevring::run(serve(local, line_count_max));
} catch (const std::exception& failure) {
    std::fprintf(stderr, "chat: %s\n", failure.what());
    return 1;
}
