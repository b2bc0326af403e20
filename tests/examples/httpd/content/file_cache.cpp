// file_cache.cpp: which files the cache keeps when there are more than it has room for.
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
    cache.put(path, {.file = std::move(file)});
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

TEST_CASE("what was asked for last is there, however small the cache", "[httpd][file_cache]") {
    file_cache cache(1);
    for (int i = 0; i < 10; ++i) {
        CHECK_FALSE(ask(cache, std::to_string(i)));
        CHECK(ask(cache, std::to_string(i)));
        CHECK(cache.size() == 1);
    }
    cache.drop("9");
    CHECK(cache.size() == 0);
}

TEST_CASE("a file that is closed to make room is known on, and one in use is forgotten",
          "[httpd][file_cache]") {
    file_cache cache(1);
    cache.put("/a", {.file = made("a")});
    const auto in_use = made("b");

    cache.put("/b", {.file = in_use});
    REQUIRE(cache.find("/a") != nullptr);
    CHECK_FALSE(cache.find("/a")->file->is_open());
    CHECK(cache.open_count() == 1);

    cache.put("/c", {.file = made("c")});
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
        cache.put("/" + name, {.file = std::move(file), .looked_at = now, .asked_at = now});
        return cache.find("/" + name);
    };
    httpd::cached_file& one = *add("one", 60);
    char* const room = cache.content_room(one, now);
    REQUIRE(room != nullptr);
    CHECK(cache.content_room(one, now) == room);
    CHECK(cache.content_bytes() == 60);

    // Neither what is larger than all, nor what others in use leave no room for.
    CHECK(cache.content_room(*add("vast", 101), now) == nullptr);
    CHECK(cache.content_room(*add("empty", 0), now) == nullptr);
    httpd::cached_file& two = *add("two", 50);
    CHECK(cache.content_room(two, now + 1) == nullptr);
    CHECK(one.content != nullptr);

    SECTION("what nobody has asked for of late makes room") {
        one.looked(now + 1);
        CHECK(cache.content_room(two, now + 2) != nullptr);
        CHECK(one.content == nullptr);
        CHECK(cache.content_bytes() == 50);
    }
    SECTION("a file that is dropped gives its memory back") {
        cache.drop_named("one");
        CHECK(cache.content_bytes() == 0);
        CHECK(cache.content_room(two, now) != nullptr);
        cache.clear();
        CHECK(cache.content_bytes() == 0);
    }
    SECTION("any of them may be the first to go") {
        cache.clear();
        std::vector<httpd::cached_file*> known;
        for (const std::string name : {"a", "b", "c", "d"}) {
            known.push_back(add(name, 25));
            REQUIRE(cache.content_room(*known.back(), now) != nullptr);
        }
        CHECK(cache.content_bytes() == 100);
        cache.drop("/a");
        cache.drop("/d");
        CHECK(cache.content_bytes() == 50);
        httpd::cached_file& wide = *add("wide", 90);
        char* found = nullptr;
        for (int looks = 0; found == nullptr && looks < 100; ++looks)
            found = cache.content_room(wide, now + 2);
        CHECK(found != nullptr);
        CHECK(cache.content_bytes() == 90);
        CHECK(known[1]->content == nullptr);
        CHECK(known[2]->content == nullptr);
    }
    SECTION("what was read before a look is good no more") {
        one.content_is_good = true;
        one.looked(now + 2);
        CHECK_FALSE(one.content_is_good);
        CHECK(cache.content_room(one, now + 2) == room);
    }
}

TEST_CASE("a file that is opened again makes another close", "[httpd][file_cache]") {
    file_cache cache(1);
    cache.put("/a", {.file = made("a")});
    cache.put("/b", {.file = made("b")});

    cache.make_room();
    *cache.find("/a")->file = std::move(*made("a"));
    cache.opened("/a");

    CHECK(cache.find("/a")->file->is_open());
    CHECK_FALSE(cache.find("/b")->file->is_open());
    CHECK(cache.open_count() == 1);
}

TEST_CASE("as many files are known as there is room for", "[httpd][file_cache]") {
    constexpr std::size_t open_max = 4;
    constexpr std::size_t known_max = open_max * file_cache::known_for_each_open;
    file_cache cache(open_max);
    for (int i = 0; i < 100; ++i) {
        cache.put('/' + std::to_string(i), {.file = made(std::to_string(i))});
        CHECK(cache.find('/' + std::to_string(i))->file->is_open());
        CHECK(cache.open_count() <= open_max);
        CHECK(cache.size() <= known_max);
    }
    CHECK(cache.size() == known_max);
}

TEST_CASE("a file that is asked for by paths without end pushes out itself alone",
          "[httpd][file_cache]") {
    file_cache cache(16);
    cache.put("/b", {.file = made("b")});
    std::string path = "/a";
    for (int i = 0; i < 100; ++i) {
        path = '/' + path;
        cache.put(path, {.file = made("a")});
        CHECK(cache.find(path) != nullptr);
    }
    CHECK(cache.find("/b") != nullptr);
    CHECK(cache.size() <= 1 + file_cache::paths_of_each_file);

    cache.drop_named("a");
    CHECK(cache.size() == 1);
}

TEST_CASE("what is served from a name goes with it, whatever it was asked for as",
          "[httpd][file_cache]") {
    file_cache cache(2);
    const auto fill = [&] {
        for (const std::string path : {"/a/x", "/%61/x"}) cache.put(path, {.file = made("a/x")});
        cache.put("/a/y", {.file = made("a/y")});
        cache.put("/ab", {.file = made("ab")});
    };
    const auto known = [&](const std::string& path) { return cache.find(path) != nullptr; };

    fill();
    cache.drop_named("a/x");
    CHECK((!known("/a/x") && !known("/%61/x") && known("/a/y") && known("/ab")));

    fill();
    const std::string suffix = GENERATE(".gz", ".br", ".zst");
    cache.drop_named("a/y" + suffix);
    CHECK((known("/a/x") && !known("/a/y") && known("/ab")));

    fill();
    cache.drop_named("a/y.txt");
    CHECK(cache.size() == 4);

    cache.drop_below("a");
    CHECK((cache.size() == 1 && known("/ab")));

    fill();
    cache.drop_below("");
    CHECK(cache.size() == 0);
    CHECK(cache.open_count() == 0);
}
