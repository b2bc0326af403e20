// Walks, removals and copies of trees: complete, bounded in descriptors, and never through a link.
#include "tests/support/catch.hpp"
#include "tests/support/file_support.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/directory.hpp>
#include <kevring/runtime/tree_walk.hpp>

#include <algorithm>
#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <sys/socket.h>
#include <sys/un.h>

using kevring::copy_options;
using kevring::copy_progress;
using kevring::directory;
using kevring::file_type;
using kevring::ring;
using kevring::task;
using kevring::walk_entry;
using kevring::walk_options;
using namespace std::chrono_literals;

namespace {

constexpr copy_options replacing{.overwrite = true};
constexpr copy_options preserving{.preserve = true};

std::size_t descriptor_count() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& each : std::filesystem::directory_iterator("/proc/self/fd"))
        ++count;
    return count;
}

// a/b/f1, a/f2, f3, l -> a, p (FIFO), s (socket).
void make_tree(const scratch_folder& scratch, const std::string& root) {
    std::filesystem::create_directories(scratch.path(root + "/a/b"));
    scratch.write(root + "/a/b/f1", "one");
    scratch.write(root + "/a/f2", std::string(100000, 'x'));
    scratch.write(root + "/f3", "");
    REQUIRE(::symlink("a", scratch.path(root + "/l").c_str()) == 0);
    REQUIRE(::mkfifo(scratch.path(root + "/p").c_str(), 0600) == 0);
    const kevring::fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    scratch.path(root + "/s").copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(socket.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
            0);
}

// A chain of `depth` directories "d", each with the file "f" after it is made.
void make_chain(const scratch_folder& scratch, std::size_t depth) {
    kevring::fd at(::dup(scratch.native().number()));
    for (std::size_t i = 0; i < depth; ++i) {
        REQUIRE(::mkdirat(at.number(), "d", 0700) == 0);
        kevring::fd below(::openat(at.number(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        REQUIRE(below.valid());
        at = std::move(below);
        const kevring::fd file(::openat(at.number(), "f", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        REQUIRE(file.valid());
    }
}

task<std::vector<walk_entry>> walk_all(kevring::tree_walk& walk) {
    std::vector<walk_entry> all;
    while (true) {
        auto entry = co_await walk.next();
        REQUIRE(entry.has_value());
        if (!entry->has_value()) break;
        all.push_back(std::move(**entry));
    }
    co_return all;
}

void use(ring& loop, faulty_files& faults) {
    loop.claim();
    loop.service<kevring::file_kernel_choice>().chosen = &faults;
}

}  // namespace

TEST_CASE("a listing gives each entry once, in bounded batches", "[runtime][trees]") {
    ring loop;
    scratch_folder scratch;
    for (int i = 0; i < 1500; ++i) scratch.write(std::to_string(i), "");
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        auto list = co_await folder.list();
        REQUIRE(list.has_value());
        std::set<std::string> names;
        std::size_t batch_count = 0;
        while (true) {
            const auto batch = co_await list->next_batch();
            REQUIRE(batch.has_value());
            if (batch->empty()) break;
            ++batch_count;
            CHECK(batch->size() <= 1024);
            for (const auto& entry : *batch) {
                CHECK(names.insert(entry.name).second);
                CHECK(entry.type == file_type::regular);
            }
        }
        CHECK(names.size() == 1500);
        CHECK(batch_count >= 2);
        const auto none = co_await folder.list("17");
        CHECK(none.error() == std::errc::not_a_directory);
    };
    run_on(loop, body);
}

TEST_CASE("a walk reports every file with its type and enters no link", "[runtime][trees]") {
    ring loop;
    scratch_folder scratch;
    make_tree(scratch, "t");
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        walk_options options;
        options.batch_entry_count = 2;
        auto walk = folder.walk("t", options);
        auto all = co_await walk_all(walk);
        std::sort(all.begin(), all.end(),
                  [](const auto& a, const auto& b) { return a.path < b.path; });
        std::vector<std::string> paths;
        for (const auto& entry : all) paths.push_back(entry.path);
        CHECK(paths == std::vector<std::string>{"a", "a/b", "a/b/f1", "a/f2", "f3", "l", "p", "s"});
        REQUIRE(all.size() == 8);
        CHECK(all[0].entered);
        CHECK(all[2].depth == 3);
        CHECK(all[5].type == file_type::symlink);
        CHECK_FALSE(all[5].entered);
        CHECK(all[6].type == file_type::fifo);
        CHECK(all[7].type == file_type::socket);

        options.depth_max = 1;
        auto shallow = folder.walk("t", options);
        const auto few = co_await walk_all(shallow);
        CHECK(few.size() == 5);

        auto through_link = folder.walk("t/l");
        const auto refused = co_await through_link.next();
        CHECK(refused.error() == std::errc::not_a_directory);
        auto missing = folder.walk("x");
        const auto none = co_await missing.next();
        CHECK(none.error() == std::errc::no_such_file_or_directory);
    };
    run_on(loop, body);
}

TEST_CASE("a deep walk and a deep removal have few descriptors", "[runtime][trees]") {
    constexpr std::size_t depth = 200;
    faulty_files faults;
    ring loop;
    use(loop, faults);
    scratch_folder scratch;
    make_chain(scratch, depth);
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        const std::size_t before = descriptor_count();
        {
            walk_options options;
            options.descriptor_count_max = 4;
            options.batch_entry_count = 1;
            auto walk = folder.walk(".", options);
            std::size_t count = 0;
            std::size_t most = 0;
            while (true) {
                const auto entry = co_await walk.next();
                REQUIRE(entry.has_value());
                if (!entry->has_value()) break;
                ++count;
                most = std::max(most, descriptor_count());
            }
            CHECK(count == 2 * depth);
            CHECK(most <= before + 4 + 2);
        }
        const auto removed = co_await folder.remove_tree("d");
        CHECK(removed.value() == 2 * depth);
        CHECK(scratch.names().empty());
        CHECK(descriptor_count() == before);
    };
    run_on(loop, body);
}

TEST_CASE("a walk reports a directory that cannot be read, and continues", "[runtime][trees]") {
    faulty_files faults;
    ring loop;
    use(loop, faults);
    scratch_folder scratch;
    for (const char* name : {"a", "b", "c"})
        std::filesystem::create_directories(scratch.path(name) + "/x");
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        for (const int error : {EACCES, EMFILE, ENFILE, ENOMEM, ELOOP, ENOENT}) {
            faults.fail("open_at", error, 1);  // after the root
            auto walk = folder.walk();
            const auto all = co_await walk_all(walk);
            CHECK(all.size() == 5);
            CHECK(std::count_if(all.begin(), all.end(), [&](const walk_entry& entry) {
                      return entry.error.value() == error && !entry.entered;
                  }) == 1);
        }
        for (const int error : {EIO, EBADF, ENOMEM}) {
            faults.fail("read_directory", error, 1);
            auto walk = folder.walk();
            const auto all = co_await walk_all(walk);
            CHECK(std::count_if(all.begin(), all.end(), [&](const walk_entry& entry) {
                      return entry.error.value() == error;
                  }) == 1);
        }
    };
    run_on(loop, body);
}

