// spawn_request.hpp: the arguments of posix_spawn(3), as one object for the kernel seam.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <spawn.h>

namespace kevring::detail {

/// Lifetime   Everything that it points to stays valid for the call.
struct spawn_request {
    const char* program;  // searched in PATH if it has no slash
    const posix_spawn_file_actions_t* actions;
    const posix_spawnattr_t* attributes;
    char* const* arguments;
    char* const* environment;
};

}  // namespace kevring::detail
