// naio.cpp: whole receives and sends: aio_recv() and aio_send().
#include "tests/kevent/kevent_fixture.hpp"

#include <algorithm>
#include <numeric>
#include <string>
#include <thread>

using namespace kevent_test;

namespace {

void sends(const connected_pair& peers, const std::string& bytes) {
    REQUIRE(::write(peers.peer(), bytes.data(), bytes.size()) ==
            static_cast<ssize_t>(bytes.size()));
}

// Limits the send buffer, so that a send waits for the peer on every machine.
void make_small(const connected_pair& peers) {
    const int bytes = 65'536;
    REQUIRE(::setsockopt(peers.local(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) == 0);
}

ukevent key_of(long request) {
    ukevent made{};
    made.id.raw_u64 = static_cast<std::uint64_t>(request);
    made.type = KEVENT_NAIO;
    return made;
}

std::vector<char> pattern(std::size_t size, char first = 0) {
    std::vector<char> bytes(size);
    std::iota(bytes.begin(), bytes.end(), first);
    return bytes;
}

}  // namespace

TEST_CASE("a receive is one record, when all its bytes are there", "[kevent][naio][K-114]") {
    queue q;
    const auto peers = connected_pair::sockets();
    std::array<char, 6> buffer{};
    const long request = aio_recv(q.number(), peers.local(), buffer.data(), buffer.size(), 0);
    REQUIRE(request > 0);
    CHECK(q.has_no_event());

    sends(peers, "abc");
    CHECK(q.has_no_event());
    CHECK_FALSE(q.stays_readable());
    sends(peers, "defgh");
    const ukevent got = q.get_one();

    CHECK(is_done(got));
    CHECK(got.type == KEVENT_NAIO);
    CHECK(got.event == KEVENT_SOCKET_RECV);
    CHECK(got.id.raw_u64 == static_cast<std::uint64_t>(request));
    CHECK(got.id.raw[0] == static_cast<std::uint32_t>(peers.local()));
    CHECK(got.ptr == buffer.data());
    CHECK(got.ret_data[0] == 6);
    CHECK(got.ret_data[1] == 6);
    CHECK(std::string(buffer.data(), 6) == "abcdef");
    CHECK(peers.drain_local() == 2);  // the bytes beyond the request are left
    CHECK(q.has_no_event());
    ukevent gone = got;
    CHECK(q.ctl(KEVENT_CTL_REMOVE, gone) == -EINVAL);
}

TEST_CASE("a send of more than the socket holds ends when the peer has read", "[kevent][naio]") {
    queue q;
    const auto peers = connected_pair::sockets();
    make_small(peers);
    const std::vector<char> bytes = pattern(2'000'000);
    REQUIRE(aio_send(q.number(), peers.local(), bytes.data(), bytes.size(), 0) > 0);
    CHECK(q.has_no_event());

    std::vector<char> seen(bytes.size());
    std::thread reader([&] {
        for (std::size_t index = 0; index < seen.size();) {
            pollfd wait{peers.peer(), POLLIN, 0};
            if (::poll(&wait, 1, 60'000) != 1) return;
            const ssize_t count = ::read(peers.peer(), seen.data() + index, seen.size() - index);
            if (count <= 0) return;
            index += static_cast<std::size_t>(count);
        }
    });
    const ukevent got = q.get_one();
    reader.join();

    CHECK(is_done(got));
    CHECK(got.event == KEVENT_SOCKET_SEND);
    CHECK(got.ret_data[1] == bytes.size());
    CHECK(seen == bytes);
}

TEST_CASE("aio_send sends the first bytes within the call", "[kevent][naio]") {
    queue q(4);
    const auto peers = connected_pair::sockets();
    REQUIRE(aio_send(q.number(), peers.local(), "abc", 3, 0) > 0);

    std::array<char, 8> seen{};
    CHECK(::read(peers.peer(), seen.data(), seen.size()) == 3);
    CHECK(q.becomes_readable());
    CHECK(q.wait(4, 0) == 1);
    CHECK(is_done(q.ring().event[0]));
}

TEST_CASE("a receive that the peer ends early is broken, with the received bytes",
          "[kevent][naio][K-100]") {
    queue q;
    auto peers = connected_pair::sockets();
    std::array<char, 6> buffer{};
    REQUIRE(aio_recv(q.number(), peers.local(), buffer.data(), buffer.size(), MSG_WAITALL) > 0);
    peers.send_from_peer(4);
    peers.close_peer();

    const ukevent got = q.get_one();
    CHECK(is_broken(got));
    CHECK(error_of(got) == -EPIPE);
    CHECK(got.ret_data[0] == 4);
    CHECK(q.has_no_event());
}

TEST_CASE("a send to a closed peer is broken, without a signal", "[kevent][naio]") {
    queue q;
    auto peers = connected_pair::sockets();
    peers.close_peer();

    REQUIRE(aio_send(q.number(), peers.local(), "abc", 3, 0) > 0);

    const ukevent got = q.get_one();
    CHECK(is_broken(got));
    CHECK(error_of(got) == -EPIPE);
    CHECK(got.ret_data[0] == 0);
}

TEST_CASE("an invalid buffer fails the request, not the program", "[kevent][naio]") {
    queue q;
    const auto peers = connected_pair::sockets();
    peers.send_from_peer(10);

    REQUIRE(aio_recv(q.number(), peers.local(), reinterpret_cast<void*>(16), 10, 0) > 0);

    CHECK(error_of(q.get_one()) == -EFAULT);
}

TEST_CASE("requests of one socket follow one another", "[kevent][naio]") {
    queue q;
    const auto peers = connected_pair::sockets();
    std::array<std::array<char, 4>, 3> buffers{};
    for (auto& buffer : buffers)
        REQUIRE(aio_recv(q.number(), peers.local(), buffer.data(), buffer.size(), 0) > 0);
    make_small(peers);  // so that the second send has to wait
    const std::vector<char> bytes = pattern(600'000);
    const std::vector<char> others = pattern(600'000, 64);
    REQUIRE(aio_send(q.number(), peers.local(), bytes.data(), bytes.size(), 0) > 0);
    REQUIRE(aio_send(q.number(), peers.local(), others.data(), others.size(), 0) > 0);

    sends(peers, "aaaabbbbcc");
    std::vector<ukevent> got = q.get(2);
    REQUIRE(got.size() == 2);
    CHECK(got[0].ptr == buffers[0].data());
    CHECK(got[1].ptr == buffers[1].data());
    sends(peers, "cc");
    CHECK(q.get_one().ptr == buffers[2].data());
    CHECK(std::string(buffers[0].data(), 4) == "aaaa");
    CHECK(std::string(buffers[2].data(), 4) == "cccc");

    std::vector<char> seen;
    std::array<char, 65536> part{};
    std::vector<const void*> order;
    while (order.size() < 2) {
        const ssize_t count = ::read(peers.peer(), part.data(), part.size());
        if (count > 0) seen.insert(seen.end(), part.begin(), part.begin() + count);
        ukevent record{};
        if (kevent_get_events(q.number(), 1, 1, no_wait, &record, 0) == 1)
            order.push_back(record.ptr);
        REQUIRE(seen.size() <= 1'200'000);
    }
    for (ssize_t count = 0; (count = ::read(peers.peer(), part.data(), part.size())) > 0;)
        seen.insert(seen.end(), part.begin(), part.begin() + count);
    CHECK(order == std::vector<const void*>{bytes.data(), others.data()});
    REQUIRE(seen.size() == bytes.size() + others.size());
    CHECK(std::equal(bytes.begin(), bytes.end(), seen.begin()));
    CHECK(std::equal(others.rbegin(), others.rend(), seen.rbegin()));
}

TEST_CASE("after REMOVE the buffer belongs to the program, and the next request runs",
          "[kevent][naio]") {
    queue q;
    const auto peers = connected_pair::sockets();
    std::array<char, 4> first{};
    std::array<char, 4> second{};
    const long removed = aio_recv(q.number(), peers.local(), first.data(), first.size(), 0);
    REQUIRE(aio_recv(q.number(), peers.local(), second.data(), second.size(), 0) > 0);
    sends(peers, "ab");
    CHECK(q.has_no_event());
    CHECK(std::string(first.data(), 2) == "ab");

    sends(peers, "cdef");
    q.remove(key_of(removed));

    CHECK(q.get_one().ptr == second.data());
    CHECK(std::string(first.data(), 4) == std::string("ab\0\0", 4));
    CHECK(std::string(second.data(), 4) == "cdef");
}

TEST_CASE("READY ends a request with the bytes moved so far", "[kevent][naio]") {
    queue q;
    const auto peers = connected_pair::sockets();
    std::array<char, 4> buffer{};
    const long request = aio_recv(q.number(), peers.local(), buffer.data(), buffer.size(), 0);
    sends(peers, "ab");
    CHECK(q.has_no_event());

    CHECK(q.ready(key_of(request)) == 1);

    const ukevent got = q.get_one();
    CHECK(is_done(got));
    CHECK(got.ret_data[0] == 2);
    sends(peers, "cd");
    CHECK(q.has_no_event());
    CHECK(peers.drain_local() == 2);
}

TEST_CASE("MODIFY neither loses nor repeats a request", "[kevent][naio]") {
    queue q;
    const auto peers = connected_pair::sockets();
    std::array<char, 4> buffer{};
    const long request = aio_recv(q.number(), peers.local(), buffer.data(), buffer.size(), 0);
    ukevent change = key_of(request);
    change.event = KEVENT_MASK_EMPTY;
    q.modify(change);
    sends(peers, "abcd");
    CHECK(q.has_no_event());

    change.event = KEVENT_SOCKET_SEND;  // it stays a receive
    change.req_flags = KEVENT_REQ_LAST_CHECK;
    q.modify(change);
    CHECK(q.get_one().ret_data[0] == 4);
    CHECK(q.has_no_event());

    REQUIRE(aio_recv(q.number(), peers.local(), buffer.data(), buffer.size(), 0) > 0);
    CHECK(::shutdown(peers.peer(), SHUT_WR) == 0);
    CHECK(q.becomes_readable());
    CHECK(is_broken(q.get_one()));
}

TEST_CASE("the socket may be closed straight after the call", "[kevent][naio]") {
    queue q;
    auto peers = connected_pair::sockets();
    std::array<char, 4> buffer{};
    REQUIRE(aio_recv(q.number(), peers.local(), buffer.data(), buffer.size(), 0) > 0);

    peers.close_local();
    sends(peers, "abcd");

    CHECK(is_done(q.get_one()));
    CHECK(peers.peer_sees_end());
}

TEST_CASE("an invalid transfer is refused by the call", "[kevent][naio][K-114]") {
    queue q;
    const auto peers = connected_pair::sockets();
    const auto pipe = connected_pair::pipe();
    const kevring::fd datagrams(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    std::array<char, 4> buffer{};
    const auto receive = [&](int socket, void* target, std::size_t size, int flags = 0) {
        return aio_recv(q.number(), socket, target, size, flags);
    };

    CHECK(receive(-1, buffer.data(), 4) == -EBADF);
    CHECK(receive(pipe.local(), buffer.data(), 4) == -ENOTSOCK);
    CHECK(receive(datagrams.number(), buffer.data(), 4) == -ESOCKTNOSUPPORT);
    CHECK(receive(peers.local(), nullptr, 4) == -EFAULT);
    CHECK(receive(peers.local(), buffer.data(), 0) == -EINVAL);
    CHECK(receive(peers.local(), buffer.data(), std::size_t{1} << 31) == -EINVAL);
    CHECK(receive(peers.local(), buffer.data(), 4, MSG_PEEK) == -EINVAL);
    CHECK(aio_send(q.number(), peers.local(), buffer.data(), 4, MSG_OOB) == -EINVAL);
    CHECK(aio_send(-1, peers.local(), buffer.data(), 4, 0) == -EBADF);
    CHECK(aio_recv(peers.local(), peers.local(), buffer.data(), 4, 0) == -EINVAL);
    CHECK(q.has_no_event());
}
