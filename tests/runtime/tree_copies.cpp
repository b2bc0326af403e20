// Copies of files and of trees: complete or absent, with what the options say.
#include "tests/support/catch.hpp"
#include "tests/support/descriptor_count.hpp"
#include "tests/support/file_tree.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/directory.hpp>

#include <set>
#include <string>

using kevring::copy_options;
using kevring::copy_progress;
using kevring::directory;
using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

namespace {

constexpr copy_options replacing{.overwrite = true};
constexpr copy_options preserving{.preserve = true};

}  // namespace

TEST_CASE("a copy over a FIFO is refused, and waits for no reader", "[runtime][trees]") {
    ring loop;
    scratch_folder scratch;
    scratch.write("source", "text");
    REQUIRE(::mkfifo(scratch.path("fifo").c_str(), 0600) == 0);
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        kevring::copy_options options;
        options.overwrite = true;
        const auto copied = co_await folder.copy_file("source", folder, "fifo", options);
        CHECK(copied.error() == std::errc::no_such_device_or_address);
    };
    run_on(loop, body);
}

TEST_CASE("a copy does not receive the set-id bits of its source", "[runtime][trees]") {
    ring loop;
    scratch_folder scratch;
    scratch.write("source", "text");
    REQUIRE(::chmod(scratch.path("source").c_str(), 06755) == 0);
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        kevring::copy_options options;
        options.preserve = true;
        const auto copied = co_await folder.copy_file("source", folder, "copy", options);
        CHECK(copied.has_value());
        CHECK(scratch.permissions("copy") == 0755);
    };
    run_on(loop, body);
}

TEST_CASE("a file is copied by each of three ways", "[runtime][trees]") {
    scratch_folder scratch;
    std::string content;
    for (int i = 0; content.size() < 300000; ++i) content += std::to_string(i);
    scratch.write("source", content);
    REQUIRE(::chmod(scratch.path("source").c_str(), 0750) == 0);
    const mode_t mask = ::umask(022);
    struct {
        int range_error;
        int splice_error;
    } ways[] = {{0, 0}, {EXDEV, 0}, {EINVAL, EINVAL}, {ENOSYS, EINVAL}, {EOPNOTSUPP, EINVAL}};
    for (const auto& way : ways) {
        faulty_files faults;
        ring loop;
        use(loop, faults);
        if (way.range_error != 0) faults.fail("copy_range", way.range_error);
        if (way.splice_error != 0) faults.fail("splice", way.splice_error);
        auto body = [&]() -> task<void> {
            const directory folder = scratch.opened(loop);
            const auto copied = co_await folder.copy_file("source", folder, "target");
            CHECK(copied.value().byte_count == content.size());
            CHECK(copied.value().file_count == 1);
            CHECK(scratch.read("target") == content);
            CHECK(scratch.permissions("target") == 0750);
            const auto again = co_await folder.copy_file("source", folder, "target");
            CHECK(again.error() == std::errc::file_exists);
            scratch.write("shorter", "short");
            const auto replaced = co_await folder.copy_file("shorter", folder, "target", replacing);
            CHECK(replaced.has_value());
            CHECK(scratch.read("target") == "short");
            const auto same = co_await folder.copy_file("target", folder, "target", replacing);
            CHECK(same.error() == std::errc::invalid_argument);
            CHECK(scratch.read("target") == "short");
            const auto removed = co_await folder.remove_file("target");
            CHECK(removed.has_value());
        };
        run_on(loop, body);
        CHECK((faults.count("splice") != 0) == (way.range_error != 0));
        CHECK((faults.count("read") != 0) == (way.splice_error != 0));
    }
    ::umask(mask);
}

TEST_CASE("a file of proc is copied although its size is 0", "[runtime][trees]") {
    ring loop;
    scratch_folder scratch;
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        const auto copied = co_await folder.copy_file("/proc/self/status", folder, "status");
        REQUIRE(copied.has_value());
        CHECK(scratch.read("status").starts_with("Name:"));
    };
    run_on(loop, body);
}

TEST_CASE("a copy that fails or is stopped leaves no part of the file", "[runtime][trees]") {
    scratch_folder scratch;
    scratch.write("source", std::string(200000, 'x'));
    REQUIRE(::symlink("source", scratch.path("link").c_str()) == 0);
    REQUIRE(::mkfifo(scratch.path("fifo").c_str(), 0600) == 0);
    faulty_files faults;
    ring loop;
    use(loop, faults);
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        const auto names = scratch.names();
        for (const int error : {ENOSPC, EDQUOT, EIO, EFBIG, ENOMEM, EISDIR}) {
            faults.fail("copy_range", error);
            const auto failed = co_await folder.copy_file("source", folder, "target");
            CHECK(failed.error().value() == error);
            CHECK(scratch.names() == names);
        }
        faults.fail("copy_range", EXDEV);
        faults.fail("splice", EINVAL);
        faults.fail("write", ENOSPC, 1);
        const auto full = co_await folder.copy_file("source", folder, "target");
        CHECK(full.error() == std::errc::no_space_on_device);
        CHECK(scratch.names() == names);
        for (const int error : {EACCES, EMFILE, ENOENT, ELOOP}) {
            faults.fail("open_at", error);
            const auto failed = co_await folder.copy_file("source", folder, "target");
            CHECK(failed.error().value() == error);
        }
        const auto linked = co_await folder.copy_file("link", folder, "target");
        CHECK(linked.error() == std::errc::too_many_symbolic_link_levels);
        const auto fifo = co_await folder.copy_file("fifo", folder, "target");
        CHECK(fifo.error() == std::errc::invalid_argument);
        const auto whole_folder = co_await folder.copy_file(".", folder, "target");
        CHECK(whole_folder.error() == std::errc::is_a_directory);

        auto limit = co_await kevring::within(1h);
        limit.scope().request_stop();
        const auto stopped = co_await folder.copy_file("source", folder, "target");
        CHECK(stopped.error() == std::errc::operation_canceled);
        CHECK(scratch.names() == names);
    };
    run_on(loop, body);
}

