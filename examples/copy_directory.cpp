// copy_directory.cpp: copies a directory with all that is below it, and prints its progress.
//
//   copy_directory SOURCE TARGET
#include <kevring/kevring.hpp>

#include <cinttypes>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>

namespace {

class printer final : public kevring::copy_observer {
public:
    void on_progress(const kevring::copy_progress& progress) override {
        std::fprintf(stderr, "%" PRIu64 " files, %" PRIu64 " directories, %" PRIu64 " bytes\n",
                     progress.file_count, progress.directory_count, progress.byte_count);
    }
};

kevring::task<kevring::copy_progress> copy(std::string source, std::string target) {
    const auto current = kevring::directory::current(*kevring::ring::current());
    printer progress;
    kevring::copy_options options;
    options.observer = &progress;
    auto copied = co_await current.copy_tree(source, current, target, options);
    co_return kevring::value_or_throw(std::move(copied), source.c_str());
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 3) {
        std::fputs("usage: copy_directory SOURCE TARGET\n", stderr);
        return 2;
    }
    const auto copied = kevring::run(copy(argv[1], argv[2]));
    std::printf("copied %" PRIu64 " bytes in %" PRIu64 " files\n", copied.byte_count,
                copied.file_count);
    if (copied.skipped_count != 0)
        std::fprintf(stderr, "skipped %" PRIu64 " sockets and devices\n", copied.skipped_count);
} catch (const std::exception& failure) {
    std::fprintf(stderr, "copy_directory: %s\n", failure.what());
    return 1;
}
