// Requests about files pass errors on, end by a stop, and do their work; files and directories follow
// their contracts.
#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/file_support.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"

#include <kevring/runtime/directory.hpp>
#include <kevring/runtime/features.hpp>
#include <kevring/runtime/file_replacement.hpp>
#include <kevring/runtime/operations/path.hpp>
#include <kevring/runtime/operations/tee.hpp>
#include <kevring/runtime/temporary_file.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

using kevring::directory;
using kevring::file_access;
using kevring::open_options;
using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

namespace {

constexpr kevring::ring_options small{.submission_entries = 8, .completion_entries = 16};

struct setup {
    scratch_folder folder;
    kevring::fd file{::open(folder.path("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
    std::array<kevring::fd, 4> pipes;
    std::array<std::byte, 64> bytes{};

    setup() {
        for (std::size_t index = 0; index < pipes.size(); index += 2) {
            std::array<int, 2> ends{};
            REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
            pipes[index].reset(ends[0]);
            pipes[index + 1].reset(ends[1]);
        }
        REQUIRE(::write(pipes[1].number(), "x", 1) == 1);
    }
    kevring::fd_ref below() const { return folder.native(); }
};

template <class Request>
task<std::error_code> error_of(Request request) {
    const auto answer = co_await request;
    co_return answer ? std::error_code() : answer.error();
}

struct kind {
    const char* name;
    std::uint8_t opcode;
    std::function<task<std::error_code>(ring&, setup&, std::stop_token)> await;
};

const std::vector<kind>& kinds() {
    using namespace kevring;
    static const std::vector<kind> all{
        {"rename", IORING_OP_RENAMEAT,
         [](ring& loop, setup& s, std::stop_token stop) {
             return error_of(
                 rename_operation(loop, s.below(), "file", s.below(), "renamed", 0, stop));
         }},
        {"link", IORING_OP_LINKAT,
         [](ring& loop, setup& s, std::stop_token stop) {
             return error_of(link_operation(loop, s.below(), "file", s.below(), "link", 0, stop));
         }},
        {"symlink", IORING_OP_SYMLINKAT,
         [](ring& loop, setup& s, std::stop_token stop) {
             return error_of(symlink_operation(loop, "file", s.below(), "symlink", stop));
         }},
        {"unlink", IORING_OP_UNLINKAT,
         [](ring& loop, setup& s, std::stop_token stop) {
             return error_of(unlink_operation(loop, s.below(), "file", 0, stop));
         }},
        {"mkdir", IORING_OP_MKDIRAT,
         [](ring& loop, setup& s, std::stop_token stop) {
             return error_of(make_directory_operation(loop, s.below(), "made", 0700, stop));
         }},
        {"allocate", IORING_OP_FALLOCATE,
         [](ring& loop, setup& s, std::stop_token stop) {
             return error_of(allocate_operation(loop, s.file, 0, 4096, 0, stop));
         }},
        {"sync_range", IORING_OP_SYNC_FILE_RANGE,
         [](ring& loop, setup& s, std::stop_token stop) {
             return error_of(sync_range_operation(loop, s.file, 0, 0, SYNC_FILE_RANGE_WRITE, stop));
         }},
        {"tee", IORING_OP_TEE,
         [](ring& loop, setup& s, std::stop_token stop) {
             return error_of(tee_operation(loop, s.pipes[0], s.pipes[3], 1, 0, stop));
         }},
        {"set_attribute", IORING_OP_FSETXATTR,
         [](ring& loop, setup& s, std::stop_token stop) {
             return error_of(set_attribute_operation(loop, s.file, "user.name", s.bytes, 0, stop));
         }},
        {"get_attribute", IORING_OP_FGETXATTR,
         [](ring& loop, setup& s, std::stop_token stop) {
             return error_of(get_attribute_operation(loop, s.file, "user.name", s.bytes, stop));
         }},
    };
    return all;
}

// Until a folder has `count` entries; the deadline of the test ends it.
task<void> wait_for_count(const scratch_folder& scratch, std::size_t count) {
    while (scratch.names().size() != count) {
        const auto slept = co_await kevring::sleep_for(1ms);
        REQUIRE(slept.has_value());
    }
}

}  // namespace

TEST_CASE("an errno of a request about files reaches the caller unchanged", "[runtime][files]") {
    scripted_kernel script;
    ring loop(small, script);
    setup fixture;
    for (const kind& each : kinds()) {
        for (const int number :
             {EACCES, EBUSY,        EDQUOT, EEXIST, EFAULT,     EIO,     EISDIR,    ELOOP,
              EMLINK, ENAMETOOLONG, ENOENT, ENOMEM, ENOSPC,     ENOTDIR, ENOTEMPTY, EPERM,
              EROFS,  EXDEV,        EINVAL, EBADF,  EOPNOTSUPP, ENODATA, ERANGE}) {
            CAPTURE(each.name, number);
            script.fail(each.opcode, number);
            const auto error = run_on(loop, [&] { return each.await(loop, fixture, {}); });
            CHECK(error == std::error_code(number, std::system_category()));
        }
    }
}

TEST_CASE("a stop before a request about files makes none, and one after it changes nothing",
          "[runtime][files]") {
    for (const kind& each : kinds()) {
        CAPTURE(each.name);
        scripted_kernel script;
        ring loop(small, script);
        setup fixture;
        std::stop_source before;
        before.request_stop();
        CHECK(run_on(loop, [&] { return each.await(loop, fixture, before.get_token()); }) ==
              std::errc::operation_canceled);
        CHECK(script.submitted(each.opcode) == 0);

        std::stop_source stop;
        script.hold(each.opcode);
        auto body = [&]() -> task<std::error_code> {
            auto act = [&]() -> task<void> {
                while (script.held_count() == 0) co_await kevring::yield();
                stop.request_stop();
                script.release();
            };
            kevring::task_scope side(loop);
            side.spawn(act());
            auto awaited = each.await(loop, fixture, stop.get_token());
            const auto error = co_await std::move(awaited);
            co_await side.join();
            co_return error;
        };
        const auto error = run_on(loop, body);
        const bool unsupported =
            error == std::errc::operation_not_supported || error == std::errc::no_message_available;
        CHECK((!error || (unsupported && std::string_view(each.name).ends_with("attribute"))));
    }
}

TEST_CASE("a tee that waits ends by a stop or a deadline", "[runtime][files]") {
    for (const bool deadline : {false, true}) {
        ring loop(small);
        setup fixture;
        char byte = 0;
        REQUIRE(::read(fixture.pipes[0].number(), &byte, 1) == 1);
        std::stop_source stop;
        auto body = [&]() -> task<std::error_code> {
            auto act = [&]() -> task<void> {
                co_await kevring::yield();
                co_await kevring::yield();
                if (!deadline) stop.request_stop();
            };
            kevring::task_scope side(loop);
            side.spawn(act());
            std::error_code error;
            {
                const auto limit = co_await kevring::within(deadline ? 1ms : 60s);
                kevring::tee_operation tee(loop, fixture.pipes[0], fixture.pipes[3], 1, 0,
                                           stop.get_token());
                const auto count = co_await tee;
                if (!count) error = count.error();
            }
            co_await side.join();
            co_return error;
        };
        CHECK(run_on(loop, body) ==
              (deadline ? std::errc::timed_out : std::errc::operation_canceled));
    }
}

TEST_CASE("open options are the flags of open(2)", "[runtime][files]") {
    open_options all;
    all.access = file_access::read_write;
    all.create = all.exclusive = all.truncate = all.append = all.direct = all.data_sync = true;
    all.sync = all.directory = all.nonblocking = all.keep_access_time = true;
    all.follow_symlink = false;
    CHECK(all.flags() ==
          (O_RDWR | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_DIRECT | O_DSYNC | O_SYNC |
           O_DIRECTORY | O_NONBLOCK | O_NOATIME | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY));
    CHECK(all.mode() == 0666);
    CHECK(open_options{.access = file_access::write, .temporary = true}.flags() ==
          (O_WRONLY | O_TMPFILE | O_CLOEXEC | O_NOCTTY));
    CHECK(open_options{.access = file_access::path}.flags() == (O_PATH | O_CLOEXEC));
    CHECK(open_options{}.mode() == 0);
}

TEST_CASE("a file is created with its permissions, appended to, and read as a whole",
          "[runtime][files]") {
    ring loop;
    scratch_folder scratch;
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        open_options options;
        options.access = file_access::read_write;
        options.create = true;
        options.exclusive = true;
        options.append = true;
        options.permissions = 0640;
        const mode_t mask = ::umask(0);
        ::umask(mask);
        auto opened = co_await folder.open_file("log", options);
        REQUIRE(opened.has_value());
        const auto first = co_await opened->write_all("first ");
        CHECK(first.has_value());
        const auto second = co_await opened->write_all("second", 0);  // O_APPEND wins
        CHECK(second.has_value());
        const auto content = co_await opened->read_all(100);
        CHECK(content.value() == "first second");
        const auto longer = co_await opened->read_all(11);
        CHECK(longer.error() == std::errc::message_size);
        const auto exact = co_await folder.read_file("log", 12);
        CHECK(exact.value() == "first second");
        const auto again = co_await folder.open_file("log", options);
        CHECK(again.error() == std::errc::file_exists);
        struct statx status{};
        const auto found = co_await folder.status("log", status, STATX_MODE | STATX_SIZE);
        REQUIRE(found.has_value());
        CHECK((status.stx_mode & 0777) == (0640 & ~mask));
        CHECK(status.stx_size == 12);
        std::array<std::byte, 20> buffer{};
        const auto tail = co_await opened->read_full(buffer, 6);
        CHECK(tail.value() == 6);
        auto close = opened->close();
        const auto closed = co_await close;
        CHECK(closed.has_value());
    };
    run_on(loop, body);
}

TEST_CASE("short reads and writes are continued", "[runtime][files]") {
    scripted_kernel script;
    ring loop({}, script);
    scratch_folder scratch;
    script.shorten(IORING_OP_READ, 3);
    script.shorten(IORING_OP_WRITE, 2);
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        open_options options;
        options.access = file_access::read_write;
        options.create = true;
        auto opened = co_await folder.open_file("file", options);
        REQUIRE(opened.has_value());
        const auto written = co_await opened->write_all("0123456789", 5);
        CHECK(written.has_value());
        CHECK(script.submitted(IORING_OP_WRITE) == 5);
        std::array<std::byte, 10> buffer{};
        const auto count = co_await opened->read_full(buffer, 5);
        CHECK(count.value() == 10);
        CHECK(buffer[9] == std::byte{'9'});
        const auto content = co_await opened->read_all(100, 5);
        CHECK(content.value() == "0123456789");

        script.fail(IORING_OP_WRITE, ENOSPC);
        const auto full = co_await opened->write_all("x");
        CHECK(full.error() == std::errc::no_space_on_device);
        CHECK(full.bytes_written() == 0);
        CHECK(written.bytes_written() == 10);
        script.fail(IORING_OP_READ, EIO);
        const auto broken = co_await opened->read_all(100);
        CHECK(broken.error() == std::errc::io_error);
    };
    run_on(loop, body);
}

TEST_CASE("a file is truncated by a request, or by a thread where the kernel has none",
          "[runtime][files]") {
    scripted_kernel script;
    ring loop({}, script);
    scratch_folder scratch;
    faulty_files faults;
    loop.claim();
    loop.service<kevring::file_kernel_choice>().chosen = &faults;
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        open_options options;
        options.access = file_access::read_write;
        options.create = true;
        auto opened = co_await folder.open_file("file", options);
        REQUIRE(opened.has_value());
        const auto longer = co_await opened->truncate(1000);
        CHECK(longer.has_value());
        const auto content = co_await opened->read_all(2000);
        CHECK(content.value().size() == 1000);
        const bool requested = kevring::features::get().truncate;
        CHECK(script.submitted(kevring::truncate_operation::opcode) == (requested ? 1U : 0U));
        if (requested)
            script.fail(kevring::truncate_operation::opcode, EFBIG);
        else
            faults.fail("truncate", EFBIG);
        const auto refused = co_await opened->truncate(1);
        CHECK(refused.error() == std::errc::file_too_large);
    };
    run_on(loop, body);
}

