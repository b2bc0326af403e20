// ranges.cpp: ranges at the limits of their numbers, and sources without a size. send_file()
// answers both with an error before the first byte, whatever the range, the path and the options.
#include "tests/sendfile/transfer_test.hpp"

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace kevring;
using namespace kevring::testing;

namespace {

constexpr std::uint64_t offset_max = std::numeric_limits<std::int64_t>::max();
constexpr std::uint64_t number_max = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t small_file_bytes = 10'000;
constexpr std::uint64_t large_file_bytes = 1'000'000;

file_version version_of(fd_ref file) {
    struct stat status{};
    REQUIRE(::fstat(file.number(), &status) == 0);
    return file_version::from_stat(status);
}

// The number of bytes that the socket has to give, without a wait.
std::size_t received_bytes(const stream_pair& ends) {
    char bytes[16];
    const ssize_t count = ::recv(ends.peer.number(), bytes, sizeof bytes, MSG_DONTWAIT);
    return count > 0 ? static_cast<std::size_t>(count) : 0;
}

send_report send_once(const stream_pair& ends, fd_ref file, file_range range,
                      const send_options& options) {
    send_report report;
    on_ring([&](ring& loop) -> task<void> {
        report = co_await send_file(loop, ends.local, file, range, options);
    });
    return report;
}

send_report try_once(const stream_pair& ends, fd_ref file, file_range range,
                     const send_options& options) {
    send_report report;
    on_ring([&](ring& loop) -> task<void> {
        report = try_send_file(loop, ends.local, file, range, options);
        co_return;
    });
    return report;
}

}  // namespace

TEST_CASE("a range that ends beyond the largest offset is refused before the first byte",
          "[sendfile][ranges]") {
    const std::uint64_t byte_count = GENERATE(small_file_bytes, large_file_bytes);
    const file_range range =
        GENERATE(file_range{10, number_max - 1}, file_range{10, number_max - 10},
                 file_range{10, number_max - 9}, file_range{number_max, 1},
                 file_range{number_max, file_range::to_end}, file_range{number_max - 5, 10},
                 file_range{offset_max + 1, 1}, file_range{offset_max + 1, 0},
                 file_range{offset_max + 1, file_range::to_end}, file_range{offset_max, 1},
                 file_range{1, offset_max}, file_range{0, offset_max + 1});
    const path_option path = any_path();
    const bool has_header = GENERATE(false, true);
    const bool has_version = GENERATE(false, true);
    INFO("offset " << range.offset << ", count " << range.count << ", " << text_of(path));
    const test_file file(pattern(byte_count));
    const stream_pair ends = stream_pair::unix_sockets();
    send_options options = forced_to(path);
    if (has_header) options.header = "header";
    if (has_version) options.expected = version_of(file.native());

    const send_report report = send_once(ends, file.native(), range, options);
    const send_report tried = try_once(ends, file.native(), range, options);

    CHECK(report.error == std::errc::invalid_argument);
    CHECK(report.bytes_sent == 0);
    const bool would_send = tried.error != std::errc::invalid_argument;
    CHECK_FALSE(would_send);
    CHECK(received_bytes(ends) == 0);
}

TEST_CASE("a range that ends beyond the file is refused before the first byte",
          "[sendfile][ranges]") {
    const std::uint64_t byte_count = GENERATE(small_file_bytes, large_file_bytes);
    const file_range range =
        GENERATE(file_range{1, 0}, file_range{0, 1}, file_range{1'000'000, 1},
                 file_range{offset_max - 1, 1}, file_range{10, offset_max - 10});
    const bool has_version = GENERATE(false, true);
    const file_range beyond{
        range.offset, range.count < 2 && range.offset < 2 ? range.count + byte_count : range.count};
    INFO("offset " << beyond.offset << ", count " << beyond.count << " of " << byte_count);
    const test_file file(pattern(byte_count));
    const stream_pair ends = stream_pair::unix_sockets();
    send_options options;
    options.header = "header";
    if (has_version) options.expected = version_of(file.native());

    const send_report report = send_once(ends, file.native(), beyond, options);

    CHECK(report.error == send_errc::file_shrank);
    CHECK(report.bytes_sent == 0);
    CHECK(received_bytes(ends) == 0);
}

