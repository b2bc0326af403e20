// directory_entry.hpp: the entries of directories, as a listing or a walk reports them.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>

namespace kevring {

/// The kind of a file.
enum class file_type : std::uint8_t {
    unknown,
    regular,
    directory,
    symlink,
    fifo,
    socket,
    character_device,
    block_device,
};

/// One entry of a directory.
struct directory_entry {
    std::string name;
    file_type type = file_type::unknown;  // unknown where the file system does not store it
    std::uint64_t inode = 0;
};

/// One file below the root of a walk.
struct walk_entry {
    std::string path;  // relative to the root
    file_type type = file_type::unknown;
    std::uint64_t inode = 0;
    std::size_t depth = 1;  // 1: in the root
    bool entered = false;   // a directory whose entries follow
    std::error_code error;  // of a directory that could not be opened or read
};

}  // namespace kevring
