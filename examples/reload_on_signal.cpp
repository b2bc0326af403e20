// reload_on_signal.cpp: reads a file again at SIGHUP, and ends at SIGTERM or SIGINT.
#include <kevring/kevent/signal_stream.hpp>
#include <kevring/runtime/run.hpp>

#include <cstdio>
#include <exception>
#include <fstream>
#include <string>

#include <signal.h>

namespace {

void load(const char* path) {
    std::string first;
    std::getline(std::ifstream(path), first);
    std::printf("loaded: %s\n", first.c_str());
}

kevring::task<void> serve(const char* path) {
    const kevring::signal_set wanted{SIGHUP, SIGINT, SIGTERM};
    auto control = kevring::value_or_throw(kevring::signal_stream::open(wanted), "signals");
    load(path);  // after open(): a signal that arrives during the load is pending
    while (true) {
        auto got = co_await control.next();
        const auto signal = kevring::value_or_throw(std::move(got), "signals");
        if (signal.number != SIGHUP) co_return;
        load(path);
    }
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 2) {
        std::fputs("usage: reload_on_signal FILE\n", stderr);
        return 2;
    }
    std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
    kevring::run(serve(argv[1]));
    std::puts("ended");
} catch (const std::exception& failure) {
    std::fprintf(stderr, "reload_on_signal: %s\n", failure.what());
    return 1;
}