TEST_CASE("storage is allocated, advised on and written to the device", "[runtime][files]") {
    ring loop;
    scratch_folder scratch;
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        open_options options;
        options.access = file_access::read_write;
        options.create = true;
        auto opened = co_await folder.open_file("file", options);
        REQUIRE(opened.has_value());
        auto allocate = opened->allocate(0, 8192);
        const auto allocated = co_await allocate;
        CHECK(allocated.has_value());
        auto advise = opened->advise(0, 8192, POSIX_FADV_SEQUENTIAL);
        const auto advised = co_await advise;
        CHECK(advised.has_value());
        auto range = opened->sync_range(0, 4096, SYNC_FILE_RANGE_WRITE);
        const auto range_synced = co_await range;
        CHECK(range_synced.has_value());
        auto sync = opened->sync();
        const auto synced = co_await sync;
        CHECK(synced.has_value());
        struct stat status{};
        CHECK(opened->status(status).has_value());
        CHECK(status.st_size == 8192);
    };
    run_on(loop, body);
}

TEST_CASE("extended attributes are set, read, listed and removed", "[runtime][files]") {
    ring loop;
    scratch_folder scratch;
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        open_options options;
        options.access = file_access::read_write;
        options.create = true;
        auto opened = co_await folder.open_file("file", options);
        REQUIRE(opened.has_value());
        const auto none = co_await opened->attribute("user.color");
        if (none.error() == std::errc::operation_not_supported) co_return;  // of the file system
        CHECK(none.error().value() == ENODATA);
        const auto set = co_await opened->set_attribute("user.color", "red");
        REQUIRE(set.has_value());
        const std::string large(1000, 'x');
        const auto set_large = co_await opened->set_attribute("user.large", large);
        CHECK(set_large.has_value());
        const auto color = co_await opened->attribute("user.color");
        CHECK(color.value() == "red");
        const auto read_large = co_await opened->attribute("user.large");
        CHECK(read_large.value() == large);
        const auto names = co_await opened->attribute_names();
        REQUIRE(names.has_value());  // SELinux adds one of its own
        CHECK(std::count_if(names->begin(), names->end(), [](const std::string& name) {
                  return name.starts_with("user.");
              }) == 2);
        const auto removed = co_await opened->remove_attribute("user.color");
        CHECK(removed.has_value());
        const auto after = co_await opened->attribute("user.color");
        CHECK(after.error().value() == ENODATA);
    };
    run_on(loop, body);
}

