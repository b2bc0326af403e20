// document_root.cpp: a file that was found, closed, and is opened again.
#include "examples/httpd/content/document_root.hpp"

#include "tests/examples/httpd/scratch_directory.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/ring.hpp>

#include <filesystem>
#include <memory>
#include <string>

#include <fcntl.h>
#include <unistd.h>

namespace {

struct page_directory : scratch_directory {
    page_directory() {
        directory("sub");
        write("sub/page", "plain");
        write("sub/page.gz", "packed");
    }
};

/// A file with a compressed sibling that was found, and closed.
class closed_page {
public:
    closed_page() : site_(directory.path(), {.precompressed = true}) {
        known = run_on(loop_, [&] { return site_.find(loop_, "/sub/page"); }).file;
        REQUIRE(known != nullptr);
        REQUIRE(known->available != 0);
        known->close();
        REQUIRE_FALSE(known->is_open());
    }
    bool reopen() { return site_.reopen(loop_, *known); }
    // Only what the kernel has at hand is opened, and it may refuse that once: another process
    // mounts something, or memory is short. Then a request looks the file up again, as this does.
    bool reopen_in_the_end() {
        for (int i = 0; i < 1000; ++i) {
            if (reopen()) return true;
            for (const char* name : {"sub/page", "sub/page.gz"})
                REQUIRE(std::filesystem::exists(directory / name));
        }
        return false;
    }

    const page_directory directory;
    std::shared_ptr<httpd::served_file> known;

private:
    httpd::document_root site_;
    kevring::ring loop_;
};

}  // namespace

TEST_CASE("a file that has not changed is opened again, with its siblings", "[httpd][site]") {
    closed_page page;

    REQUIRE(page.reopen_in_the_end());

    CHECK(page.known->is_open());
    std::string text(8, '\0');
    text.resize(static_cast<std::size_t>(
        ::pread(page.known->plain.descriptor.number(), text.data(), text.size(), 0)));
    CHECK(text == "plain");
    const auto& packed = page.known->variant(httpd::content_coding::gzip);
    CHECK(packed.descriptor.valid());
    CHECK((::fcntl(packed.descriptor.number(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("a file that is not the same any more is not opened again", "[httpd][site]") {
    closed_page page;
    const std::string path = page.directory / "sub/page";
    const page_directory outside;

    SECTION("removed") { std::filesystem::remove(path); }
    SECTION("replaced") {
        page.directory.write("new", "plain");
        page.directory.rename("new", "sub/page");
    }
    SECTION("written") { page.directory.write("sub/page", "longer than before"); }
    SECTION("its sibling was removed") { std::filesystem::remove(path + ".gz"); }
    SECTION("its directory leads out of the root") {
        page.directory.rename("sub", "old");
        std::filesystem::create_directory_symlink(outside / "sub", page.directory / "sub");
    }

    CHECK_FALSE(page.reopen());
    CHECK_FALSE(page.known->is_open());
}
