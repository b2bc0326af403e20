#include "tests/kevent/kevent_fixture.hpp"
#include "tests/sendfile/transfer_test.hpp"

#include <array>
#include <climits>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include <sys/ioctl.h>
#include <sys/uio.h>

using kevent_test::is_broken;
using kevent_test::is_done;
using kevring::testing::difference;
using kevring::testing::more_than_a_socket_holds;
using kevring::testing::narrowed;
using kevring::testing::pattern;
using kevring::testing::stream_pair;
using kevring::testing::test_file;

namespace {

// All that comes until the peer ends or `byte_count` are there.
std::string read_bytes(const kevring::fd& from, std::size_t byte_count) {
    const timeval receive_timeout{60, 0};
    ::setsockopt(from.number(), SOL_SOCKET, SO_RCVTIMEO, &receive_timeout, sizeof receive_timeout);
    std::string bytes(byte_count, '\0');
    std::size_t got = 0;
    while (got < byte_count) {
        const ssize_t some = ::recv(from.number(), bytes.data() + got, byte_count - got, 0);
        if (some <= 0) break;
        got += static_cast<std::size_t>(some);
    }
    bytes.resize(got);
    return bytes;
}

std::uint64_t byte_count_of(const ukevent& record) {
    return record.ret_data[0] | std::uint64_t{record.ret_data[1]} << 32;
}

// Reads the first bytes, so that the transfer is surely in the middle.
void wait_for_first_bytes(const stream_pair& ends) {
    CHECK(read_bytes(ends.peer, 1000).size() == 1000);
}

bool is_nonblocking(int number) { return (::fcntl(number, F_GETFL) & O_NONBLOCK) != 0; }

}  // namespace

TEST_CASE("the record of a transfer has the cookie and the bytes sent", "[sendfile][aio][K-115]") {
    kevent_test::queue q;
    stream_pair ends = GENERATE(true, false) ? stream_pair::tcp() : stream_pair::unix_sockets();
    const std::string bytes = pattern(more_than_a_socket_holds);
    const test_file file(bytes);

    const long cookie =
        aio_sendfile(q.number(), ends.local.number(), file.native().number(), 0, bytes.size());
    REQUIRE(cookie > 0);
    CHECK(difference(read_bytes(ends.peer, bytes.size()), bytes).empty());
    const ukevent record = q.get_one();

    CHECK(record.type == KEVENT_AIO);
    CHECK(record.event == KEVENT_MASK_ALL);
    CHECK(record.req_flags == (KEVENT_REQ_ONESHOT | KEVENT_REQ_ALWAYS_QUEUE));
    CHECK(record.ptr == reinterpret_cast<void*>(cookie));
    CHECK(record.id.raw_u64 == static_cast<std::uint64_t>(cookie));
    CHECK(is_done(record));
    CHECK(byte_count_of(record) == bytes.size());
    CHECK(q.has_no_event());
}

TEST_CASE("cookies of one queue differ", "[sendfile][aio]") {
    kevent_test::queue q;
    stream_pair ends = stream_pair::tcp();
    const test_file file("ab");
    const auto begin = [&] {
        return aio_sendfile(q.number(), ends.local.number(), file.native().number(), 0, 2);
    };

    const long first = begin();
    const long second = begin();

    REQUIRE(first > 0);
    REQUIRE(second > 0);
    CHECK(first != second);
    CHECK(q.get(2).size() == 2);
}

TEST_CASE("offset and count are kept to, and a short file ends where it ends",
          "[sendfile][aio][K-116]") {
    kevent_test::queue q;
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(2000);
    const test_file file(bytes);
    const int from = file.native().number();
    const int to = ends.local.number();

    REQUIRE(aio_sendfile(q.number(), to, from, 500, 1000) > 0);
    CHECK(byte_count_of(q.get_one()) == 1000);
    CHECK(read_bytes(ends.peer, 1000) == bytes.substr(500, 1000));

    REQUIRE(aio_sendfile(q.number(), to, from, 1500, 1000) > 0);
    CHECK(byte_count_of(q.get_one()) == 500);
    CHECK(read_bytes(ends.peer, 500) == bytes.substr(1500));

    REQUIRE(aio_sendfile(q.number(), to, from, 2000, 1000) > 0);
    const ukevent nothing = q.get_one();
    CHECK(is_done(nothing));
    CHECK(byte_count_of(nothing) == 0);
}

