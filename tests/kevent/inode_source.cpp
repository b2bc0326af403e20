// inode_source.cpp: the type INODE, and the changes that its registrations keep.
#include "tests/kevent/kevent_fixture.hpp"

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace kevent_test;

namespace {

class temporary_directory {
public:
    temporary_directory() {
        REQUIRE(::mkdtemp(name_.data()) != nullptr);
        descriptor_.reset(::open(name_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        REQUIRE(descriptor_);
    }
    ~temporary_directory() {
        remove("a");
        remove("b");
        ::rmdir(name_.c_str());
    }
    int number() const { return descriptor_.number(); }
    void close() { descriptor_.reset(); }
    void make(const char* name) const {
        const kevring::fd file(::openat(number(), name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        REQUIRE(file);
    }
    void remove(const char* name) const { ::unlink((name_ + "/" + name).c_str()); }
    void rename(const char* from, const char* to) const {
        REQUIRE(::renameat(number(), from, number(), to) == 0);
    }
    void remove_itself() const { REQUIRE(::rmdir(name_.c_str()) == 0); }

private:
    std::string name_ = "/tmp/kevring-inode-XXXXXX";
    kevring::fd descriptor_;
};

}  // namespace

TEST_CASE("a directory reports names that are made and removed", "[kevent][inode][K-114]") {
    queue q;
    const temporary_directory directory;
    const ukevent both =
        record(KEVENT_INODE, directory.number(), KEVENT_INODE_CREATE | KEVENT_INODE_REMOVE);
    q.add(both);
    CHECK(q.has_no_event());

    directory.make("a");
    CHECK(q.get_one().ret_data[0] == KEVENT_INODE_CREATE);
    directory.rename("a", "b");
    CHECK(q.has_no_event());
    directory.remove("b");
    CHECK(q.get_one().ret_data[0] == KEVENT_INODE_REMOVE);
    directory.make("a");
    directory.remove("a");
    CHECK(q.get_one().ret_data[0] == (KEVENT_INODE_CREATE | KEVENT_INODE_REMOVE));
    q.modify(both);
    CHECK(is_done(q.get_one()));
    q.remove(both);
    directory.make("a");
    CHECK(q.has_no_event());
}

TEST_CASE("a directory keeps names and cookies for registrations that request them",
          "[kevent][inode]") {
    queue q;
    const temporary_directory directory;
    const std::uint32_t mask = KEVENT_INODE_CREATE | KEVENT_INODE_REMOVE | KEVENT_INODE_MOVED_FROM |
                               KEVENT_INODE_MOVED_TO | KEVENT_INODE_NAMES;
    const ukevent request = record(KEVENT_INODE, directory.number(), mask);
    q.add(request);
    std::array<kevent_change, 3> got{};
    const auto take = [&] {
        return kevent_inode_changes(q.number(), request.id, static_cast<unsigned>(got.size()),
                                    got.data());
    };
    CHECK(take() == 0);

    directory.make("a");
    directory.rename("a", "b");
    directory.remove("b");
    REQUIRE(::mkdirat(directory.number(), "a", 0700) == 0);
    CHECK(q.get_one().ret_data[0] == (mask & ~std::uint32_t{KEVENT_INODE_NAMES}));

    REQUIRE(take() == 3);
    CHECK(got[0].event == KEVENT_INODE_CREATE);
    CHECK(got[0].name == std::string("a"));
    CHECK(got[0].cookie == 0);
    CHECK(got[1].event == KEVENT_INODE_MOVED_FROM);
    CHECK(got[1].name == std::string("a"));
    CHECK(got[2].event == KEVENT_INODE_MOVED_TO);
    CHECK(got[2].name == std::string("b"));
    CHECK((got[1].cookie != 0 && got[1].cookie == got[2].cookie));
    REQUIRE(take() == 2);
    CHECK(got[0].event == KEVENT_INODE_REMOVE);
    CHECK(got[1].event == (KEVENT_INODE_CREATE | KEVENT_INODE_DIRECTORY));
    CHECK(take() == 0);
    CHECK(q.has_no_event());
    REQUIRE(::unlinkat(directory.number(), "a", AT_REMOVEDIR) == 0);

    kevent_id stranger = request.id;
    stranger.raw[1] = 1;
    CHECK(kevent_inode_changes(q.number(), stranger, 3, got.data()) == -ENOENT);
    ukevent nameless = record(KEVENT_INODE, directory.number(), KEVENT_INODE_CREATE);
    nameless.id = stranger;
    q.add(nameless);
    CHECK(kevent_inode_changes(q.number(), stranger, 3, got.data()) == -EINVAL);
    CHECK(kevent_inode_changes(q.number(), request.id, 1, nullptr) == -EFAULT);
    CHECK(kevent_inode_changes(-1, request.id, 3, got.data()) == -EBADF);
    q.remove(request);
    CHECK(take() == -ENOENT);
}

TEST_CASE("names that are not taken are lost beyond a limit, and the loss is reported",
          "[kevent][inode]") {
    queue q;
    const temporary_directory directory;
    const ukevent request =
        record(KEVENT_INODE, directory.number(), KEVENT_INODE_CREATE | KEVENT_INODE_NAMES);
    q.add(request);
    for (int i = 0; i < 1100; ++i) {
        directory.make("a");
        directory.remove("a");
    }
    CHECK(is_done(q.get_one()));

    std::vector<kevent_change> got(2000);
    REQUIRE(kevent_inode_changes(q.number(), request.id, 2000, got.data()) == 1025);
    CHECK(got[1023].event == KEVENT_INODE_CREATE);
    CHECK(got[1024].event == KEVENT_INODE_LOST);
    CHECK(got[1024].name[0] == 0);

    directory.make("b");
    CHECK(is_done(q.get_one()));
    REQUIRE(kevent_inode_changes(q.number(), request.id, 2000, got.data()) == 1);
    CHECK(got[0].name == std::string("b"));
}

TEST_CASE("names that have been taken need no memory", "[kevent][inode]") {
    queue q;
    const temporary_directory directory;
    const ukevent request = record(KEVENT_INODE, directory.number(),
                                   KEVENT_INODE_CREATE | KEVENT_INODE_REMOVE | KEVENT_INODE_NAMES);
    q.add(request);
    std::vector<kevent_change> got(2000);
    const auto burst = [&](int count) {
        for (int i = 0; i < count / 2; ++i) {
            directory.make("a");
            directory.remove("a");
        }
        CHECK(is_done(q.get_one()));
        return kevent_inode_changes(q.number(), request.id, 2000, got.data());
    };
    REQUIRE(burst(10) == 10);
    const std::size_t before = ::mallinfo2().uordblks;

    REQUIRE(burst(1000) == 1000);

    CHECK(::mallinfo2().uordblks < before + 10'000);  // and they had 48'000 at least
    REQUIRE(burst(10) == 10);
}

TEST_CASE("when the kernel loses changes, each directory reports every requested change",
          "[kevent][inode]") {
    int queued_max = 0;
    std::ifstream("/proc/sys/fs/inotify/max_queued_events") >> queued_max;
    if (queued_max == 0 || queued_max > 100'000) {
        WARN("not tried: fs.inotify.max_queued_events is " << queued_max);
        return;
    }
    queue q;
    const temporary_directory busy;
    const temporary_directory quiet;
    const std::uint32_t both = KEVENT_INODE_CREATE | KEVENT_INODE_REMOVE;
    q.add(record(KEVENT_INODE, busy.number(), KEVENT_INODE_CREATE));
    const ukevent silent_one = record(KEVENT_INODE, quiet.number(), both | KEVENT_INODE_NAMES);
    q.add(silent_one);

    for (int i = 0; i <= queued_max / 2; ++i) {
        busy.make("a");
        busy.remove("a");
    }

    const auto got = q.get(2);
    REQUIRE(got.size() == 2);
    CHECK(got[0].ret_data[0] == KEVENT_INODE_CREATE);
    CHECK(got[1].id.raw[0] == static_cast<std::uint32_t>(quiet.number()));
    CHECK(got[1].ret_data[0] == both);
    kevent_change change{};
    REQUIRE(kevent_inode_changes(q.number(), silent_one.id, 1, &change) == 1);
    CHECK(change.event == KEVENT_INODE_LOST);
}

TEST_CASE("changes of files are reported to registrations that request them", "[kevent][inode]") {
    queue q;
    const temporary_directory directory;
    directory.make("a");
    const std::uint32_t changes = KEVENT_INODE_MODIFIED | KEVENT_INODE_ATTRIBUTES;
    const ukevent plain = record(KEVENT_INODE, directory.number(), KEVENT_INODE_CREATE);
    q.add(plain);
    ukevent request = record(KEVENT_INODE, directory.number(), changes | KEVENT_INODE_NAMES);
    request.id.raw[1] = 1;
    q.add(request);
    const kevring::fd file(::openat(directory.number(), "a", O_WRONLY | O_CLOEXEC));
    CHECK(q.has_no_event());

    REQUIRE(::write(file.number(), "bytes", 5) == 5);
    const ukevent written = q.get_one();
    CHECK(written.id.raw[1] == 1);
    CHECK(written.ret_data[0] == KEVENT_INODE_MODIFIED);
    REQUIRE(::fchmod(file.number(), 0400) == 0);
    CHECK(q.get_one().ret_data[0] == KEVENT_INODE_ATTRIBUTES);
    REQUIRE(::ftruncate(file.number(), 0) == 0);
    CHECK(q.get_one().ret_data[0] == KEVENT_INODE_MODIFIED);
    CHECK(q.has_no_event());

    std::array<kevent_change, 4> got{};
    REQUIRE(kevent_inode_changes(q.number(), request.id, 4, got.data()) == 3);
    CHECK(got[0].event == KEVENT_INODE_MODIFIED);
    CHECK(got[0].name == std::string("a"));
    CHECK(got[1].event == KEVENT_INODE_ATTRIBUTES);
    CHECK(got[2].event == KEVENT_INODE_MODIFIED);
}

TEST_CASE("changes of files can be requested by ADD only", "[kevent][inode]") {
    queue q;
    const temporary_directory directory;
    ukevent request =
        record(KEVENT_INODE, directory.number(), KEVENT_INODE_CREATE | KEVENT_INODE_ATTRIBUTES);
    q.add(request);
    request.event = KEVENT_INODE_ATTRIBUTES;  // fewer are fine
    q.modify(request);
    CHECK(is_done(q.get_one()));

    request.event = KEVENT_INODE_MODIFIED;
    q.modify(request);

    const ukevent refused = q.get_one();
    CHECK(is_broken(refused));
    CHECK(error_of(refused) == -EINVAL);
}

TEST_CASE("a watched file reports its own changes", "[kevent][inode]") {
    queue q;
    const temporary_directory directory;
    directory.make("a");
    const kevring::fd file(::openat(directory.number(), "a", O_WRONLY | O_CLOEXEC));
    q.add(record(KEVENT_INODE, file.number(), KEVENT_INODE_MODIFIED));

    REQUIRE(::write(file.number(), "bytes", 5) == 5);

    CHECK(q.get_one().ret_data[0] == KEVENT_INODE_MODIFIED);
    CHECK(q.has_no_event());
}

TEST_CASE("registrations of one directory do not disturb each other", "[kevent][inode]") {
    queue q;
    const temporary_directory directory;
    ukevent made = record(KEVENT_INODE, directory.number(), KEVENT_INODE_CREATE);
    ukevent removed = record(KEVENT_INODE, directory.number(), KEVENT_INODE_REMOVE);
    removed.id.raw[1] = 1;
    q.add(made);
    q.add(removed);

    directory.make("a");
    CHECK(q.get_one().id.raw[1] == 0);
    q.remove(made);
    directory.remove("a");
    CHECK(q.get_one().id.raw[1] == 1);
}

TEST_CASE("a one-shot that MODIFY arms again reports changes after others were removed",
          "[kevent][inode]") {
    queue q;
    const temporary_directory directory;
    ukevent other = record(KEVENT_INODE, directory.number(), KEVENT_INODE_CREATE);
    other.id.raw[1] = 1;
    q.add(other);
    ukevent one = record(KEVENT_INODE, directory.number(), KEVENT_INODE_CREATE, KEVENT_REQ_ONESHOT);
    q.add(one);
    directory.make("a");
    CHECK(q.get(1, 1).at(0).id.raw[1] == 1);  // both have fired, and one is collected

    q.remove(other);
    one.req_flags = 0;
    q.modify(one);

    CHECK(q.get_one().ret_data[0] == KEVENT_INODE_CREATE);
    directory.make("b");
    CHECK(q.get_one().ret_data[0] == KEVENT_INODE_CREATE);
}

TEST_CASE("a change is reported to the registrations that requested it at that time",
          "[kevent][inode]") {
    queue q;
    const temporary_directory directory;
    ukevent early = record(KEVENT_INODE, directory.number(), KEVENT_INODE_CREATE);
    q.add(early);
    directory.make("a");

    ukevent late = early;
    late.id.raw[1] = 1;
    q.add(late);
    CHECK(q.get_one().id.raw[1] == 0);

    directory.remove("a");
    early.event = KEVENT_INODE_REMOVE;
    q.modify(early);  // which is an event by itself
    CHECK(q.get_one().ret_data[0] == 0);
    CHECK(q.has_no_event());
}

TEST_CASE("a removed directory is broken, and MODIFY does not restore it",
          "[kevent][inode][K-100][K-114]") {
    queue q;
    temporary_directory directory;
    const ukevent request = record(KEVENT_INODE, directory.number(), KEVENT_INODE_CREATE);
    q.add(request);

    directory.close();
    directory.remove_itself();

    CHECK(is_broken(q.get_one()));
    CHECK(q.has_no_event());
    q.modify(request);
    const ukevent again = q.get_one();
    CHECK(is_broken(again));
    CHECK(error_of(again) == -ENOENT);
    q.remove(request);

    ukevent closed = record(KEVENT_INODE, 1 << 20, KEVENT_INODE_CREATE);
    q.add(user_event(1));
    CHECK(q.ctl(KEVENT_CTL_ADD, closed) == 1);
    CHECK(error_of(closed) == -EBADF);
}
