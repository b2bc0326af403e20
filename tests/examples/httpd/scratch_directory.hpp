// scratch_directory.hpp: a directory of a test's own, which goes with it.
#pragma once

#include "tests/support/catch.hpp"

#include <array>
#include <filesystem>
#include <fstream>
#include <string>

#include <stdlib.h>

class scratch_directory {
public:
    scratch_directory() {
        std::array<char, 32> name{"/tmp/httpd-test-XXXXXX"};
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        path_ = name.data();
    }
    scratch_directory(const scratch_directory&) = delete;
    scratch_directory& operator=(const scratch_directory&) = delete;
    ~scratch_directory() { std::filesystem::remove_all(path_); }

    const std::string& path() const noexcept { return path_; }
    std::string operator/(const std::string& name) const { return path_ + '/' + name; }

    void directory(const std::string& name) const {
        std::filesystem::create_directories(*this / name);
    }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(*this / name) << text;
    }
    void rename(const std::string& from, const std::string& to) const {
        std::filesystem::rename(*this / from, *this / to);
    }

private:
    std::string path_;
};