TEST_CASE("the removal of a tree spares the targets of links", "[runtime][trees]") {
    ring loop;
    scratch_folder scratch;
    make_tree(scratch, "t");
    scratch.write("kept", "kept");
    std::filesystem::create_directories(scratch.path("outside"));
    scratch.write("outside/file", "outside");
    REQUIRE(::symlink("../outside", scratch.path("t/a/out").c_str()) == 0);
    REQUIRE(::symlink("outside", scratch.path("root").c_str()) == 0);
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        const auto removed = co_await folder.remove_tree("t");
        CHECK(removed.value() == 10);
        const auto link = co_await folder.remove_tree("root");
        CHECK(link.value() == 1);
        CHECK(scratch.read("outside/file") == "outside");
        const auto file = co_await folder.remove_tree("kept");
        CHECK(file.value() == 1);
        const auto none = co_await folder.remove_tree("kept");
        CHECK(none.error() == std::errc::no_such_file_or_directory);
        CHECK(scratch.names() == std::vector<std::string>{"outside"});
    };
    run_on(loop, body);
}

// The races that an attacker with write access to the tree can win.
TEST_CASE("a directory that becomes a link during the removal is not followed",
          "[runtime][trees]") {
    for (const bool moved : {false, true}) {
        faulty_files faults;
        ring loop;
        use(loop, faults);
        scratch_folder scratch;
        std::filesystem::create_directories(scratch.path("t/victim"));
        scratch.write("t/victim/inside", "");
        std::filesystem::create_directories(scratch.path("outside"));
        scratch.write("outside/file", "outside");
        auto swap = [&] {
            std::filesystem::rename(scratch.path("t/victim"), scratch.path("moved"));
            REQUIRE(::symlink("../outside", scratch.path("t/victim").c_str()) == 0);
        };
        // Before it is opened, or when it is open and its entries are removed.
        if (moved)
            faults.before("unlink_at", "inside", swap);
        else
            faults.before("open_at", "victim", swap);
        auto body = [&]() -> task<void> {
            const directory folder = scratch.opened(loop);
            const auto removed = co_await folder.remove_tree("t");
            CHECK(removed.has_value());
            CHECK(scratch.read("outside/file") == "outside");
            CHECK_FALSE(std::filesystem::exists(scratch.path("t")));
        };
        run_on(loop, body);
    }
}

