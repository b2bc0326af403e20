// Buffers that are registered with a ring, and what happens where the kernel registers none.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/fixed_buffer_pool.hpp>
#include <kevring/runtime/operations/read.hpp>

#include <algorithm>
#include <cerrno>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

using kevring::fd;
using kevring::fixed_buffer;
using kevring::fixed_buffer_pool;
using kevring::fixed_buffer_pool_options;
using kevring::read_fixed_operation;
using kevring::ring;
using kevring::task;

namespace {

constexpr fixed_buffer_pool_options small{.buffer_bytes = 8192, .buffer_count_max = 3};
constexpr std::int64_t second_ns = 1'000'000'000;

// The limit on locked memory is shared by all that a user runs: then there is nothing to see.
bool kernel_refuses(const fixed_buffer_pool& pool) {
    if (!pool.last_error()) return false;
    WARN("skipped: the kernel registers no buffer here: " << pool.last_error().message());
    return true;
}

std::vector<fixed_buffer> take_all(fixed_buffer_pool& pool) {
    std::vector<fixed_buffer> all;
    while (fixed_buffer one = pool.try_acquire()) all.push_back(std::move(one));
    return all;
}

}  // namespace

TEST_CASE("a fixed buffer is read into by its number", "[runtime][fixed_buffer]") {
    ring loop;
    const fd file(::memfd_create("kevring-test", MFD_CLOEXEC));
    const std::string text = "some bytes of a file";
    REQUIRE(::pwrite(file.number(), text.data(), text.size(), 0) == 20);
    auto body = [&]() -> task<void> {
        fixed_buffer_pool pool(loop, small);
        const std::vector<fixed_buffer> held = take_all(pool);
        if (kernel_refuses(pool)) co_return;
        for (const fixed_buffer& each : held) {
            std::fill(each.bytes().begin(), each.bytes().end(), std::byte{'-'});
            read_fixed_operation read(loop, file, each, each.bytes().subspan(100, 5), 5);
            const auto got = co_await read;

            REQUIRE(got.has_value());
            CHECK(*got == 5);
            const auto* const begin = reinterpret_cast<const char*>(each.bytes().data());
            CHECK(std::string_view(begin + 99, 7) == "-bytes-");
        }
    };
    run_on(loop, body);
}

TEST_CASE("as many fixed buffers go out as the pool may have, and no two are one",
          "[runtime][fixed_buffer]") {
    ring loop;
    auto body = [&]() -> task<void> {
        fixed_buffer_pool pool(loop, small);
        CHECK(pool.buffer_count() == 0);  // nothing is locked before it is needed

        const std::vector<fixed_buffer> held = take_all(pool);
        if (kernel_refuses(pool)) co_return;
        REQUIRE(held.size() == 3);
        CHECK(pool.buffer_count() == 3);
        CHECK(pool.in_use_count() == 3);
        std::set<const std::byte*> begins;
        std::set<unsigned> indexes;
        for (const fixed_buffer& each : held) {
            CHECK(each.bytes().size() == 8192);
            begins.insert(each.bytes().data());
            indexes.insert(each.index());
        }
        CHECK(begins.size() == 3);
        CHECK(indexes.size() == 3);
        CHECK_FALSE(pool.try_acquire());
        CHECK_FALSE(pool.last_error());  // to reach the limit is no error
        co_return;
    };
    run_on(loop, body);
}

TEST_CASE("a returned fixed buffer is lent again without a call of the kernel",
          "[runtime][fixed_buffer]") {
    scripted_kernel system;
    ring loop({}, system);
    auto body = [&]() -> task<void> {
        fixed_buffer_pool pool(loop, small);
        const std::byte* first = nullptr;
        {
            const fixed_buffer one = pool.try_acquire();
            if (kernel_refuses(pool)) co_return;
            first = one.bytes().data();
        }
        CHECK(pool.in_use_count() == 0);

        for (int i = 0; i < 10; ++i) {
            const fixed_buffer again = pool.try_acquire();
            CHECK(again.bytes().data() == first);
            CHECK(pool.in_use_count() == 1);
        }
        CHECK(pool.buffer_count() == 1);
        CHECK(system.registered(IORING_REGISTER_BUFFERS2) == 1);
        CHECK(system.registered(IORING_REGISTER_BUFFERS_UPDATE) == 1);
        co_return;
    };
    run_on(loop, body);
}

TEST_CASE("a kernel that registers no buffer is asked again after a second",
          "[runtime][fixed_buffer]") {
    const unsigned refused =
        GENERATE(unsigned{IORING_REGISTER_BUFFERS2}, unsigned{IORING_REGISTER_BUFFERS_UPDATE});
    const int error = GENERATE(ENOMEM, EINVAL, EBUSY);
    scripted_kernel system;
    system.clock_ns = second_ns;
    system.register_errors[refused] = error;
    ring loop({}, system);
    auto body = [&]() -> task<void> {
        fixed_buffer_pool pool(loop, small);
        CHECK_FALSE(pool.try_acquire());
        CHECK(pool.last_error() == std::error_code(error, std::system_category()));
        CHECK(pool.buffer_count() == 0);
        CHECK(pool.in_use_count() == 0);

        system.register_errors.clear();
        CHECK_FALSE(pool.try_acquire());
        CHECK(system.registered(refused) == 1);
        *system.clock_ns += second_ns;
        const fixed_buffer one = pool.try_acquire();
        if (kernel_refuses(pool)) co_return;
        CHECK(one);
        CHECK(pool.buffer_count() == 1);
        co_return;
    };
    run_on(loop, body);
}

TEST_CASE("a pool without any buffer left out gives its table back", "[runtime][fixed_buffer]") {
    ring loop;
    auto body = [&]() -> task<void> {
        for (int i = 0; i < 2; ++i) {
            fixed_buffer_pool pool(loop, small);
            const fixed_buffer one = pool.try_acquire();
            if (kernel_refuses(pool)) co_return;
            CHECK(one);
        }
        co_return;
    };
    run_on(loop, body);
}

// The holder of a buffer may have it in a request that the kernel has not completed.
TEST_CASE("a fixed buffer outlives its pool, and its ring", "[runtime][fixed_buffer]") {
    fixed_buffer last;
    {
        ring loop;
        auto body = [&]() -> task<void> {
            {
                fixed_buffer_pool pool(loop, small);
                last = pool.try_acquire();
                if (kernel_refuses(pool)) co_return;
            }
            fixed_buffer_pool other(loop, small);
            CHECK_FALSE(other.try_acquire());
            CHECK(other.last_error() == std::errc::device_or_resource_busy);
            co_return;
        };
        run_on(loop, body);
    }
    std::fill(last.bytes().begin(), last.bytes().end(), std::byte{'x'});
    CHECK(std::count(last.bytes().begin(), last.bytes().end(), std::byte{'x'}) ==
          static_cast<std::ptrdiff_t>(last.bytes().size()));
}

TEST_CASE("a pool of no or too many fixed buffers cannot be created", "[runtime][fixed_buffer]") {
    ring loop;
    const fixed_buffer_pool_options wrong =
        GENERATE(fixed_buffer_pool_options{0, 1}, fixed_buffer_pool_options{4096, 0},
                 fixed_buffer_pool_options{4096, 16385},
                 fixed_buffer_pool_options{(std::size_t{1} << 30) + 1, 1});
    CHECK_THROWS_AS(fixed_buffer_pool(loop, wrong), std::invalid_argument);
}