TEST_CASE("names are made, changed and removed", "[runtime][files]") {
    ring loop;
    scratch_folder scratch;
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        scratch.write("one", "1");
        scratch.write("two", "2");
        const auto refused = co_await folder.rename("one", "two", RENAME_NOREPLACE);
        CHECK(refused.error() == std::errc::file_exists);
        const auto exchanged = co_await folder.rename("one", "two", RENAME_EXCHANGE);
        CHECK(exchanged.has_value());
        CHECK(scratch.read("one") == "2");
        const auto linked = co_await folder.link("one", folder, "three");
        CHECK(linked.has_value());
        const auto pointed = co_await folder.symlink("three", "four");
        CHECK(pointed.has_value());
        CHECK(scratch.read("four") == "2");
        const auto content = co_await folder.read_link("four");
        CHECK(content.value() == "three");
        const auto not_link = co_await folder.read_link("one");
        CHECK(not_link.error() == std::errc::invalid_argument);
        const auto removed = co_await folder.remove_file("four");
        CHECK(removed.has_value());
        CHECK(scratch.read("three") == "2");
        const auto made = co_await folder.make_directory("sub", 0700);
        CHECK(made.has_value());
        const auto again = co_await folder.make_directory("sub");
        CHECK(again.error() == std::errc::file_exists);
        const auto parents = co_await folder.make_directories("sub/a//b/c/");
        CHECK(parents.has_value());
        const auto twice = co_await folder.make_directories("sub/a/b/c");
        CHECK(twice.has_value());
        const auto below_file = co_await folder.make_directories("one/x");
        CHECK(below_file.error() == std::errc::not_a_directory);
        const auto full = co_await folder.remove_directory("sub");
        CHECK(full.error() == std::errc::directory_not_empty);
        const auto sub = co_await folder.open_directory("sub/a");
        REQUIRE(sub.has_value());
        const auto moved = co_await folder.rename("one", *sub, "moved");
        CHECK(moved.has_value());
        CHECK(scratch.read("sub/a/moved") == "2");
        const auto fifo = co_await folder.make_fifo("fifo", 0600);
        CHECK(fifo.has_value());
        struct statx status{};
        const auto found = co_await folder.status("fifo", status, STATX_TYPE);
        CHECK(found.has_value());
        CHECK(S_ISFIFO(status.stx_mode));
    };
    run_on(loop, body);
}

