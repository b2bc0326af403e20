// file_cache.cpp: which files the cache keeps when there are more than it has room for.
#include "examples/httpd/file_cache.hpp"
#include "tests/support/catch.hpp"

#include <memory>
#include <string>

using httpd::file_cache;
using httpd::served_file;

namespace {

void ask(file_cache& cache, const std::string& path, std::time_t now) {
    if (cache.find(path, now) != nullptr) return;
    cache.put(path, {.file = std::make_shared<served_file>(), .looked_at = now, .used_at = now});
}

}  // namespace

TEST_CASE("files that are read in turn do not push each other out", "[httpd][file_cache]") {
    file_cache cache(8);
    for (int round = 0; round < 3; ++round)
        for (int i = 0; i < 10; ++i) ask(cache, std::to_string(i), 100);

    CHECK(cache.size() == 8);
    for (int i = 0; i < 8; ++i) CHECK(cache.find(std::to_string(i), 100) != nullptr);
}

TEST_CASE("what nobody has asked for lately makes room", "[httpd][file_cache]") {
    file_cache cache(2);
    ask(cache, "old", 100);
    ask(cache, "used", 101);
    ask(cache, "new", 101);
    CHECK(cache.find("new", 101) == nullptr);

    ask(cache, "new", 102);

    CHECK(cache.find("old", 102) == nullptr);
    CHECK(cache.find("used", 102) != nullptr);
    CHECK(cache.find("new", 102) != nullptr);
}

TEST_CASE("a clock that was set back keeps nobody", "[httpd][file_cache]") {
    file_cache cache(1);
    ask(cache, "before", 1'000);

    ask(cache, "after", 10);

    CHECK(cache.find("after", 10) != nullptr);
}
