#include "tests/support/catch.hpp"

#include <kevring/kevring.hpp>

TEST_CASE("the version has three parts", "[runtime][version]") {
    CHECK(std::string(kevring::version()).find('.') != std::string::npos);
}