TEST_CASE("a reset in mid-transfer gives one record, broken", "[sendfile][aio][K-117]") {
    kevent_test::queue q;
    stream_pair ends = narrowed(stream_pair::tcp());
    const test_file file(pattern(more_than_a_socket_holds));
    REQUIRE(aio_sendfile(q.number(), ends.local.number(), file.native().number(), 0,
                         more_than_a_socket_holds) > 0);
    wait_for_first_bytes(ends);

    ends.reset_far();
    const ukevent record = q.get_one();

    CHECK(is_broken(record));
    const auto error = static_cast<std::int32_t>(record.ret_data[1]);
    const bool says_why = error == -ECONNRESET || error == -EPIPE;
    CHECK(says_why);
    CHECK(record.ret_data[0] >= 1000);
    CHECK(record.ret_data[0] < more_than_a_socket_holds);
    CHECK(q.has_no_event());
}

TEST_CASE("both descriptors may be closed straight after the call", "[sendfile][aio][K-118]") {
    kevent_test::queue q;
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(more_than_a_socket_holds);
    const test_file file(bytes);
    kevring::fd copy(::dup(file.native().number()));

    REQUIRE(aio_sendfile(q.number(), ends.local.number(), copy.number(), 0, bytes.size()) > 0);
    copy.reset();
    ends.local.reset();

    // One more: the peer sees the end as soon as the transfer gives the socket back.
    CHECK(difference(read_bytes(ends.peer, bytes.size() + 1), bytes).empty());
    CHECK(byte_count_of(q.get_one()) == bytes.size());
}

TEST_CASE("a file that is cut on the way ends the transfer at its new end, and no other",
          "[sendfile][aio][K-116]") {
    kevent_test::queue q;
    stream_pair ends = narrowed(stream_pair::tcp());
    const std::string bytes = pattern(more_than_a_socket_holds);
    const std::size_t left = more_than_a_socket_holds - 5000;
    const test_file cut(bytes);
    const test_file whole(bytes);
    char text[] = "tail";
    const iovec tail{text, 4};
    const auto send = [&](const test_file& file, std::size_t offset, std::size_t count) {
        REQUIRE(aio_sendfilev(q.number(), ends.local.number(), nullptr, 0, file.native().number(),
                              static_cast<off_t>(offset), count, &tail, 1, nullptr) > 0);
    };
    send(cut, 0, bytes.size());
    send(cut, left - 100, 5100);
    send(whole, 0, 1000);
    std::string got = read_bytes(ends.peer, 1000);

    cut.truncate(static_cast<off_t>(left));
    const std::string wanted = bytes.substr(0, left) + "tail" + bytes.substr(left - 100, 100) +
                               "tail" + bytes.substr(0, 1000) + "tail";
    got += read_bytes(ends.peer, wanted.size() - got.size());

    CHECK(difference(got, wanted).empty());
    const auto records = q.get(3);
    REQUIRE(records.size() == 3);
    for (const ukevent& each : records) CHECK(is_done(each));
    CHECK(byte_count_of(records[0]) == left + 4);
    CHECK(byte_count_of(records[1]) == 104);
    CHECK(byte_count_of(records[2]) == 1004);
}

TEST_CASE("a file that is cut behind the range of a transfer does not concern it",
          "[sendfile][aio]") {
    kevent_test::queue q;
    stream_pair ends = narrowed(stream_pair::tcp());
    const std::string bytes = pattern(more_than_a_socket_holds);
    const test_file file(bytes + "more");
    REQUIRE(aio_sendfile(q.number(), ends.local.number(), file.native().number(), 0, bytes.size()) >
            0);
    std::string got = read_bytes(ends.peer, 1000);

    file.truncate(more_than_a_socket_holds + 1);
    got += read_bytes(ends.peer, bytes.size() - got.size());

    CHECK(difference(got, bytes).empty());
    CHECK(is_done(q.get_one()));
}

TEST_CASE("a transfer has one event, whatever MODIFY says", "[sendfile][aio]") {
    kevent_test::queue q;
    stream_pair ends = stream_pair::tcp();
    const test_file file("abc");
    const long cookie = aio_sendfile(q.number(), ends.local.number(), file.native().number(), 0, 3);
    ukevent key = kevent_test::record(KEVENT_AIO, 0, KEVENT_MASK_ALL);
    key.id.raw_u64 = static_cast<std::uint64_t>(cookie);

    REQUIRE(is_done(q.modify(key)));

    CHECK(q.get_one().req_flags == KEVENT_REQ_ONESHOT);
    CHECK(q.ctl(KEVENT_CTL_MODIFY, key) == -EINVAL);  // no registration is left
    CHECK(q.has_no_event());
}

