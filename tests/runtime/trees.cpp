// Walks and removals of trees: complete, bounded in descriptors, and never through a link.
#include "tests/support/catch.hpp"
#include "tests/support/descriptor_count.hpp"
#include "tests/support/file_tree.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/directory.hpp>
#include <kevring/runtime/tree_walk.hpp>

#include <algorithm>
#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <vector>

using kevring::directory;
using kevring::file_type;
using kevring::ring;
using kevring::task;
using kevring::walk_entry;
using kevring::walk_options;
using namespace std::chrono_literals;

namespace {

// A chain of `depth` directories "d", each with the file "f" after it is made.
void make_chain(const scratch_folder& scratch, std::size_t depth) {
    kevring::fd folder(::dup(scratch.native().number()));
    for (std::size_t i = 0; i < depth; ++i) {
        REQUIRE(::mkdirat(folder.number(), "d", 0700) == 0);
        kevring::fd below(::openat(folder.number(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        REQUIRE(below.valid());
        folder = std::move(below);
        const kevring::fd file(
            ::openat(folder.number(), "f", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
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
