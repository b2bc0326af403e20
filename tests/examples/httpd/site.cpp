// site.cpp: a file that was found, closed, and is opened again.
#include "examples/httpd/site.hpp"

#include "scratch_folder.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/ring.hpp>

#include <filesystem>
#include <memory>
#include <string>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

// Found in `folder` with a compressed sibling, and closed.
std::shared_ptr<httpd::served_file> found_and_closed(kevring::ring& on, const httpd::site& files) {
    auto found = run_on(on, [&] { return files.find(on, "/sub/page"); });
    REQUIRE(found.file != nullptr);
    REQUIRE(found.file->available != 0);
    found.file->close();
    REQUIRE_FALSE(found.file->is_open());
    return found.file;
}

void make_site(const scratch_folder& folder) {
    folder.folder("sub");
    folder.write("sub/page", "plain");
    folder.write("sub/page.gz", "packed");
}

}  // namespace

TEST_CASE("a file that has not changed is opened again, with its siblings", "[httpd][site]") {
    const scratch_folder folder;
    make_site(folder);
    const httpd::site files(folder.path(), true, false);
    kevring::ring ring;
    const auto known = found_and_closed(ring, files);

    REQUIRE(files.reopen(ring, *known));
    CHECK(known->is_open());
    std::string text(8, '\0');
    text.resize(static_cast<std::size_t>(
        ::pread(known->plain.descriptor.number(), text.data(), text.size(), 0)));
    CHECK(text == "plain");
    const auto& packed = known->variant(httpd::content_coding::gzip);
    CHECK(packed.descriptor.valid());
    CHECK((::fcntl(packed.descriptor.number(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("a file that is not the same any more is not opened again", "[httpd][site]") {
    const scratch_folder folder;
    make_site(folder);
    const httpd::site files(folder.path(), true, false);
    kevring::ring ring;
    const auto known = found_and_closed(ring, files);

    SECTION("removed") { std::filesystem::remove(folder / "sub/page"); }
    SECTION("replaced") {
        folder.write("new", "other");
        folder.rename("new", "sub/page");
    }
    SECTION("written") { folder.write("sub/page", "longer than before"); }
    SECTION("forbidden, and allowed again") {
        REQUIRE(::chmod((folder / "sub/page").c_str(), 0) == 0);
        REQUIRE(::chmod((folder / "sub/page").c_str(), 0644) == 0);
    }
    SECTION("its sibling was removed") { std::filesystem::remove(folder / "sub/page.gz"); }
    SECTION("its folder leads out of the root") {
        const scratch_folder outside;
        make_site(outside);
        folder.rename("sub", "old");
        std::filesystem::create_directory_symlink(outside / "sub", folder / "sub");
        CHECK_FALSE(files.reopen(ring, *known));
    }

    CHECK_FALSE(files.reopen(ring, *known));
    CHECK_FALSE(known->is_open());
}