TEST_CASE("READY of a transfer tells how it has ended, or nothing", "[sendfile][aio]") {
    kevent_test::queue q;
    stream_pair ends = narrowed(stream_pair::tcp());
    const std::string bytes = pattern(more_than_a_socket_holds);
    const test_file file(bytes);
    const auto send = [&](std::size_t count) {
        const long cookie =
            aio_sendfile(q.number(), ends.local.number(), file.native().number(), 0, count);
        REQUIRE(cookie > 0);
        ukevent key = kevent_test::record(KEVENT_AIO, 0, KEVENT_MASK_EMPTY);
        key.id.raw_u64 = static_cast<std::uint64_t>(cookie);
        return key;
    };
    const ukevent first = send(bytes.size());
    REQUIRE(is_done(q.modify(first)));  // no event reports its end
    wait_for_first_bytes(ends);

    SECTION("it has sent all") {
        CHECK(read_bytes(ends.peer, bytes.size() - 1000).size() == bytes.size() - 1000);
        send(1);
        CHECK(is_done(q.get_one()));
        REQUIRE(q.ready(first) == 1);
        const ukevent record = q.get_one();
        CHECK(is_done(record));
        CHECK(byte_count_of(record) == bytes.size());
    }
    SECTION("it has failed") {
        send(1);
        ends.reset_far();
        CHECK(is_broken(q.get_one()));
        REQUIRE(q.ready(first) == 1);
        const ukevent record = q.get_one();
        CHECK(is_broken(record));
        CHECK(record.ret_data[0] >= 1000);
        CHECK(kevent_test::error_of(record) < 0);
    }
    SECTION("it is in flight, and continues") {
        REQUIRE(q.ready(first) == 1);
        const ukevent record = q.get_one();
        CHECK(is_done(record));
        CHECK(byte_count_of(record) == 0);
        CHECK(read_bytes(ends.peer, bytes.size() - 1000).size() == bytes.size() - 1000);
    }
    CHECK(q.has_no_event());
}

TEST_CASE("a path is opened, sent, and its descriptor handed over", "[sendfile][aio][K-119]") {
    kevent_test::queue q;
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(3000);
    const test_file file(bytes);

    const long opened =
        aio_sendfile_path(q.number(), ends.local.number(), file.name().c_str(), 0, bytes.size());
    REQUIRE(opened >= 0);
    const kevring::fd owned(static_cast<int>(opened));
    CHECK((::fcntl(owned.number(), F_GETFL) & O_ACCMODE) == O_RDONLY);
    CHECK(byte_count_of(q.get_one()) == bytes.size());
    CHECK(read_bytes(ends.peer, bytes.size()) == bytes);

    CHECK(aio_sendfile_path(q.number(), ends.local.number(), "/no/such/file", 0, 1) == -ENOENT);
    CHECK(q.has_no_event());
}

TEST_CASE("two transfers with headers on one socket follow one another", "[sendfile][aio][K-120]") {
    kevent_test::queue q;
    stream_pair ends = stream_pair::tcp();
    const std::string first = pattern(more_than_a_socket_holds, 1);
    const std::string second = pattern(70000, 2);
    const test_file first_file(first);
    const test_file second_file(second);
    // The same socket under another number is the same socket.
    const kevring::fd other_number(::dup(ends.local.number()));
    char text[] = "header-of-";
    char one[] = "one";
    char two[] = "two";
    char tail[] = "tail";
    const iovec header_one[] = {{text, 10}, {one, 3}};
    const iovec header_two[] = {{text, 10}, {two, 3}};
    const iovec trailer[] = {{tail, 4}};
    int user = 0;

    REQUIRE(aio_sendfilev(q.number(), ends.local.number(), header_one, 2,
                          first_file.native().number(), 0, first.size(), trailer, 1, &user) > 0);
    REQUIRE(aio_sendfilev(q.number(), other_number.number(), header_two, 2,
                          second_file.native().number(), 0, second.size(), nullptr, 0,
                          nullptr) > 0);
    // The calls have copied them.
    for (const iovec& each : {iovec{text, 10}, iovec{one, 3}, iovec{two, 3}, iovec{tail, 4}})
        std::memset(each.iov_base, '?', each.iov_len);

    const std::string wanted = "header-of-one" + first + "tail" + "header-of-two" + second;
    CHECK(difference(read_bytes(ends.peer, wanted.size()), wanted).empty());
    const auto records = q.get(2);
    REQUIRE(records.size() == 2);
    CHECK(records[0].ptr == &user);
    CHECK(byte_count_of(records[0]) == first.size() + 17);
    CHECK(byte_count_of(records[1]) == second.size() + 13);
}

