#include "examples/httpd/control/descriptor_limits.hpp"

#include "tests/support/catch.hpp"

using httpd::divide_descriptors;
using httpd::settings;

TEST_CASE("the wanted limits are granted where there are descriptors enough",
          "[httpd][descriptors]") {
    settings wanted;
    wanted.connection_count_max = 5'000;
    wanted.open_file_count_max = 100;

    const auto shares = divide_descriptors(20'000, 2, wanted);

    CHECK(shares.connections == 5'000);
    CHECK(shares.cached_files == 100);
    CHECK(shares.clients_rejecting == 64);
}

TEST_CASE("shares never come to more than the limit, and are never nothing",
          "[httpd][descriptors]") {
    for (const bool precompressed : {false, true}) {
        settings wanted;
        wanted.site.precompressed = precompressed;
        for (const unsigned worker_count : {1U, 2U, 64U}) {
            for (unsigned long limit = 0; limit < 4'000; limit += 16) {
                INFO(limit << " descriptors, " << worker_count << " workers");
                const auto shares = divide_descriptors(limit, worker_count, wanted);
                CHECK(shares.connections >= 1);
                CHECK(shares.cached_files >= 1);
                CHECK(shares.clients_rejecting >= 1);
                if (limit < 40UL * worker_count + 64) continue;  // too few for anything
                const unsigned long files =
                    1UL * shares.cached_files * worker_count * (precompressed ? 4 : 1);
                CHECK(files + shares.connections + shares.clients_rejecting * worker_count <=
                      limit);
            }
        }
    }
}

TEST_CASE("descriptors that files do not need are for clients", "[httpd][descriptors]") {
    settings wanted;
    const auto before = divide_descriptors(1'024, 1, wanted);
    wanted.open_file_count_max = 10;

    const auto after = divide_descriptors(1'024, 1, wanted);

    CHECK(after.cached_files == 10);
    CHECK(after.connections > before.connections);
}

TEST_CASE("without a limit there is no share but what is wanted", "[httpd][descriptors]") {
    const settings wanted;

    const auto shares = divide_descriptors(~0UL, 4, wanted);

    CHECK(shares.connections == wanted.connection_count_max);
    CHECK(shares.cached_files == wanted.open_file_count_max);
}

TEST_CASE("files get a quarter, and up to as many as clients where those are thousands",
          "[httpd][descriptors]") {
    settings wanted;
    wanted.open_file_count_max = 11'000;

    const auto few = divide_descriptors(1'024, 1, wanted);
    const auto many = divide_descriptors(20'000, 1, wanted);

    CHECK(few.cached_files < 256);
    CHECK(few.connections > 600);
    CHECK(many.cached_files > 9'300);
    CHECK(many.connections >= many.cached_files);
    CHECK(many.connections + many.cached_files < 19'000);
}