TEST_CASE("a write that fails after its first bytes reports their number", "[runtime][files]") {
    scripted_kernel script;
    script.shorten(IORING_OP_WRITE, 6);
    ring loop({}, script);
    const kevring::file opened(loop, kevring::fd(::memfd_create("kevring", MFD_CLOEXEC)));
    auto fail_second = [&]() -> task<void> {
        while (script.submitted(IORING_OP_WRITE) == 0) co_await kevring::yield();
        script.fail(IORING_OP_WRITE, ENOSPC);
    };
    auto body = [&]() -> task<void> {
        kevring::task_scope tasks(loop);
        tasks.spawn(fail_second());
        const auto written = co_await opened.write_all("0123456789", 4);
        co_await tasks.join();
        CHECK(written.error() == std::errc::no_space_on_device);
        CHECK(written.bytes_written() == 6);
        const auto content = co_await opened.read_all(100, 4);
        CHECK(content.value() == "012345");
    };
    run_on(loop, body);
}

TEST_CASE("a file is replaced whole or not at all", "[runtime][files]") {
    scripted_kernel script;
    ring loop({}, script);
    scratch_folder scratch;
    scratch.write("settings", "old");
    REQUIRE(::chmod(scratch.path("settings").c_str(), 0640) == 0);
    const std::string text = "new content";
    const auto bytes = std::as_bytes(std::span(text));
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        for (const std::uint8_t opcode : {static_cast<std::uint8_t>(IORING_OP_WRITE),
                                          static_cast<std::uint8_t>(IORING_OP_FSYNC),
                                          static_cast<std::uint8_t>(IORING_OP_RENAMEAT)}) {
            script.fail(opcode, EIO);
            const auto failed = co_await kevring::replace_file(folder, "settings", bytes);
            CHECK(failed.error() == std::errc::io_error);
            CHECK(scratch.read("settings") == "old");
        }
        // Removed by requests that this coroutine does not wait for.
        co_await wait_for_count(scratch, 1);
        const auto replaced = co_await kevring::replace_file(folder, "settings", bytes);
        CHECK(replaced.has_value());
        CHECK(script.submitted(IORING_OP_FSYNC) >= 2);  // the file, and the directory
        CHECK(scratch.read("settings") == text);
        CHECK(scratch.permissions("settings") == 0640);
        const auto created = co_await kevring::replace_file(folder, "fresh", bytes);
        CHECK(created.has_value());
        CHECK(scratch.read("fresh") == text);
        const auto nameless = co_await kevring::replace_file(folder, "x/", bytes);
        CHECK(nameless.error() == std::errc::invalid_argument);
    };
    run_on(loop, body);
    CHECK(scratch.names() == std::vector<std::string>{"fresh", "settings"});
}

