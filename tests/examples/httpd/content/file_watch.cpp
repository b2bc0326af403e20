// Reports of changed files to a loop: names that refer elsewhere, lost events, unavailable watches.
#include "examples/httpd/content/file_watch.hpp"

#include "examples/httpd/content/file_cache.hpp"
#include "tests/examples/httpd/scratch_directory.hpp"
#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

using httpd::file_cache;
using httpd::file_watch;
using httpd::open_file;
using httpd::served_file;

/// A root of its own, and what a loop has of it.
class watched_root : public scratch_directory {
public:
    watched_root()
        : root_(::open(path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
          cache(16),
          watch(root_) {}

    kevring::fd_ref root() const { return root_; }

    /// As many changes that concern no cached file.
    void make_noise(int count) const {
        for (int i = 0; i < count / 2; ++i) {
            write("noise", "");
            std::filesystem::remove(*this / "noise");
        }
    }

    /// Caches the file as a request does. False: its changes are not reported.
    bool serve(const std::string& name) {
        auto file = std::make_shared<served_file>();
        open_file& plain = file->plain;
        plain.descriptor.reset(::open((*this / name).c_str(), O_RDONLY | O_CLOEXEC));
        struct stat status{};
        REQUIRE(::fstat(plain.descriptor.number(), &status) == 0);
        plain.name = name;
        plain.link_count = status.st_nlink;
        file->watched = watch.watch(*file);
        const bool watched = file->watched;
        cache.insert('/' + name, {.file = std::move(file)});
        return watched;
    }
    /// The content that the next request finds.
    bool is_cached(const std::string& name) {
        watch.apply_changes(cache);
        return cache.find('/' + name) != nullptr;
    }

private:
    kevring::fd root_;

public:
    file_cache cache;
    file_watch watch;
};

void check_that_a_replaced_directory_is_found(const std::string& directory, int noise) {
    watched_root document_root;
    const std::string page = directory + "/page";
    document_root.directory(directory);
    document_root.write(page, "old");
    REQUIRE(document_root.serve(page));

    document_root.make_noise(noise);
    document_root.rename(directory, "before");
    document_root.directory(directory);
    document_root.write(page, "new");
    CHECK_FALSE(document_root.is_cached(page));
    REQUIRE(document_root.serve(page));
    CHECK(document_root.is_cached(page));

    document_root.write(page, "newer");
    CHECK_FALSE(document_root.is_cached(page));
}

}  // namespace

TEST_CASE("a file that changes is forgotten, and others are not", "[httpd][file_watch]") {
    watched_root document_root;
    document_root.directory("sub");
    document_root.write("sub/page", "one");
    document_root.write("sub/other", "one");
    document_root.write("page", "one");
    for (const std::string name : {"sub/page", "sub/other", "page"})
        REQUIRE(document_root.serve(name));

    document_root.write("sub/page", "two");

    CHECK_FALSE(document_root.is_cached("sub/page"));
    CHECK(document_root.is_cached("sub/other"));
    CHECK(document_root.is_cached("page"));
}

TEST_CASE("a change that finds no memory is not forgotten", "[httpd][file_watch]") {
    if (!allocations_are_counted()) {
        WARN("not tried: a sanitizer brings its own operator new");
        return;
    }
    bool failed = true;
    for (std::uint64_t good_ones = 0; failed; ++good_ones) {
        watched_root document_root;
        document_root.write("changed", "old");
        document_root.write("other", "as it was");
        REQUIRE(document_root.serve("changed"));
        REQUIRE(document_root.serve("other"));
        document_root.write("changed", "new");
        {
            const failing_allocation none(good_ones);
            try {
                document_root.watch.apply_changes(document_root.cache);
            } catch (const std::bad_alloc&) {}
            failed = none.has_failed();
        }
        INFO("after " << good_ones << " allocations");
        CHECK_FALSE(document_root.is_cached("changed"));
        document_root.write("changed", "newer");
        CHECK(document_root.serve("changed"));  // reported as before
        document_root.write("changed", "newest");
        CHECK_FALSE(document_root.is_cached("changed"));
    }
}

// More than a registration keeps: that a directory was replaced is among what is lost.
TEST_CASE("after changes were lost, a directory's name is looked up again", "[httpd][file_watch]") {
    check_that_a_replaced_directory_is_found("sub", 1100);
}

TEST_CASE("after the kernel has lost changes, every directory's name is looked up again",
          "[httpd][file_watch]") {
    int queued_max = 0;
    std::ifstream("/proc/sys/fs/inotify/max_queued_events") >> queued_max;
    if (queued_max == 0 || queued_max > 100'000) {
        WARN("not tried: fs.inotify.max_queued_events is " << queued_max);
        return;
    }
    check_that_a_replaced_directory_is_found("a/sub", queued_max + 2);
}

TEST_CASE("a change of the permissions of the root is checked again", "[httpd][file_watch]") {
    watched_root document_root;
    document_root.write("page", "one");
    REQUIRE(document_root.serve("page"));

    REQUIRE(::chmod((document_root / "").c_str(), 0711) == 0);

    CHECK_FALSE(document_root.is_cached("page"));
}

TEST_CASE("the root may be moved", "[httpd][file_watch]") {
    watched_root document_root;
    document_root.directory("sub");
    document_root.write("sub/page", "one");
    REQUIRE(document_root.serve("sub/page"));
    const std::string before = document_root / "";
    const std::string after = before.substr(0, before.size() - 1) + "-moved/";
    REQUIRE(::rename(before.c_str(), after.c_str()) == 0);

    std::ofstream(after + "sub/page") << "two";
    const bool is_cached = document_root.is_cached("sub/page");
    REQUIRE(::rename(after.c_str(), before.c_str()) == 0);

    CHECK_FALSE(is_cached);
    CHECK(document_root.serve("sub/page"));
}

TEST_CASE("a directory that is another one now is watched as that", "[httpd][file_watch]") {
    watched_root document_root;
    for (const std::string name : {"a", "b"}) {
        document_root.directory(name + "/sub");
        document_root.write(name + "/sub/page", name);
    }
    REQUIRE(document_root.serve("a/sub/page"));
    for (int i = 0; i < 3; ++i) {
        REQUIRE(::renameat2(AT_FDCWD, (document_root / "a").c_str(), AT_FDCWD,
                            (document_root / "b").c_str(), RENAME_EXCHANGE) == 0);
        CHECK_FALSE(document_root.is_cached("a/sub/page"));
        REQUIRE(document_root.serve("a/sub/page"));
        document_root.write("b/sub/page", "unwatched");
        CHECK(document_root.is_cached("a/sub/page"));
        document_root.write("a/sub/page", "else");
        CHECK_FALSE(document_root.is_cached("a/sub/page"));
        REQUIRE(document_root.serve("a/sub/page"));
    }
}

TEST_CASE("a file that has a link in its path, or another name, is not fresh",
          "[httpd][file_watch]") {
    watched_root document_root;
    document_root.directory("sub");
    document_root.write("sub/page", "one");
    REQUIRE(::symlink("sub", (document_root / "link").c_str()) == 0);
    REQUIRE(::symlink("sub/page", (document_root / "page").c_str()) == 0);
    document_root.write("two", "two");
    REQUIRE(::link((document_root / "two").c_str(), (document_root / "names").c_str()) == 0);

    CHECK(document_root.serve("sub/page"));
    for (const std::string name : {"link/page", "page", "two", "names"})
        CHECK_FALSE(document_root.serve(name));
}

TEST_CASE("without descriptors nothing is trusted, and later it is", "[httpd][file_watch]") {
    watched_root document_root;
    document_root.directory("sub");
    document_root.write("sub/page", "one");
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    std::vector<kevring::fd> taken;
    rlimit low{64, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
    kevring::fd more(::dup(0));
    while (more) {
        taken.push_back(std::move(more));
        more.reset(::dup(0));
    }
    taken.pop_back();  // for the page itself
    const bool is_trusted = document_root.serve("sub/page");
    file_watch poor(document_root.root());
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
    taken.clear();

    CHECK_FALSE(is_trusted);
    poor.apply_changes(document_root.cache);
    CHECK(poor.watch_count() == 0);
    REQUIRE(document_root.serve("sub/page"));
    document_root.write("sub/page", "two");
    CHECK_FALSE(document_root.is_cached("sub/page"));
}

TEST_CASE("directories that are gone are not kept in mind", "[httpd][file_watch]") {
    watched_root document_root;
    for (int i = 0; i < 50; ++i) {
        const std::string name = std::to_string(i);
        document_root.directory(name + "/sub");
        document_root.write(name + "/sub/page", "text");
        REQUIRE(document_root.serve(name + "/sub/page"));
        std::filesystem::remove_all(document_root / name);
        CHECK_FALSE(document_root.is_cached(name + "/sub/page"));
    }
    CHECK(document_root.watch.watch_count() == 1);
}
