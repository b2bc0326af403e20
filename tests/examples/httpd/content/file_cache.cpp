// file_cache.cpp: eviction of cached files, and reuse of their content.
#include "examples/httpd/content/file_cache.hpp"
#include "tests/support/catch.hpp"

#include <cstdint>
#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>

using httpd::file_cache;
using httpd::served_file;

namespace {

// True if it was there.
bool ask(file_cache& cache, const std::string& path) {
    if (cache.find(path) != nullptr) return true;
    auto file = std::make_shared<served_file>();
    file->plain.name = path;
    cache.insert(path, {.file = std::move(file)});
    return false;
}

// A file that is open, as far as the cache can see, and watched.
std::shared_ptr<served_file> made(const std::string& name) {
    auto file = std::make_shared<served_file>();
    file->plain.name = name;
    file->plain.descriptor.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    file->watched = true;
    return file;
}

}  // namespace

TEST_CASE("files that are read in turn do not all push each other out", "[httpd][file_cache]") {
    file_cache cache(900);
    int hits = 0;
    for (int round = 0; round < 20; ++round)
        for (int i = 0; i < 1000; ++i) hits += ask(cache, std::to_string(i)) ? 1 : 0;

    CHECK(cache.size() == 900);
    CHECK(hits > 12'000);  // of 19 000; by age there would be none
}

TEST_CASE("the last requested file is cached, however small the cache", "[httpd][file_cache]") {
    file_cache cache(1);
    for (int i = 0; i < 10; ++i) {
        CHECK_FALSE(ask(cache, std::to_string(i)));
        CHECK(ask(cache, std::to_string(i)));
        CHECK(cache.size() == 1);
    }
    cache.erase("9");
    CHECK(cache.size() == 0);
}

TEST_CASE("a file that is closed to make room is known on, and one in use is forgotten",
          "[httpd][file_cache]") {
    file_cache cache(1);
    cache.insert("/a", {.file = made("a")});
    const auto in_use = made("b");

    cache.insert("/b", {.file = in_use});
    REQUIRE(cache.find("/a") != nullptr);
    CHECK_FALSE(cache.find("/a")->file->is_open());
    CHECK(cache.open_count() == 1);

    cache.insert("/c", {.file = made("c")});
    CHECK(cache.find("/b") == nullptr);
    CHECK(in_use->is_open());
    CHECK(cache.open_count() == 1);
    CHECK(cache.size() == 2);
}

TEST_CASE("content is kept of as many files as there is memory for", "[httpd][file_cache]") {
    file_cache cache(10, 100);
    const std::time_t now = 1'000'000;
    const auto add = [&](const std::string& name, std::uint64_t byte_count) {
        auto file = made(name);
        file->plain.byte_count = byte_count;
        cache.insert("/" + name, {.file = std::move(file), .checked_at = now, .used_at = now});
        return cache.find("/" + name);
    };
    httpd::cached_file& one = *add("one", 60);
    char* const room = cache.allocate_content(one, now);
    REQUIRE(room != nullptr);
    CHECK(cache.allocate_content(one, now) == room);
    CHECK(cache.content_bytes() == 60);

    // Neither what is larger than all, nor what others in use leave no room for.
    CHECK(cache.allocate_content(*add("vast", 101), now) == nullptr);
    CHECK(cache.allocate_content(*add("empty", 0), now) == nullptr);
    httpd::cached_file& two = *add("two", 50);
    CHECK(cache.allocate_content(two, now + 1) == nullptr);
    CHECK(one.content != nullptr);

    SECTION("a file that was not requested recently is evicted") {
        one.mark_checked(now + 1);
        CHECK(cache.allocate_content(two, now + 2) != nullptr);
        CHECK(one.content == nullptr);
        CHECK(cache.content_bytes() == 50);
    }
    SECTION("a file that is dropped gives its memory back") {
        cache.erase_named("one");
        CHECK(cache.content_bytes() == 0);
        CHECK(cache.allocate_content(two, now) != nullptr);
        cache.clear();
        CHECK(cache.content_bytes() == 0);
    }
    SECTION("any of them may be the first to go") {
        cache.clear();
        std::vector<httpd::cached_file*> known;
        for (const std::string name : {"a", "b", "c", "d"}) {
            known.push_back(add(name, 25));
            REQUIRE(cache.allocate_content(*known.back(), now) != nullptr);
        }
        CHECK(cache.content_bytes() == 100);
        cache.erase("/a");
        cache.erase("/d");
        CHECK(cache.content_bytes() == 50);
        httpd::cached_file& wide = *add("wide", 90);
        char* found = nullptr;
        for (int attempts = 0; found == nullptr && attempts < 100; ++attempts)
            found = cache.allocate_content(wide, now + 2);
        CHECK(found != nullptr);
        CHECK(cache.content_bytes() == 90);
        CHECK(known[1]->content == nullptr);
        CHECK(known[2]->content == nullptr);
    }
    SECTION("content that was read before a lookup is invalid") {
        one.content_valid = true;
        one.mark_checked(now + 2);
        CHECK_FALSE(one.content_valid);
        CHECK(cache.allocate_content(one, now + 2) == room);
    }
}

TEST_CASE("a file that is opened again makes another close", "[httpd][file_cache]") {
    file_cache cache(1);
    cache.insert("/a", {.file = made("a")});
    cache.insert("/b", {.file = made("b")});

    cache.evict_one();
    *cache.find("/a")->file = std::move(*made("a"));
    cache.mark_open("/a");

    CHECK(cache.find("/a")->file->is_open());
    CHECK_FALSE(cache.find("/b")->file->is_open());
    CHECK(cache.open_count() == 1);
}

TEST_CASE("as many files are known as there is room for", "[httpd][file_cache]") {
    constexpr std::size_t open_max = 4;
    constexpr std::size_t known_max = open_max * file_cache::known_per_open;
    file_cache cache(open_max);
    for (int i = 0; i < 100; ++i) {
        cache.insert('/' + std::to_string(i), {.file = made(std::to_string(i))});
        CHECK(cache.find('/' + std::to_string(i))->file->is_open());
        CHECK(cache.open_count() <= open_max);
        CHECK(cache.size() <= known_max);
    }
    CHECK(cache.size() == known_max);
}

TEST_CASE("a file that is asked for by paths without end pushes out itself alone",
          "[httpd][file_cache]") {
    file_cache cache(16);
    cache.insert("/b", {.file = made("b")});
    std::string path = "/a";
    for (int i = 0; i < 100; ++i) {
        path = '/' + path;
        cache.insert(path, {.file = made("a")});
        CHECK(cache.find(path) != nullptr);
    }
    CHECK(cache.find("/b") != nullptr);
    CHECK(cache.size() <= 1 + file_cache::paths_per_file);

    cache.erase_named("a");
    CHECK(cache.size() == 1);
}

TEST_CASE("content is discarded with the name of its file, for every path of it",
          "[httpd][file_cache]") {
    file_cache cache(2);
    const auto fill = [&] {
        for (const std::string path : {"/a/x", "/%61/x"}) cache.insert(path, {.file = made("a/x")});
        cache.insert("/a/y", {.file = made("a/y")});
        cache.insert("/ab", {.file = made("ab")});
    };
    const auto known = [&](const std::string& path) { return cache.find(path) != nullptr; };

    fill();
    cache.erase_named("a/x");
    CHECK((!known("/a/x") && !known("/%61/x") && known("/a/y") && known("/ab")));

    fill();
    const std::string suffix = GENERATE(".gz", ".br", ".zst");
    cache.erase_named("a/y" + suffix);
    CHECK((known("/a/x") && !known("/a/y") && known("/ab")));

    fill();
    cache.erase_named("a/y.txt");
    CHECK(cache.size() == 4);

    cache.erase_below("a");
    CHECK((cache.size() == 1 && known("/ab")));

    fill();
    cache.erase_below("");
    CHECK(cache.size() == 0);
    CHECK(cache.open_count() == 0);
}