TEST_CASE("an entry that appears or disappears during the removal is no error",
          "[runtime][trees]") {
    faulty_files faults;
    ring loop;
    use(loop, faults);
    scratch_folder scratch;
    std::filesystem::create_directories(scratch.path("t/a"));
    scratch.write("t/a/f", "");
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        faults.before("unlink_at", "a", [&] { scratch.write("t/a/late", ""); });
        const auto removed = co_await folder.remove_tree("t");
        CHECK(removed.value() == 4);
        std::filesystem::create_directories(scratch.path("t/a"));
        faults.before("open_at", "a", [&] { ::rmdir(scratch.path("t/a").c_str()); });
        const auto less = co_await folder.remove_tree("t");
        CHECK(less.value() == 1);
    };
    run_on(loop, body);
}

TEST_CASE("a directory that was moved away above the open ones ends the removal",
          "[runtime][trees]") {
    faulty_files faults;
    ring loop;
    use(loop, faults);
    scratch_folder scratch;
    make_chain(scratch, 60);
    std::filesystem::create_directories(scratch.path("other"));
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        // Back at the first closed directory: the one below it is elsewhere now.
        faults.before("open_at", "..", [&] {
            std::string deep = scratch.path("d");
            for (int i = 0; i < 27; ++i) deep += "/d";
            std::filesystem::rename(deep, scratch.path("other/d"));
        });
        const auto removed = co_await folder.remove_tree("d");
        REQUIRE_FALSE(removed.has_value());
        CHECK(removed.error().value() == ESTALE);
    };
    run_on(loop, body);
}

TEST_CASE("errors and stops end a removal", "[runtime][trees]") {
    faulty_files faults;
    ring loop;
    use(loop, faults);
    scratch_folder scratch;
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        std::filesystem::create_directories(scratch.path("t/a"));
        scratch.write("t/a/f", "");
        for (const int error : {EACCES, EBUSY, EIO, EROFS, EPERM, ENOMEM}) {
            faults.fail("unlink_at", error, 1);  // the first one finds a directory
            const auto removed = co_await folder.remove_tree("t");
            CHECK(removed.error().value() == error);
        }
        for (const int error : {EACCES, EMFILE, ENFILE, ENOMEM}) {
            faults.fail("open_at", error);
            const auto removed = co_await folder.remove_tree("t");
            CHECK(removed.error().value() == error);
        }
        auto limit = co_await kevring::within(1h);
        limit.scope().request_stop();
        const auto stopped = co_await folder.remove_tree("t");
        CHECK(stopped.error() == std::errc::operation_canceled);
        CHECK(scratch.names("t/a").size() == 1);
    };
    run_on(loop, body);
}

TEST_CASE("a path that names a link or a directory by its entries is not removed",
          "[runtime][trees]") {
    ring loop;
    scratch_folder scratch;
    std::filesystem::create_directories(scratch.path("kept/inside"));
    REQUIRE(::symlink("kept", scratch.path("link").c_str()) == 0);
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        for (const char* path : {".", "..", "kept/.", "kept/inside/..", "link/.", "/"}) {
            CAPTURE(path);
            const auto removed = co_await folder.remove_tree(path);
            CHECK(removed.error() == std::errc::invalid_argument);
        }
        const auto link = co_await folder.remove_tree("link/");  // the link, and not its target
        CHECK(link.value() == 1);
        CHECK(std::filesystem::is_directory(scratch.path("kept/inside")));
        const auto all = co_await folder.remove_tree("kept//");
        CHECK(all.value() == 2);
    };
    run_on(loop, body);
}

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

TEST_CASE("a deadline during a removal is timed_out, and a later removal ends the work",
          "[runtime][trees]") {
    faulty_files faults;
    ring loop;
    use(loop, faults);
    scratch_folder scratch;
    std::filesystem::create_directories(scratch.path("t"));
    scratch.write("t/one", "");
    scratch.write("t/two", "");
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        std::atomic<bool> passed{false};
        faults.before("open_at", "t", [&] {
            while (!passed) std::this_thread::yield();
        });
        auto expire = [&]() -> task<void> {
            static_cast<void>(co_await kevring::sleep_for(5ms));
            passed = true;
        };
        kevring::task_scope side(loop);
        std::error_code error;
        {
            const auto limit = co_await kevring::within(1ms);
            side.spawn(expire());  // after the limit: its timer expires later
            const auto removed = co_await folder.remove_tree("t");
            if (!removed) error = removed.error();
        }
        co_await side.join();
        CHECK(error == std::errc::timed_out);
        const auto removed = co_await folder.remove_tree("t");
        CHECK(removed.value() == 3);
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
