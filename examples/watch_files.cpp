// watch_files.cpp: prints what happens to files and directories, one line for each change.
#include <kevring/kevent/awaitables.hpp>
#include <kevring/runtime/run.hpp>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

using kevring::change_kind;

namespace {

struct word {
    change_kind kind;
    const char* text;
};
constexpr word words[] = {
    {change_kind::created, "created"},
    {change_kind::removed, "removed"},
    {change_kind::written, "written"},
    {change_kind::attributes, "attributes"},
    {change_kind::moved_from, "moved from"},
    {change_kind::moved_to, "moved to"},
    {change_kind::moved, "moved"},
    {change_kind::gone, "gone"},
    {change_kind::lost, "changes were lost"},
};

kevring::task<void> watch(std::vector<std::string> paths) {
    auto changes = kevring::value_or_throw(kevring::change_stream::open(), "inotify");
    for (const std::string& path : paths) kevring::value_or_throw(changes.add(path), path.c_str());
    std::puts("watching");
    while (changes.watch_count() != 0) {
        auto got = co_await changes.next();
        const auto change = kevring::value_or_throw(std::move(got), "changes");
        for (const word& said : words) {
            if (kevring::any_of(change.kinds, said.kind))
                std::printf("%s %s/%s\n", said.text, change.path.c_str(), change.name.c_str());
        }
    }
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc < 2) {
        std::fputs("usage: watch_files PATH...\n", stderr);
        return 2;
    }
    std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
    kevring::run(watch({argv + 1, argv + argc}));
} catch (const std::exception& failure) {
    std::fprintf(stderr, "watch_files: %s\n", failure.what());
    return 1;
}
