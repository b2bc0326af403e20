// copy_options.hpp: the options of copies of files and trees, and their progress.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <cstdint>

namespace kevring {

/// The work of a copy so far.
struct copy_progress {
    std::uint64_t byte_count = 0;       // of contents
    std::uint64_t file_count = 0;       // regular files that are complete
    std::uint64_t directory_count = 0;  // created
    std::uint64_t other_count = 0;      // symbolic links and FIFOs
    std::uint64_t skipped_count = 0;    // sockets and devices, which are not copied
};

/// Receives the progress of a copy.
class copy_observer {
public:
    virtual ~copy_observer() = default;
    /// After each step, of at most 16 MiB or 256 entries.
    ///
    /// Thread     The loop's.
    virtual void on_progress(const copy_progress& progress) = 0;
};

/// Trivially destructible: it may be written as a temporary in a co_await expression.
struct copy_options {
    /// A file replaces the content of the existing one, and a directory receives the entries of the
    /// source. Otherwise an existing target is the error file_exists.
    bool overwrite = false;
    /// The permissions of the source without the umask, and its times. Without it the permissions
    /// are those of the source minus the umask, as of cp(1).
    bool preserve = false;
    copy_observer* observer = nullptr;  // outlives the copy
};

}  // namespace kevring