TEST_CASE("a range that may stop at the end of the file takes any count", "[sendfile][ranges]") {
    const std::uint64_t count =
        GENERATE(number_max - 1, number_max - 9, offset_max, offset_max + 1, std::uint64_t{9'990});
    const test_file file(pattern(small_file_bytes));
    const stream_pair ends = stream_pair::unix_sockets();
    send_options options;
    options.stop_at_eof = true;
    const file_range range{10, count};

    const send_report report = send_once(ends, file.native(), range, options);

    CHECK_FALSE(report.error);
    CHECK(report.file_bytes == small_file_bytes - 10);
}

TEST_CASE("an offset at or beyond the end of the file sends no byte of it", "[sendfile][ranges]") {
    const std::uint64_t offset = GENERATE(small_file_bytes + 0, small_file_bytes + 1, offset_max);
    const test_file file(pattern(small_file_bytes));
    const stream_pair ends = stream_pair::unix_sockets();
    const file_range range{offset, file_range::to_end};

    const send_report report = send_once(ends, file.native(), range, send_options());

    CHECK_FALSE(report.error);
    CHECK(report.bytes_sent == 0);
    CHECK(received_bytes(ends) == 0);
}

namespace {

struct source {
    const char* name;
    fd file;
};

source open_source(std::string_view name) {
    if (name == "pipe") {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        const std::string bytes(10'000, 'x');
        REQUIRE(::write(ends[1], bytes.data(), bytes.size()) == 10'000);
        ::close(ends[1]);
        return {"pipe", fd(ends[0])};
    }
    if (name == "socket") {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        REQUIRE(::write(ends[1], "some bytes", 10) == 10);
        ::close(ends[1]);
        return {"socket", fd(ends[0])};
    }
    return {name.data(), fd(::open(name.data(), O_RDONLY | O_CLOEXEC))};
}

}  // namespace

TEST_CASE("a source without a size is refused, whatever the range", "[sendfile][ranges]") {
    const char* const name =
        GENERATE("pipe", "socket", "/dev/zero", "/dev/null", "/proc/self/status", "/proc/self/maps",
                 "/sys/kernel/mm/transparent_hugepage/enabled");
    const file_range range =
        GENERATE(file_range{}, file_range{0, 1}, file_range{0, 10}, file_range{0, 4096},
                 file_range{0, 40'000}, file_range{0, 1'000'000}, file_range{0, offset_max},
                 file_range{5, file_range::to_end}, file_range{100'000, file_range::to_end});
    const path_option path = any_path();
    const bool stops_at_end = GENERATE(false, true);
    const bool has_version = GENERATE(false, true);
    const source from = open_source(name);
    if (!from.file.valid()) return;  // not on this system
    INFO(name << ", offset " << range.offset << ", count " << range.count << ", " << text_of(path));
    const bool is_sysfs = std::string_view(name).starts_with("/sys/");
    // Files of sysfs have 4096 bytes by their size; a range within their content is theirs.
    if (is_sysfs && (range.count < 4096 || range.offset > 0)) return;
    // A caller that has the version of the file is responsible for a range within its size.
    if (is_sysfs && has_version && !stops_at_end && range.count == 4096) return;
    const stream_pair ends = stream_pair::unix_sockets();
    send_options options = forced_to(path);
    options.header = "header";
    options.stop_at_eof = stops_at_end;
    if (has_version) options.expected = version_of(from.file);

    const send_report report = send_once(ends, from.file, range, options);

    CHECK(report.error == std::errc::invalid_argument);
    CHECK(report.bytes_sent == 0);
    CHECK(received_bytes(ends) == 0);
}

TEST_CASE("an empty file is sent as it is", "[sendfile][ranges]") {
    const test_file file("");
    const stream_pair ends = stream_pair::unix_sockets();
    send_options options;
    options.header = "header";

    const send_report report = send_once(ends, file.native(), whole, options);

    CHECK_FALSE(report.error);
    CHECK(report.bytes_sent == 6);
}

TEST_CASE("a header that no memory can hold is refused before the first byte",
          "[sendfile][ranges]") {
    const test_file file(pattern(small_file_bytes));
    const stream_pair ends = stream_pair::unix_sockets();
    const std::byte first{};
    const std::size_t byte_count = GENERATE(SIZE_MAX, std::size_t{SSIZE_MAX} + 1);
    const std::array<std::span<const std::byte>, 2> parts{std::span(&first, byte_count),
                                                          std::span(&first, byte_count)};
    send_options options;
    options.header = send_buffers(std::span<const std::span<const std::byte>>(parts));

    const send_report report = send_once(ends, file.native(), whole, options);

    CHECK(report.error == std::errc::invalid_argument);
    CHECK(report.bytes_sent == 0);
}