TEST_CASE("a full socket is waited for, blocking or not, and stays as it was",
          "[sendfile][aio][K-121]") {
    kevent_test::queue q;
    stream_pair ends = narrowed(stream_pair::tcp());
    const bool nonblocking = GENERATE(true, false);
    if (nonblocking) ::fcntl(ends.local.number(), F_SETFL, O_RDWR | O_NONBLOCK);
    const std::string bytes = pattern(more_than_a_socket_holds);
    const test_file file(bytes);

    REQUIRE(aio_sendfile(q.number(), ends.local.number(), file.native().number(), 0, bytes.size()) >
            0);
    std::vector<ukevent> none(1);
    const timespec soon = kevent_test::milliseconds(50);
    CHECK(kevent_get_events(q.number(), 1, 1, soon, none.data(), 0) == 0);
    CHECK(is_nonblocking(ends.local.number()) == nonblocking);

    CHECK(difference(read_bytes(ends.peer, bytes.size()), bytes).empty());
    CHECK(byte_count_of(q.get_one()) == bytes.size());
}

TEST_CASE("a socket that becomes blocking during its transfer delays no other one",
          "[sendfile][aio]") {
    kevent_test::queue q;
    stream_pair ends = narrowed(stream_pair::tcp());
    ::fcntl(ends.local.number(), F_SETFL, O_RDWR | O_NONBLOCK);
    const std::string bytes = pattern(more_than_a_socket_holds);
    const test_file file(bytes);
    REQUIRE(aio_sendfile(q.number(), ends.local.number(), file.native().number(), 0, bytes.size()) >
            0);
    std::string got = read_bytes(ends.peer, 1000);
    ::fcntl(ends.local.number(), F_SETFL, O_RDWR);
    // The transfer continues, into a socket that has room for a part of the rest.
    got += read_bytes(ends.peer, bytes.size() / 4);

    stream_pair others = stream_pair::tcp();
    REQUIRE(aio_sendfile(q.number(), others.local.number(), file.native().number(), 0, 1000) > 0);
    CHECK(byte_count_of(q.get_one()) == 1000);

    got += read_bytes(ends.peer, bytes.size() - got.size());
    CHECK(difference(got, bytes).empty());
    CHECK(byte_count_of(q.get_one()) == bytes.size());
}

TEST_CASE("REMOVE stops a transfer, and no event comes", "[sendfile][aio]") {
    kevent_test::queue q;
    stream_pair ends = narrowed(stream_pair::tcp());
    const test_file file(pattern(more_than_a_socket_holds));
    const long cookie = aio_sendfile(q.number(), ends.local.number(), file.native().number(), 0,
                                     more_than_a_socket_holds);
    REQUIRE(cookie > 0);
    wait_for_first_bytes(ends);
    ends.local.reset();

    ukevent key = kevent_test::record(KEVENT_AIO, 0, 0);
    key.id.raw_u64 = static_cast<std::uint64_t>(cookie);
    q.remove(key);

    // The socket is closed with the transfer: what comes ends, and early.
    CHECK(read_bytes(ends.peer, more_than_a_socket_holds).size() < more_than_a_socket_holds - 1000);
    CHECK(q.has_no_event());
}

TEST_CASE("a transfer continues after its queue is closed", "[sendfile][aio]") {
    kevent_test::queue q;
    stream_pair ends = stream_pair::tcp();
    const std::string bytes = pattern(more_than_a_socket_holds);
    const test_file file(bytes);
    REQUIRE(aio_sendfile(q.number(), ends.local.number(), file.native().number(), 0, bytes.size()) >
            0);

    q.close();

    CHECK(difference(read_bytes(ends.peer, bytes.size()), bytes).empty());
}

