// file_cache.cpp: which files the cache keeps when there are more than it has room for.
#include "examples/httpd/file_cache.hpp"
#include "tests/support/catch.hpp"

#include <memory>
#include <string>

using httpd::file_cache;
using httpd::served_file;

namespace {

// True if it was there.
bool ask(file_cache& cache, const std::string& path) {
    if (cache.find(path) != nullptr) return true;
    cache.put(path, {.file = std::make_shared<served_file>()});
    return false;
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
