// operations.cpp: fixed operations whose instructions are counted, apart from the kernel's.
//
//   operations NAME COUNT [waste]
//
// Performs COUNT operations one after another on one thread, with one completion for each call of the kernel, so that
// no batch depends on time. bench/instructions/run executes it under callgrind with two counts, and compares the
// difference with a baseline. `waste` adds a known cost to each operation, for the self-test of that script.
#include "paced_kernel.hpp"

#include <kevring/kevring.hpp>

#ifdef OPERATIONS_HAVE_HTTPD
#include "examples/httpd/serving/worker.hpp"
#endif

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

bool is_wasteful = false;

[[gnu::noinline]] void waste_instructions() {
    static volatile unsigned sink = 0;
    for (unsigned i = 0; i < 1000; ++i) sink = sink + i;
}

void end_operation() {
    if (is_wasteful) waste_instructions();
}

void require(bool condition, const char* text) {
    if (!condition) throw std::runtime_error(text);
}

// A message of 64 bytes to the peer and back; both ends are tasks of one loop.
kevring::task<void> answer(kevring::socket& peer) {
    while (true) {
        const auto received = co_await peer.receive();
        if (!received || received->empty()) co_return;
        const auto sent = co_await peer.send(received->bytes());
        if (!sent) co_return;
    }
}

kevring::task<void> echo(unsigned count) {
    kevring::ring& loop = *kevring::ring::current();
    int ends[2];
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
    kevring::socket local(loop, kevring::fd(ends[0]));
    kevring::socket peer(loop, kevring::fd(ends[1]));
    auto body = [&](kevring::task_scope& tasks) -> kevring::task<void> {
        tasks.spawn(answer(peer));
        const std::string message(64, 'x');
        for (unsigned i = 0; i < count; ++i) {
            const auto sent = co_await local.send(message);
            const auto received = co_await local.receive();
            require(sent && received && received->size() == message.size(), "echo");
            end_operation();
        }
        tasks.request_stop();
    };
    co_await kevring::in_scope(body);
}

kevring::fd open_eventfd() {
    kevring::fd counter(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    require(counter.valid(), "eventfd");
    return counter;
}

void trigger(const kevring::fd& counter) {
    const std::uint64_t one = 1;
    require(::write(counter.number(), &one, sizeof one) == sizeof one, "write");
}

// A readiness event of a queue that a loop awaits.
kevring::task<void> loop_event(unsigned count) {
    const kevring::fd counter = open_eventfd();
    kevring::event_queue queue;
    kevring::value_or_throw(queue.add(kevring::readable(counter)), "add");
    for (unsigned i = 0; i < count; ++i) {
        trigger(counter);
        const auto event = co_await queue.next();
        require(event.has_value(), "event");
        end_operation();
    }
}

// The same by the C interface: on the epoll port, or on the ring port with KEVENT_INIT_ONE_THREAD.
void queue_event(unsigned count, unsigned init_flags) {
    const kevring::fd counter = open_eventfd();
    const int queue = kevent_init(nullptr, 0, init_flags);
    require(queue >= 0, "kevent_init");
    ukevent record{};
    record.id.raw[0] = static_cast<std::uint32_t>(counter.number());
    record.type = KEVENT_POLL;
    record.event = KEVENT_POLL_POLLIN;
    require(kevent_ctl(queue, KEVENT_CTL_ADD, 1, &record) == 0, "kevent_ctl");
    for (unsigned i = 0; i < count; ++i) {
        trigger(counter);
        ukevent event{};
        require(kevent_get_events(queue, 1, 1, timespec{-1, 0}, &event, 0) == 1,
                "kevent_get_events");
        end_operation();
    }
    kevent_close(queue);
}

// An item from one task to another of the same loop, through a channel of four.
kevring::task<void> send_items(kevring::channel<unsigned>& items, unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
        const auto sent = co_await items.send(i);
        require(sent.has_value(), "send");
    }
    items.close();
}

