#include "tests/sendfile/transfer_test.hpp"

#include <kevring/sendfile/detail/window_pool.hpp>

using namespace kevring;
using namespace kevring::testing;

namespace {

// Unix sockets know no zero copy: the path is refused, and another takes over.
bool is_refused(path_option path, const stream_pair& ends) {
    int domain = 0;
    socklen_t size = sizeof domain;
    ::getsockopt(ends.local.number(), SOL_SOCKET, SO_DOMAIN, &domain, &size);
    return path == send_path::zero_copy && domain == AF_UNIX;
}

}  // namespace

TEST_CASE("a file arrives whole on every path, whatever its size", "[sendfile]") {
    const path_option path = any_path();
    const std::size_t size = GENERATE(0U, 1U, 4095U, 32768U, 32769U, 262144U, 1000001U, 3145728U);
    stream_pair ends = any_stream();
    INFO(text_of(path) << ", " << size << " bytes");
    const std::string bytes = pattern(size);
    const test_file file(bytes);

    const exchange got = send_over(ends, file.native(), whole, forced_to(path), bytes.size());

    CHECK(got.report.error == std::error_code{});
    CHECK(got.report.bytes_sent == size);
    CHECK(got.report.file_bytes == size);
    CHECK(difference(got.received, bytes).empty());
    if (path && size > 0 && !is_refused(path, ends)) {
        CHECK(name_of(got.report.path()) == name_of(*path));
        CHECK(got.report.reason() == send_reason::forced);
    }
    CHECK(detail::window_buffer::in_use_count() == 0);
}

TEST_CASE("header, range and trailer arrive in this order", "[sendfile]") {
    const path_option path = any_path();
    const std::uint64_t count = GENERATE(0U, 100U, 32768U, 700000U);
    stream_pair ends = any_stream();
    INFO(text_of(path) << ", " << count << " bytes");
    const std::string bytes = pattern(800000);
    const test_file file(bytes);
    const std::string header = pattern(200, 2);
    const std::string trailer = pattern(77, 3);

    send_options options = forced_to(path);
    options.header = std::string_view(header);
    options.trailer = std::string_view(trailer);
    const file_range range{500, count};
    const std::string wanted = header + bytes.substr(500, count) + trailer;
    const exchange got = send_over(ends, file.native(), range, options, wanted.size());

    CHECK(got.report.error == std::error_code{});
    CHECK(got.report.bytes_sent == wanted.size());
    CHECK(got.report.file_bytes == count);
    CHECK(difference(got.received, wanted).empty());
}

TEST_CASE("a header of many and of large buffers arrives whole", "[sendfile]") {
    const path_option path = any_path();
    stream_pair ends = any_stream();
    INFO(text_of(path));
    std::vector<std::string> texts;
    for (std::uint32_t i = 0; i < 50; ++i) texts.push_back(pattern(i % 7 == 0 ? 0 : i * 211, i));
    std::vector<std::span<const std::byte>> buffers;
    std::string wanted;
    for (const std::string& text : texts) {
        buffers.push_back(std::as_bytes(std::span(text)));
        wanted += text;
    }
    const std::string bytes = pattern(70000);
    const test_file file(bytes);
    wanted += bytes + wanted;

    send_options options = forced_to(path);
    options.header = send_buffers(std::span<const std::span<const std::byte>>(buffers));
    options.trailer = options.header;
    const exchange got = send_over(ends, file.native(), whole, options, wanted.size());

    CHECK(got.report.error == std::error_code{});
    CHECK(difference(got.received, wanted).empty());
}

TEST_CASE("a cold file arrives whole on every path", "[sendfile][cold]") {
    const path_option path = any_path();
    const std::size_t size = GENERATE(10000U, 300000U, 2500000U);
    stream_pair ends = stream_pair::tcp();
    INFO(text_of(path) << ", " << size << " bytes");
    const std::string bytes = pattern(size);
    const test_file file(bytes);
    file.make_cold();

    send_options options = forced_to(path);
    options.hint = GENERATE(cache_hint::none, cache_hint::sequential, cache_hint::will_need,
                            cache_hint::drop_after);
    const exchange got = send_over(ends, file.native(), whole, options, bytes.size());

    CHECK(got.report.error == std::error_code{});
    CHECK(difference(got.received, bytes).empty());
}

TEST_CASE("an end of the file before the range ends is an error, not a short success",
          "[sendfile]") {
    const path_option path = any_path();
    const std::size_t size = GENERATE(1000U, 300000U);
    INFO(text_of(path) << ", " << size << " bytes");
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(size);
    const test_file file(bytes);

    const file_range range{0, size + 1};
    const exchange got = send_over(ends, file.native(), range, forced_to(path), size);

    CHECK(got.report.error == send_errc::file_shrank);
    CHECK(got.received.size() <= size);
}

TEST_CASE("a range beyond the end stops there when that was asked for", "[sendfile]") {
    const path_option path = any_path();
    INFO(text_of(path));
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(2000);
    const test_file file(bytes);

    send_options options = forced_to(path);
    options.stop_at_eof = true;
    const std::uint64_t offset = GENERATE(500U, 2000U, 5000U);
    const std::string wanted = offset < 2000 ? bytes.substr(offset) : "";
    const file_range range{offset, 100000};
    const exchange got = send_over(ends, file.native(), range, options, wanted.size());

    CHECK(got.report.error == std::error_code{});
    CHECK(difference(got.received, wanted).empty());
}

TEST_CASE("a rate is kept to", "[sendfile]") {
    const path_option path = any_path();
    INFO(text_of(path));
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(100000);
    const test_file file(bytes);

    on_ring([&](ring& loop) -> task<void> {
        send_options options = forced_to(path);
        options.bytes_per_second_max = 1'000'000;
        const std::int64_t begin_ns = loop.now_ns();
        const exchange got =
            co_await send_and_receive(loop, ends, file.native(), whole, options, bytes.size());
        const std::int64_t took_ns = loop.now_ns() - begin_ns;

        CHECK(difference(got.received, bytes).empty());
        CHECK(took_ns >= 50'000'000);  // the second half cannot go earlier
    });
}

TEST_CASE("a source that is not a regular file is refused", "[sendfile]") {
    stream_pair ends = stream_pair::tcp();
    const fd folder(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));

    on_ring([&](ring& loop) -> task<void> {
        const send_report from_folder = co_await send_file(loop, ends.local, folder);
        const send_report from_null = co_await send_file(loop, ends.local, null);

        CHECK(from_folder.error == std::errc::is_a_directory);
        CHECK(from_null.error == std::errc::invalid_argument);
    });
}
