#include "examples/httpd/http/accept_encoding.hpp"

#include "tests/support/catch.hpp"

#include <string>

using namespace httpd;

namespace {

// "zstd br gzip -", where - is identity.
std::string order_of(std::string_view value) {
    const accepted_codings codings(value);
    std::string order;
    for (const content_coding coding : codings.in_order()) {
        if (!order.empty()) order += ' ';
        order += coding == content_coding::identity ? "-" : std::string(name_of(coding));
    }
    return order;
}

}  // namespace

TEST_CASE("codings come in the order of their weights", "[httpd][accept_encoding]") {
    struct {
        const char* value;
        const char* order;
    } const cases[] = {
        {"gzip, deflate, br, zstd", "zstd br gzip -"},
        {"gzip", "gzip -"},
        {"GZIP", "gzip -"},
        {"x-gzip", "gzip -"},
        {"gzip;q=1.0, br;q=0.5", "gzip br -"},
        {"gzip;q=0.5, br;q=0.51", "br gzip -"},
        {"gzip;q=0.001", "gzip -"},
        {"gzip ; q=0.5 , br\t;\tQ=0.6", "br gzip -"},
        {"gzip;q=0", "-"},
        {"gzip;q=0.000, br", "br -"},
        {"identity, gzip;q=0.5", "- gzip"},
        {"identity, gzip", "gzip -"},
        {"identity;q=0.5, gzip;q=0.5, br;q=0.4", "gzip - br"},
        {"*", "zstd br gzip -"},
        {"*;q=0", "-"},
        {"gzip, *;q=0", "gzip -"},
        {"br;q=0, *", "zstd gzip -"},
        {"gzip;q=0.5, *;q=1", "zstd br - gzip"},
        {"identity;q=0", "-"},  // nothing else to send
        {"identity;q=0, gzip", "gzip -"},
        {"", "-"},
        {",,", "-"},
        {"deflate, compress", "-"},
        // A weight that is none does not count.
        {"gzip;q=2, br", "br -"},
        {"gzip;q=1.1, br", "br -"},
        {"gzip;q=, br", "br -"},
        {"gzip;q=0.1234, br", "br -"},
        {"gzip;q=.5, br", "br -"},
        {"gzip;q=-1, br", "br -"},
        {"gzip;q=0.5x, br", "br -"},
        {"gzip;x=1, br", "br -"},
        {"gzip;q=1., br;q=0.", "gzip -"},
        {"gzip br", "-"},
    };
    for (const auto& one : cases) {
        CAPTURE(one.value);
        CHECK(order_of(one.value) == one.order);
    }
}

TEST_CASE("the best coding that there is a file for is chosen", "[httpd][accept_encoding]") {
    using enum content_coding;
    const auto bit = [](content_coding coding) { return accepted_codings::bit(coding); };

    CHECK(accepted_codings("gzip, br, zstd").choose(bit(gzip) | bit(br)) == br);
    CHECK(accepted_codings("gzip, br;q=0.1").choose(bit(gzip) | bit(br)) == gzip);
    CHECK(accepted_codings("gzip, br").choose(bit(zstd)) == identity);
    CHECK(accepted_codings("gzip, br").choose(0) == identity);
    CHECK(accepted_codings("identity;q=0").choose(0) == identity);
    CHECK(accepted_codings().choose(bit(gzip) | bit(br) | bit(zstd)) == identity);
}

TEST_CASE("a coding has its name and its suffix", "[httpd][accept_encoding]") {
    CHECK(name_of(content_coding::zstd) == "zstd");
    CHECK(suffix_of(content_coding::zstd) == ".zst");
    CHECK(name_of(content_coding::br) == "br");
    CHECK(suffix_of(content_coding::br) == ".br");
    CHECK(name_of(content_coding::gzip) == "gzip");
    CHECK(suffix_of(content_coding::gzip) == ".gz");
    CHECK(suffix_of(content_coding::identity).empty());
}
