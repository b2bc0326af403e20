// What a loop hears of files that change: where names lead, what is lost, and what cannot be had.
#include "examples/httpd/content/file_watch.hpp"

#include "examples/httpd/content/file_cache.hpp"
#include "tests/examples/httpd/scratch_folder.hpp"
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
class watched_root : public scratch_folder {
public:
    watched_root()
        : root_(::open(path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
          cache(16),
          watch(root_) {}

    kevring::fd_ref root() const { return root_; }

    /// As many changes that matter to nobody.
    void make_noise(int count) const {
        for (int i = 0; i < count / 2; ++i) {
            write("noise", "");
            std::filesystem::remove(*this / "noise");
        }
    }

    /// Caches the file as a request does. False: its changes are not heard of.
    bool serve(const std::string& name) {
        auto file = std::make_shared<served_file>();
        open_file& plain = file->plain;
        plain.descriptor.reset(::open((*this / name).c_str(), O_RDONLY | O_CLOEXEC));
        struct stat status{};
        REQUIRE(::fstat(plain.descriptor.number(), &status) == 0);
        plain.name = name;
        plain.link_count = status.st_nlink;
        file->watched = watch.cover(*file);
        const bool watched = file->watched;
        cache.put('/' + name, {.file = std::move(file)});
        return watched;
    }
    /// What the next request finds.
    bool is_cached(const std::string& name) {
        watch.take_changes(cache);
        return cache.find('/' + name) != nullptr;
    }

private:
    kevring::fd root_;

public:
    file_cache cache;
    file_watch watch;
};

void check_that_a_replaced_folder_is_found(const std::string& folder, int noise) {
    watched_root site;
    const std::string page = folder + "/page";
    site.folder(folder);
    site.write(page, "old");
    REQUIRE(site.serve(page));

    site.make_noise(noise);
    site.rename(folder, "before");
    site.folder(folder);
    site.write(page, "new");
    CHECK_FALSE(site.is_cached(page));
    REQUIRE(site.serve(page));
    CHECK(site.is_cached(page));

    site.write(page, "newer");
    CHECK_FALSE(site.is_cached(page));
}

}  // namespace

TEST_CASE("a file that changes is forgotten, and others are not", "[httpd][file_watch]") {
    watched_root site;
    site.folder("sub");
    site.write("sub/page", "one");
    site.write("sub/other", "one");
    site.write("page", "one");
    for (const std::string name : {"sub/page", "sub/other", "page"}) REQUIRE(site.serve(name));

    site.write("sub/page", "two");

    CHECK_FALSE(site.is_cached("sub/page"));
    CHECK(site.is_cached("sub/other"));
    CHECK(site.is_cached("page"));
}

TEST_CASE("a change that finds no memory is not forgotten", "[httpd][file_watch]") {
    if (!allocations_are_counted()) {
        WARN("not tried: a sanitizer brings its own operator new");
        return;
    }
    bool failed = true;
    for (std::uint64_t good_ones = 0; failed; ++good_ones) {
        watched_root site;
        site.write("changed", "old");
        site.write("other", "as it was");
        REQUIRE(site.serve("changed"));
        REQUIRE(site.serve("other"));
        site.write("changed", "new");
        {
            const failing_allocation none(good_ones);
            try {
                site.watch.take_changes(site.cache);
            } catch (const std::bad_alloc&) {}
            failed = none.has_failed();
        }
        INFO("after " << good_ones << " allocations");
        CHECK_FALSE(site.is_cached("changed"));
        site.write("changed", "newer");
        CHECK(site.serve("changed"));  // heard of as before
        site.write("changed", "newest");
        CHECK_FALSE(site.is_cached("changed"));
    }
}

// More than a registration keeps: that a folder was replaced is among what is lost.
TEST_CASE("after changes were lost, a folder's name is looked up again", "[httpd][file_watch]") {
    check_that_a_replaced_folder_is_found("sub", 1100);
}

TEST_CASE("after the kernel has lost changes, every folder's name is looked up again",
          "[httpd][file_watch]") {
    int queued_max = 0;
    std::ifstream("/proc/sys/fs/inotify/max_queued_events") >> queued_max;
    if (queued_max == 0 || queued_max > 100'000) {
        WARN("not tried: fs.inotify.max_queued_events is " << queued_max);
        return;
    }
    check_that_a_replaced_folder_is_found("a/sub", queued_max + 2);
}

TEST_CASE("who may enter the root is asked again when that changes", "[httpd][file_watch]") {
    watched_root site;
    site.write("page", "one");
    REQUIRE(site.serve("page"));

    REQUIRE(::chmod((site / "").c_str(), 0711) == 0);

    CHECK_FALSE(site.is_cached("page"));
}

TEST_CASE("the root may be moved", "[httpd][file_watch]") {
    watched_root site;
    site.folder("sub");
    site.write("sub/page", "one");
    REQUIRE(site.serve("sub/page"));
    const std::string before = site / "";
    const std::string after = before.substr(0, before.size() - 1) + "-moved/";
    REQUIRE(::rename(before.c_str(), after.c_str()) == 0);

    std::ofstream(after + "sub/page") << "two";
    const bool is_cached = site.is_cached("sub/page");
    REQUIRE(::rename(after.c_str(), before.c_str()) == 0);

    CHECK_FALSE(is_cached);
    CHECK(site.serve("sub/page"));
}

TEST_CASE("a folder that is another one now is watched as that", "[httpd][file_watch]") {
    watched_root site;
    for (const std::string name : {"a", "b"}) {
        site.folder(name + "/sub");
        site.write(name + "/sub/page", name);
    }
    REQUIRE(site.serve("a/sub/page"));
    for (int i = 0; i < 3; ++i) {
        REQUIRE(::renameat2(AT_FDCWD, (site / "a").c_str(), AT_FDCWD, (site / "b").c_str(),
                            RENAME_EXCHANGE) == 0);
        CHECK_FALSE(site.is_cached("a/sub/page"));
        REQUIRE(site.serve("a/sub/page"));
        site.write("b/sub/page", "nobody's");
        CHECK(site.is_cached("a/sub/page"));
        site.write("a/sub/page", "else");
        CHECK_FALSE(site.is_cached("a/sub/page"));
        REQUIRE(site.serve("a/sub/page"));
    }
}

TEST_CASE("what is reached by a link, or has another name, is not trusted", "[httpd][file_watch]") {
    watched_root site;
    site.folder("sub");
    site.write("sub/page", "one");
    REQUIRE(::symlink("sub", (site / "link").c_str()) == 0);
    REQUIRE(::symlink("sub/page", (site / "page").c_str()) == 0);
    site.write("two", "two");
    REQUIRE(::link((site / "two").c_str(), (site / "names").c_str()) == 0);

    CHECK(site.serve("sub/page"));
    for (const std::string name : {"link/page", "page", "two", "names"})
        CHECK_FALSE(site.serve(name));
}

TEST_CASE("without descriptors nothing is trusted, and later it is", "[httpd][file_watch]") {
    watched_root site;
    site.folder("sub");
    site.write("sub/page", "one");
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
    const bool is_trusted = site.serve("sub/page");
    file_watch poor(site.root());
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
    taken.clear();

    CHECK_FALSE(is_trusted);
    poor.take_changes(site.cache);
    CHECK(poor.watch_count() == 0);
    REQUIRE(site.serve("sub/page"));
    site.write("sub/page", "two");
    CHECK_FALSE(site.is_cached("sub/page"));
}

TEST_CASE("folders that are gone are not kept in mind", "[httpd][file_watch]") {
    watched_root site;
    for (int i = 0; i < 50; ++i) {
        const std::string name = std::to_string(i);
        site.folder(name + "/sub");
        site.write(name + "/sub/page", "text");
        REQUIRE(site.serve(name + "/sub/page"));
        std::filesystem::remove_all(site / name);
        CHECK_FALSE(site.is_cached(name + "/sub/page"));
    }
    CHECK(site.watch.watch_count() == 1);
}
