// A read into no memory is an error: the result 0 would mean the end of the file.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/fixed_buffer_pool.hpp>
#include <kevring/runtime/operations/read.hpp>

#include <array>
#include <span>

#include <fcntl.h>

using kevring::ring;
using kevring::task;

TEST_CASE("a read into an empty buffer is an invalid argument", "[runtime][read]") {
    ring loop;
    const kevring::fd file(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    auto body = [&]() -> task<void> {
        const std::span<std::byte> empty;
        kevring::read_operation read(loop, file, empty);
        const auto nothing = co_await read;
        CHECK(nothing.error() == std::errc::invalid_argument);

        std::array<std::byte, 4> buffer{};
        kevring::read_operation other(loop, file, buffer);
        const auto some = co_await other;
        CHECK(some.value() == buffer.size());

        auto& pool = loop.service<kevring::fixed_buffer_pool>();
        const kevring::fixed_buffer registered = pool.try_acquire();
        if (!registered) co_return;  // no locked memory
        kevring::read_fixed_operation fixed(loop, file, registered, registered.bytes().first(0));
        const auto none = co_await fixed;
        CHECK(none.error() == std::errc::invalid_argument);
    };
    run_on(loop, body);
}
