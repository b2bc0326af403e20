#include "tests/support/catch.hpp"

#include <kevring/runtime/clock.hpp>
#include <kevring/sendfile/send_plan.hpp>

using namespace kevring;

TEST_CASE("a step through memory holds header, file and trailer if they fit", "[sendfile][plan]") {
    const send_plan plan(10, {100, 1000}, 5);

    const send_step step = plan.gathered(4096);

    CHECK(step.header_bytes == 10);
    CHECK(step.file_offset == 100);
    CHECK(step.file_bytes == 1000);
    CHECK(step.trailer_bytes == 5);
    CHECK(step.ends_file);
    CHECK_FALSE(step.more);
}

TEST_CASE("the trailer waits for the end of the file", "[sendfile][plan]") {
    send_plan plan(10, {100, 1000}, 5);

    const send_step first = plan.gathered(600);
    CHECK(first.header_bytes == 10);
    CHECK(first.file_bytes == 600);
    CHECK(first.trailer_bytes == 0);
    CHECK(first.more);
    CHECK_FALSE(first.ends_file);

    plan.advance(first.byte_count());
    const send_step second = plan.gathered(600);
    CHECK(second.header_bytes == 0);
    CHECK(second.file_offset == 700);
    CHECK(second.file_bytes == 400);
    CHECK(second.trailer_bytes == 5);
    CHECK_FALSE(second.more);
    CHECK(second.ends_file);
}

TEST_CASE("a step of the kernel's own holds one part", "[sendfile][plan]") {
    send_plan plan(10, {0, 100}, 5);

    CHECK(plan.in_header_or_trailer());
    CHECK(plan.single(1000).header_bytes == 10);
    CHECK(plan.single(1000).file_bytes == 0);
    CHECK(plan.single(1000).more);
    plan.advance(10);
    CHECK_FALSE(plan.in_header_or_trailer());
    CHECK(plan.single(1000).header_bytes == 0);
    CHECK(plan.single(1000).file_bytes == 100);
    CHECK(plan.single(1000).trailer_bytes == 0);
    CHECK(plan.single(1000).more);
    CHECK(plan.single(0).byte_count() == 0);
    plan.advance(100);
    CHECK(plan.in_header_or_trailer());
    CHECK(plan.single(1000).trailer_bytes == 5);
    CHECK_FALSE(plan.single(1000).more);
    plan.advance(5);
    CHECK(plan.done());
}

TEST_CASE("a plan can end with a file that became shorter, but not before what was sent",
          "[sendfile][plan]") {
    const std::uint64_t end = GENERATE(50U, 300U, 900U, 2000U);
    send_plan plan(10, {100, 1000}, 5);
    plan.advance(10 + 400);

    plan.end_file_at(end);

    const std::uint64_t left = end == 900 ? 400 : end == 2000 ? 600 : 0;
    CHECK(plan.file_sent() == 400);
    CHECK(plan.file_left() == left);
    CHECK(plan.trailer_left() == 5);
}

// The kernel may stop anywhere; the next step begins with the byte after.
TEST_CASE("a plan continues from any byte", "[sendfile][plan]") {
    constexpr std::size_t header = 7;
    constexpr std::uint64_t offset = 30;
    constexpr std::uint64_t count = 20;
    constexpr std::size_t trailer = 3;
    for (std::uint64_t sent = 0; sent <= header + count + trailer; ++sent) {
        send_plan plan(header, {offset, count}, trailer);
        plan.advance(sent);

        CHECK(plan.bytes_sent() == sent);
        CHECK(plan.header_sent() + plan.file_sent() + plan.trailer_sent() == sent);
        CHECK(plan.bytes_left() == header + count + trailer - sent);
        CHECK(plan.file_offset() == offset + plan.file_sent());
        const send_step rest = plan.gathered(count);
        CHECK(rest.byte_count() == plan.bytes_left());
        CHECK_FALSE(rest.more);
        CHECK(plan.done() == (sent == header + count + trailer));
    }
}

TEST_CASE("a file of no bytes leaves header and trailer", "[sendfile][plan]") {
    const send_plan plan(4, {9, 0}, 2);

    const send_step step = plan.gathered(100);

    CHECK(step.byte_count() == 6);
    CHECK_FALSE(step.ends_file);
    CHECK_FALSE(step.more);
}

TEST_CASE("a pace says when bytes are due", "[sendfile][plan]") {
    const send_pace free(0, 500);
    CHECK_FALSE(free.limited());
    CHECK(free.step_bytes_max(4096) == 4096);
    CHECK(free.due_ns(1'000'000'000) == 500);

    const send_pace slow(1000, 500);
    CHECK(slow.step_bytes_max(4096) == 50);
    CHECK(slow.due_ns(0) == 500);
    CHECK(slow.due_ns(2500) == 2'500'000'500);
    CHECK(send_pace(1, 0).step_bytes_max(4096) == 1);
    CHECK(send_pace(1, 0).due_ns(~std::uint64_t{0}) == never_ns);
}