TEST_CASE("a stop during a replacement leaves the old file and no other", "[runtime][files]") {
    scratch_folder scratch;
    scratch.write("settings", "old");
    {
        scripted_kernel script;
        ring loop({}, script);
        auto body = [&]() -> task<void> {
            const directory folder = scratch.opened(loop);
            auto replacement = co_await kevring::file_replacement::begin(folder, "settings");
            REQUIRE(replacement.has_value());
            CHECK(scratch.names().size() == 2);
            auto limit = co_await kevring::within(1h);
            limit.scope().request_stop();
            const auto committed = co_await replacement->commit();
            CHECK(committed.error() == std::errc::operation_canceled);
        };
        run_on(loop, body);
    }
    CHECK(scratch.names() == std::vector<std::string>{"settings"});
    CHECK(scratch.read("settings") == "old");
}

TEST_CASE("temporary files have no name, and temporary directories are removed",
          "[runtime][files]") {
    scripted_kernel script;
    ring loop({}, script);
    scratch_folder scratch;
    auto body = [&]() -> task<void> {
        const directory folder = scratch.opened(loop);
        for (const bool supported : {true, false}) {
            if (!supported) script.fail(IORING_OP_OPENAT2, EOPNOTSUPP);
            auto opened = co_await kevring::open_temporary_file(folder, ".");
            REQUIRE(opened.has_value());
            CHECK(scratch.names().empty());
            const auto written = co_await opened->write_all("text");
            CHECK(written.has_value());
            const auto content = co_await opened->read_all(10);
            CHECK(content.value() == "text");
        }
        {
            auto made = co_await kevring::temporary_directory::make(folder, ".");
            REQUIRE(made.has_value());
            CHECK(scratch.names().size() == 1);
            CHECK(scratch.permissions(scratch.names()[0]) == 0700);
            const auto below = co_await made->opened().make_directories("a/b");
            CHECK(below.has_value());
            const auto removed = co_await made->remove();
            CHECK(removed.value() == 3);
            CHECK(scratch.names().empty());
        }
        {
            const auto made = co_await kevring::temporary_directory::make(folder, ".");
            REQUIRE(made.has_value());
        }
        co_await wait_for_count(scratch, 0);  // by a thread of the pool
    };
    run_on(loop, body);
}

TEST_CASE("a temporary directory that cannot be made for lack of memory leaves nothing behind",
          "[runtime][files]") {
    if (!allocations_are_counted()) return;  // a sanitizer has its own operator new
    ring loop;
    scratch_folder scratch;
    bool has_failed = true;
    for (std::uint64_t count = 0; has_failed; ++count) {
        auto body = [&]() -> task<void> {
            const directory folder = scratch.opened(loop);
            std::optional<kevring::temporary_directory> made;
            {
                const failing_allocation fault(count);
                try {
                    auto result = co_await kevring::temporary_directory::make(folder, ".");
                    if (result) made.emplace(std::move(*result));
                } catch (const std::bad_alloc&) {
                    CHECK(fault.has_failed());
                }
                has_failed = fault.has_failed();
            }
            CHECK(scratch.names().empty() == !made.has_value());
            if (!made) co_return;
            const auto removed = co_await made->remove();
            CHECK(removed.has_value());
        };
        run_on(loop, body);
    }
}
