// scratch_file.hpp: a file of a benchmark's own, on a disk.
#pragma once

#include <kevring/runtime/fd.hpp>

#include <cerrno>
#include <cstddef>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/// Has no name, and is gone with this. Throws std::system_error.
class scratch_file {
public:
    explicit scratch_file(std::size_t byte_count) {
        char name[] = "/var/tmp/kevring-bench-XXXXXX";  // mkostemp(3) chooses what ends it
        file_.reset(::mkostemp(name, O_CLOEXEC));
        if (!file_) throw std::system_error(errno, std::system_category(), name);
        ::unlink(name);
        const std::string bytes(byte_count, 'x');
        if (::pwrite(file_.number(), bytes.data(), byte_count, 0) !=
            static_cast<ssize_t>(byte_count))
            throw std::system_error(errno, std::system_category(), "pwrite");
    }
    kevring::fd_ref native() const noexcept { return file_; }

private:
    kevring::fd file_;
};