kevring::task<void> channel_item(unsigned count) {
    kevring::channel<unsigned> items(4);
    auto body = [&](kevring::task_scope& tasks) -> kevring::task<void> {
        tasks.spawn(send_items(items, count));
        while (true) {
            const auto item = co_await items.receive();
            if (!item) co_return;
            end_operation();
        }
    };
    co_await kevring::in_scope(body);
}

#ifdef OPERATIONS_HAVE_HTTPD
// A folder with one file, `page`, of 1000 bytes.
class page_folder {
public:
    page_folder() {
        std::string name = (std::filesystem::temp_directory_path() / "operations-XXXXXX").string();
        require(::mkdtemp(name.data()) != nullptr, "mkdtemp");
        path_ = name;
        std::ofstream(path_ / "page") << std::string(1000, 'x');
    }
    page_folder(const page_folder&) = delete;
    page_folder& operator=(const page_folder&) = delete;
    ~page_folder() { std::filesystem::remove_all(path_); }
    std::string name() const { return path_.string(); }

private:
    std::filesystem::path path_;
};

kevring::endpoint address_of(const kevring::fd& listening) {
    sockaddr_in address{};
    socklen_t address_bytes = sizeof address;
    require(::getsockname(listening.number(), reinterpret_cast<sockaddr*>(&address),
                          &address_bytes) == 0,
            "getsockname");
    return {reinterpret_cast<const sockaddr*>(&address), address_bytes};
}

// Requests of one connection for one file, which httpd has open from the first one on.
kevring::task<void> request_page(kevring::endpoint server, unsigned count) {
    auto connected = co_await kevring::connect(*kevring::ring::current(), server);
    kevring::socket client = kevring::value_or_throw(std::move(connected), "connect");
    constexpr std::string_view request = "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (unsigned i = 0; i < count; ++i) {
        const auto sent = co_await client.send(request);
        require(sent.has_value(), "send");
        bool ended = false;
        std::size_t byte_count = 0;
        while (!ended) {
            const auto received = co_await client.receive();
            require(received && !received->empty(), "response");
            byte_count += received->size();
            ended = received->bytes().back() == static_cast<std::byte>('x') && byte_count > 1000;
        }
        end_operation();
    }
}

kevring::task<void> cached_get(unsigned count) {
    const page_folder folder;
    httpd::settings options;
    options.site.root.text = folder.name();
    httpd::shared_state shared;
    httpd::report_slot reports;
    auto listening = kevring::open_listening_socket(kevring::endpoint::loopback(0));
    kevring::fd socket = kevring::value_or_throw(std::move(listening), "listen");
    const kevring::endpoint address = address_of(socket);
    httpd::worker_change begin{std::make_shared<const httpd::configuration>(options), {}, {}};
    begin.opened.push_back({0, std::move(socket)});
    httpd::worker server(*kevring::ring::current(), shared, std::move(begin), reports);
    auto body = [&](kevring::task_scope& tasks) -> kevring::task<void> {
        tasks.spawn(server.serve());
        co_await request_page(address, count);
        server.drain();
    };
    co_await kevring::in_scope(body);
}
#else
kevring::task<void> cached_get(unsigned) {
    throw std::runtime_error("cached_get: built without the examples");
}
#endif

void run_paced(kevring::task<void> operation) {
    paced_kernel system;
    kevring::ring loop({}, system);
    kevring::run(loop, std::move(operation));
}

int perform(const std::string& name, unsigned count) {
    if (name == "echo")
        run_paced(echo(count));
    else if (name == "loop_event")
        run_paced(loop_event(count));
    else if (name == "epoll_event")
        queue_event(count, KEVENT_INIT_NO_THREAD);
    else if (name == "ring_event")
        queue_event(count, KEVENT_INIT_NO_THREAD | KEVENT_INIT_ONE_THREAD);
    else if (name == "channel_item")
        run_paced(channel_item(count));
    else if (name == "cached_get")
        run_paced(cached_get(count));
    else
        return 2;
    return 0;
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc < 3) return 2;
    is_wasteful = argc > 3 && std::strcmp(argv[3], "waste") == 0;
    return perform(argv[1], static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)));
} catch (const std::exception& failure) {
    std::fprintf(stderr, "operations: %s\n", failure.what());
    return 1;
}