TEST_CASE("a tree is copied with its links, and reports its progress", "[runtime][trees]") {
    struct counting final : kevring::copy_observer {
        void on_progress(const copy_progress& progress) override {
            ++count;
            last = progress;
        }
        unsigned count = 0;
        copy_progress last;
    };
    ring loop;
    scratch_folder scratch;
    make_tree(scratch, "t");
    REQUIRE(::chmod(scratch.path("t/a/b").c_str(), 0500) == 0);
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        counting observer;
        copy_options options;
        options.observer = &observer;
        const auto copied = co_await folder.copy_tree("t", folder, "copy", options);
        REQUIRE(copied.has_value());
        CHECK(copied->file_count == 3);
        CHECK(copied->directory_count == 3);
        CHECK(copied->other_count == 2);
        CHECK(copied->skipped_count == 1);
        CHECK(copied->byte_count == 100003);
        CHECK(observer.count >= 1);
        CHECK(observer.last.byte_count == 100003);
        CHECK(scratch.names("copy") == std::vector<std::string>{"a", "f3", "l", "p"});
        CHECK(scratch.read("copy/a/b/f1") == "one");
        CHECK(std::filesystem::read_symlink(scratch.path("copy/l")) == "a");
        CHECK((scratch.permissions("copy/a/b") & 0700) == 0500);

        const auto again = co_await folder.copy_tree("t", folder, "copy");
        CHECK(again.error() == std::errc::file_exists);
        REQUIRE(::chmod(scratch.path("copy/a/b").c_str(), 0700) == 0);
        scratch.write("t/f3", "new");
        options.overwrite = true;
        const auto merged = co_await folder.copy_tree("t", folder, "copy", options);
        CHECK(merged.has_value());
        CHECK(scratch.read("copy/f3") == "new");
        const auto inside = co_await folder.copy_tree("t", folder, "t/a/inside");
        CHECK(inside.error() == std::errc::invalid_argument);
        REQUIRE(::chmod(scratch.path("t/a/b").c_str(), 0700) == 0);
        REQUIRE(::chmod(scratch.path("copy/a/b").c_str(), 0700) == 0);
    };
    run_on(loop, body);
}

TEST_CASE("a preserving copy keeps permissions and times", "[runtime][trees]") {
    ring loop;
    scratch_folder scratch;
    std::filesystem::create_directories(scratch.path("t"));
    scratch.write("t/f", "x");
    REQUIRE(::chmod(scratch.path("t/f").c_str(), 0777) == 0);
    const timespec times[2] = {{1000, 5}, {2000, 7}};
    REQUIRE(::utimensat(AT_FDCWD, scratch.path("t/f").c_str(), times, 0) == 0);
    REQUIRE(::utimensat(AT_FDCWD, scratch.path("t").c_str(), times, 0) == 0);
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        const auto copied = co_await folder.copy_tree("t", folder, "copy", preserving);
        CHECK(copied.has_value());
        CHECK(scratch.permissions("copy/f") == 0777);
        for (const char* name : {"copy", "copy/f"}) {
            struct stat status{};
            REQUIRE(::stat(scratch.path(name).c_str(), &status) == 0);
            CHECK(status.st_mtim.tv_sec == 2000);
            CHECK(status.st_mtim.tv_nsec == 7);
        }
    };
    run_on(loop, body);
}

TEST_CASE("errors of a copy of a tree reach the caller, and leave no descriptor open",
          "[runtime][trees]") {
    faulty_files faults;
    ring loop;
    use(loop, faults);
    scratch_folder scratch;
    make_tree(scratch, "t");
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        const std::size_t before = descriptor_count();
        for (const char* call :
             {"open_at", "read_directory", "status", "make_directory_at", "copy_range"}) {
            for (const int error : {EACCES, EIO, ENOMEM, ENOSPC, EMFILE}) {
                CAPTURE(call, error);
                faults.fail(call, error);
                const auto failed = co_await folder.copy_tree("t", folder, "copy");
                CHECK(failed.error().value() == error);
                const auto removed = co_await folder.remove_tree("copy");
                CHECK((removed || removed.error() == std::errc::no_such_file_or_directory));
            }
        }
        CHECK(descriptor_count() == before);
        auto limit = co_await kevring::within(1h);
        limit.scope().request_stop();
        const auto stopped = co_await folder.copy_tree("t", folder, "copy");
        CHECK(stopped.error() == std::errc::operation_canceled);
    };
    run_on(loop, body);
}
