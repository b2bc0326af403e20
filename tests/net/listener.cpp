// listener.cpp: the file of a Unix socket, which belongs to the listener that created it.
#include "tests/support/catch.hpp"

#include <kevring/net/listener.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/ring.hpp>

#include <cstdlib>
#include <optional>
#include <string>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

using kevring::endpoint;
using kevring::fd;
using kevring::listener;
using kevring::ring;

namespace {

// A folder for sockets, removed with its files at the end.
class socket_folder {
public:
    socket_folder() { REQUIRE(::mkdtemp(name_) != nullptr); }
    socket_folder(const socket_folder&) = delete;
    socket_folder& operator=(const socket_folder&) = delete;
    ~socket_folder() {
        ::unlink(path().c_str());
        ::rmdir(name_);
    }
    std::string path() const { return std::string(name_) + "/socket"; }
    endpoint local() const { return endpoint::unix_path(path()).value(); }
    bool has_file() const {
        struct stat status{};
        return ::lstat(path().c_str(), &status) == 0;
    }

private:
    char name_[32] = "/tmp/kevring-listener-XXXXXX";
};

std::optional<listener> bind(ring& loop, const socket_folder& folder) {
    auto bound = listener::bind(loop, folder.local());
    REQUIRE(bound.has_value());
    return std::optional<listener>(std::move(*bound));
}

}  // namespace

TEST_CASE("a listener removes the Unix path that it created", "[net][listener]") {
    ring loop;
    const socket_folder folder;
    std::optional<listener> first = bind(loop, folder);
    std::optional<listener> moved(std::move(*first));
    first.reset();
    CHECK(folder.has_file());

    moved.reset();

    CHECK_FALSE(folder.has_file());
}

TEST_CASE("a listener leaves a Unix path that another one has taken", "[net][listener]") {
    ring loop;
    const socket_folder folder;
    std::optional<listener> first = bind(loop, folder);
    REQUIRE(::unlink(folder.path().c_str()) == 0);
    std::optional<listener> second = bind(loop, folder);

    first.reset();

    CHECK(folder.has_file());
    const fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const endpoint peer = folder.local();
    CHECK(::connect(client.number(), peer.address(), peer.address_bytes()) == 0);
    second.reset();
    CHECK_FALSE(folder.has_file());
}

TEST_CASE("a Unix path that another socket has is in use, whatever that socket answers",
          "[net][listener]") {
    ring loop;
    const socket_folder folder;
    const int type = GENERATE(SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET);
    CAPTURE(type);
    const fd other(::socket(AF_UNIX, type, 0));
    const endpoint local = folder.local();
    REQUIRE(::bind(other.number(), local.address(), local.address_bytes()) == 0);
    fd waiting;
    if (type == SOCK_STREAM) {  // its backlog is full
        REQUIRE(::listen(other.number(), 0) == 0);
        waiting = fd(::socket(AF_UNIX, type, 0));
        REQUIRE(::connect(waiting.number(), local.address(), local.address_bytes()) == 0);
    }

    const auto bound = listener::bind(loop, local);

    CHECK(bound.error() == std::errc::address_in_use);
    CHECK(folder.has_file());
}

TEST_CASE("a listener leaves another file at its Unix path", "[net][listener]") {
    ring loop;
    const socket_folder folder;
    std::optional<listener> first = bind(loop, folder);
    REQUIRE(::unlink(folder.path().c_str()) == 0);
    const bool is_link = GENERATE(false, true);
    if (is_link) {
        REQUIRE(::symlink("/nowhere", folder.path().c_str()) == 0);
    } else {
        const fd file(::open(folder.path().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        REQUIRE(file.valid());
    }

    first.reset();

    CHECK(folder.has_file());
}

TEST_CASE("the end of a child process leaves the Unix path of its parent", "[net][listener]") {
    ring loop;
    const socket_folder folder;
    std::optional<listener> first = bind(loop, folder);

    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        first.reset();
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);

    CHECK(status == 0);
    CHECK(folder.has_file());
}
