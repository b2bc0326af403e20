// A file as a stream of blocks that are read ahead of their consumer.
#include "tests/support/catch.hpp"
#include "tests/support/file_support.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/file_reader.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

TEST_CASE("a reader gives all bytes in order, ahead of its consumer", "[runtime][files]") {
    scripted_kernel script;
    ring loop({}, script);
    scratch_folder scratch;
    std::string content;
    for (int i = 0; i < 3000; ++i) content += std::to_string(i) + ' ';
    scratch.write("file", content);
    const kevring::fd file(::open(scratch.path("file").c_str(), O_RDONLY | O_CLOEXEC));
    script.shorten(IORING_OP_READ, 700);
    auto body = [&]() -> task<void> {
        kevring::file_reader_options options;
        options.file_offset = 10;
        options.block_bytes = 1000;
        options.block_count = 3;
        kevring::file_reader reader(loop, file, options);
        std::string read;
        script.fail(IORING_OP_READ, EIO);  // the first block, which the next call repeats
        const auto failed = co_await reader.next();
        CHECK(failed.error() == std::errc::io_error);
        while (true) {
            const auto bytes = co_await reader.next();
            REQUIRE(bytes.has_value());
            if (bytes->empty()) break;
            // The reads of the two blocks behind this one have begun.
            if (read.empty()) CHECK(script.submitted(IORING_OP_READ) >= 3);
            read.append(reinterpret_cast<const char*>(bytes->data()), bytes->size());
        }
        CHECK(read == content.substr(10));
        CHECK(reader.file_offset() == content.size());
        const auto end = co_await reader.next();
        CHECK(end.value().empty());
    };
    run_on(loop, body);
}

TEST_CASE("a reader refuses offsets that no file has, and uses no position", "[runtime][files]") {
    const std::uint64_t offset =
        GENERATE((std::uint64_t{1} << 63), ~std::uint64_t{0} - 1, ~std::uint64_t{0});
    ring loop;
    const kevring::fd memory(::memfd_create("kevring", MFD_CLOEXEC));
    REQUIRE(::write(memory.number(), "0123456789", 10) == 10);
    REQUIRE(::lseek(memory.number(), 2, SEEK_SET) == 2);
    auto body = [&]() -> task<void> {
        kevring::file_reader_options options;
        options.file_offset = offset;
        options.block_bytes = 1;
        kevring::file_reader reader(loop, memory, options);
        const auto refused = co_await reader.next();
        CHECK(refused.error() == std::errc::invalid_argument);

        options.file_offset = INT64_MAX;
        kevring::file_reader last(loop, memory, options);
        const auto end = co_await last.next();
        CHECK((!end || end->empty()));
    };
    run_on(loop, body);
    CHECK(::lseek(memory.number(), 0, SEEK_CUR) == 2);
}

TEST_CASE("a reader that was moved from has no descriptor", "[runtime][files]") {
    ring loop;
    const kevring::fd memory(::memfd_create("kevring", MFD_CLOEXEC));
    REQUIRE(::write(memory.number(), "0123456789", 10) == 10);
    auto body = [&]() -> task<void> {
        kevring::file_reader source(loop, memory);
        kevring::file_reader target(std::move(source));
        const auto refused = co_await source.next();
        CHECK(refused.error() == std::errc::bad_file_descriptor);
        const auto bytes = co_await target.next();
        CHECK(bytes.value().size() == 10);
    };
    run_on(loop, body);
}

TEST_CASE("a reader of more blocks than memory can have uses some", "[runtime][files]") {
    ring loop;
    const kevring::fd memory(::memfd_create("kevring", MFD_CLOEXEC));
    REQUIRE(::write(memory.number(), "0123456789", 10) == 10);
    auto body = [&]() -> task<void> {
        kevring::file_reader_options options;
        options.block_bytes = 4;
        options.block_count = SIZE_MAX;
        kevring::file_reader reader(loop, memory, options);
        const auto first = co_await reader.next();
        CHECK(first.value().size() == 4);
    };
    run_on(loop, body);
}

TEST_CASE("a reader that is stopped or destroyed while it reads loses no byte and no memory",
          "[runtime][files]") {
    scripted_kernel script;
    ring loop({}, script);
    scratch_folder scratch;
    scratch.write("file", "content");
    const kevring::fd file(::open(scratch.path("file").c_str(), O_RDONLY | O_CLOEXEC));
    auto body = [&]() -> task<void> {
        kevring::file_reader reader(loop, file);
        script.hold(IORING_OP_READ);
        {
            const auto limit = co_await kevring::within(1ms);
            const auto stopped = co_await reader.next();
            CHECK(stopped.error() == std::errc::timed_out);
        }
        script.release();
        const auto bytes = co_await reader.next();
        CHECK(bytes.value().size() == 7);
        script.hold(IORING_OP_READ);
        {
            kevring::file_reader left(loop, file);
            const auto limit = co_await kevring::within(1ms);
            const auto stopped = co_await left.next();
            CHECK(stopped.error() == std::errc::timed_out);
        }
        script.release();
    };
    run_on(loop, body);
}
