// Files that a restricted thread can open, by itself and by its ring.
#include "examples/httpd/control/sandbox.hpp"

#include "tests/examples/httpd/scratch_directory.hpp"
#include "tests/support/catch.hpp"

#include <kevring/runtime/operations/open.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/task.hpp>

#include <array>
#include <cerrno>
#include <filesystem>
#include <string>
#include <thread>

#include <fcntl.h>
#include <sys/stat.h>

namespace {

using kevring::fd;
using kevring::ring;
using kevring::task;

class directories : public scratch_directory {
public:
    directories() {
        directory("site/below");
        write("site/inside", "inside");
        write("outside", "outside");
    }

    fd open(const std::string& name) const {
        return fd(::open((path() + name).c_str(), O_PATH | O_CLOEXEC));
    }
};

int error_of(const std::string& path, int flags) {
    const fd opened(::open(path.c_str(), flags | O_CLOEXEC, 0600));
    return opened ? 0 : errno;
}

}  // namespace

TEST_CASE("a restricted thread reads below its root and opens nothing else", "[httpd][sandbox]") {
    if (httpd::landlock_version() == 0) {
        WARN("not tried: this kernel has no Landlock");
        return;
    }
    const directories made;
    const std::array roots{made.open("/site")};
    int inside = -1, written = -1, outside = -1, made_anew = -1, by_ring = -1, inside_by_ring = -1;
    int by_kernel_thread = -1;
    std::thread confined([&] {
        ring loop;  // first, as in the server
        httpd::restrict_thread(roots);
        inside = error_of(made / "site/inside", O_RDONLY);
        written = error_of(made / "site/inside", O_WRONLY);
        made_anew = error_of(made / "site/new", O_WRONLY | O_CREAT);
        outside = error_of(made / "outside", O_RDONLY);
        auto open_by_ring = [&]() -> task<void> {
            const std::string other = made / "outside";
            const std::string own = made / "site/inside";
            kevring::open_operation first(loop, kevring::fd_ref(AT_FDCWD), other.c_str(), O_RDONLY,
                                          0);
            const auto refused = co_await first;
            by_ring = refused ? 0 : refused.error().value();
            // O_TRUNC is left to a thread of the kernel's.
            kevring::open_operation second(loop, kevring::fd_ref(AT_FDCWD), other.c_str(),
                                           O_WRONLY | O_TRUNC, 0);
            const auto refused_too = co_await second;
            by_kernel_thread = refused_too ? 0 : refused_too.error().value();
            kevring::open_operation third(loop, kevring::fd_ref(AT_FDCWD), own.c_str(), O_RDONLY,
                                          0);
            const auto opened = co_await third;
            inside_by_ring = opened ? 0 : opened.error().value();
        };
        kevring::run(loop, open_by_ring());
    });
    confined.join();

    CHECK(inside == 0);
    CHECK(inside_by_ring == 0);
    for (const int refused : {written, made_anew, outside, by_ring, by_kernel_thread})
        CHECK(refused == EACCES);
    CHECK(error_of(made / "outside", O_RDONLY) == 0);  // the other threads are free
    CHECK(std::filesystem::file_size(made / "outside") == 7);
}

TEST_CASE("a directory lies within itself and those above it", "[httpd][sandbox]") {
    const directories made;
    const fd root = made.open("/site");

    const auto inside = [&](const std::string& name) {
        const fd directory = made.open(name);
        return httpd::is_within(root, directory);
    };
    CHECK(inside("/site"));
    CHECK(inside("/site/below"));
    CHECK(inside("/site/below/.."));
    CHECK_FALSE(inside(""));
    CHECK_FALSE(inside("/site/../.."));
}
