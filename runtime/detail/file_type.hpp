// file_type.hpp: file types as readdir(3) and stat(2) number them.
#pragma once

#include <kevring/runtime/directory_entry.hpp>

#include <dirent.h>
#include <sys/types.h>

namespace kevring::detail {

constexpr file_type type_from_entry(unsigned char type) noexcept {
    switch (type) {
        case DT_REG: return file_type::regular;
        case DT_DIR: return file_type::directory;
        case DT_LNK: return file_type::symlink;
        case DT_FIFO: return file_type::fifo;
        case DT_SOCK: return file_type::socket;
        case DT_CHR: return file_type::character_device;
        case DT_BLK: return file_type::block_device;
        default: return file_type::unknown;
    }
}

/// From st_mode.
constexpr file_type type_from_mode(mode_t mode) noexcept {
    return type_from_entry(static_cast<unsigned char>((mode & 0170000U) >> 12));
}

}  // namespace kevring::detail
