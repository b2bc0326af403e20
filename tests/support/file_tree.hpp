// file_tree.hpp: a tree of files for tests, and a loop whose calls about files fail.
#pragma once

#include "tests/support/file_support.hpp"

#include <filesystem>
#include <string>

#include <sys/socket.h>
#include <sys/un.h>

/// Makes the folder `root` with a/b/f1, a/f2, f3, l -> a, p (FIFO), s (socket).
inline void make_tree(const scratch_folder& scratch, const std::string& root) {
    std::filesystem::create_directories(scratch.path(root + "/a/b"));
    scratch.write(root + "/a/b/f1", "one");
    scratch.write(root + "/a/f2", std::string(100000, 'x'));
    scratch.write(root + "/f3", "");
    REQUIRE(::symlink("a", scratch.path(root + "/l").c_str()) == 0);
    REQUIRE(::mkfifo(scratch.path(root + "/p").c_str(), 0600) == 0);
    const kevring::fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    scratch.path(root + "/s").copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(socket.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
            0);
}

/// The calls about files of `loop` go through `faults`.
inline void use(kevring::ring& loop, faulty_files& faults) {
    loop.claim();
    loop.service<kevring::file_kernel_choice>().chosen = &faults;
}