TEST_CASE("a transfer that cannot be sent is refused by the call, without a record",
          "[sendfile][aio]") {
    kevent_test::queue q;
    stream_pair ends = stream_pair::tcp();
    const test_file file("abc");
    const int from = file.native().number();
    const int to = ends.local.number();
    const kevring::fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const kevring::fd folder(::open("/", O_RDONLY | O_CLOEXEC));
    const kevring::fd write_only(::open(file.name().c_str(), O_WRONLY | O_CLOEXEC));
    const iovec hole{nullptr, 5};
    errno = 77;

    CHECK(aio_sendfile(q.number(), to, -1, 0, 3) == -EBADF);
    CHECK(aio_sendfile(q.number(), -1, from, 0, 3) == -EBADF);
    CHECK(aio_sendfile(-1, to, from, 0, 3) == -EBADF);
    CHECK(aio_sendfile(to, to, from, 0, 3) == -EINVAL);
    CHECK(aio_sendfile(q.number(), null.number(), from, 0, 3) == -ENOTSOCK);
    CHECK(aio_sendfile(q.number(), to, null.number(), 0, 3) == -EINVAL);
    CHECK(aio_sendfile(q.number(), to, folder.number(), 0, 3) == -EISDIR);
    CHECK(aio_sendfile(q.number(), to, write_only.number(), 0, 3) == -EBADF);
    CHECK(aio_sendfile(q.number(), to, from, -1, 3) == -EINVAL);
    CHECK(aio_sendfile_path(q.number(), to, nullptr, 0, 3) == -EFAULT);
    CHECK(aio_sendfile_path(q.number(), to, "/", 0, 3) == -EISDIR);
    CHECK(aio_sendfilev(q.number(), to, nullptr, 1, from, 0, 3, nullptr, 0, nullptr) == -EFAULT);
    CHECK(aio_sendfilev(q.number(), to, &hole, 1, from, 0, 3, nullptr, 0, nullptr) == -EFAULT);
    CHECK(errno == 77);
    CHECK(q.has_no_event());
}

TEST_CASE("sizes beyond all measure are refused, or mean as many bytes as there are",
          "[sendfile][aio][bad_input]") {
    kevent_test::queue q;
    stream_pair ends = stream_pair::tcp();
    const test_file file("abc");
    const int from = file.native().number();
    const int to = ends.local.number();
    constexpr off_t far_away = std::numeric_limits<off_t>::max();
    std::array<char, 1> byte{'x'};
    const std::vector<iovec> many(IOV_MAX + 1, iovec{byte.data(), 1});
    const std::vector<iovec> overlong(2, iovec{byte.data(), SIZE_MAX / 4 + 1});
    const auto with_header = [&](const std::vector<iovec>& header) {
        return aio_sendfilev(q.number(), to, header.data(), static_cast<unsigned>(header.size()),
                             from, 0, 3, nullptr, 0, nullptr);
    };
    const auto with_trailer = [&](const std::vector<iovec>& trailer) {
        return aio_sendfilev(q.number(), to, nullptr, 0, from, 0, 3, trailer.data(),
                             static_cast<unsigned>(trailer.size()), nullptr);
    };

    CHECK(with_header(many) == -EINVAL);
    CHECK(with_trailer(many) == -EINVAL);
    CHECK(with_header(overlong) == -EINVAL);
    CHECK(with_trailer(overlong) == -EINVAL);
    CHECK(aio_sendfilev(q.number(), to, many.data(), UINT_MAX, from, 0, 3, nullptr, 0, nullptr) ==
          -EINVAL);
    CHECK(q.has_no_event());

    CHECK(aio_sendfile(q.number(), to, from, 1, SIZE_MAX) > 0);
    CHECK(byte_count_of(q.get_one()) == 2);
    CHECK(aio_sendfile(q.number(), to, from, far_away, SIZE_MAX) > 0);
    CHECK(byte_count_of(q.get_one()) == 0);
    CHECK(aio_sendfile(q.number(), to, from, 0, 0) > 0);
    CHECK(byte_count_of(q.get_one()) == 0);
    CHECK(read_bytes(ends.peer, 2) == "bc");
}

TEST_CASE("transfers begun by several threads all complete, once each",
          "[sendfile][aio][threads]") {
    kevent_test::queue q;
    const std::string bytes = pattern(100000);
    const test_file file(bytes);
    constexpr int thread_count = 4;
    constexpr int transfers_each = 20;
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (int i = 0; i < thread_count; ++i)
        threads.emplace_back([&] {
            for (int j = 0; j < transfers_each; ++j) {
                int ends[2];
                if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
                    ++wrong;
                    return;
                }
                const kevring::fd local(ends[0]);
                const kevring::fd peer(ends[1]);
                if (aio_sendfile(q.number(), local.number(), file.native().number(), 0,
                                 bytes.size()) <= 0)
                    ++wrong;
                if (read_bytes(peer, bytes.size()) != bytes) ++wrong;
            }
        });
    int events = 0;
    while (events < thread_count * transfers_each) {
        const auto records = q.get();
        for (const ukevent& record : records)
            if (!is_done(record) || byte_count_of(record) != bytes.size()) ++wrong;
        events += static_cast<int>(records.size());
    }
    for (std::thread& thread : threads) thread.join();

    CHECK(wrong == 0);
    CHECK(q.has_no_event());
}
