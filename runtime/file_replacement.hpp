// file_replacement.hpp: new content for a file, which appears whole or not at all.
#pragma once

#include <kevring/runtime/byte_views.hpp>
#include <kevring/runtime/directory.hpp>
#include <kevring/runtime/file.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

namespace kevring {

/// A temporary file in the directory of `path` that commit() renames to `path`. A reader, and the file
/// system after a crash, has either the old or the new content.
///
///     auto replacement = co_await file_replacement::begin(directory, "settings");
///     co_await replacement->content().write_all(text);
///     co_await replacement->commit();
///
/// Lifetime   Outlives every await on it; within the life of its ring. Without commit() the destructor
///            removes the temporary file, by a request for which it does not wait.
/// Thread     The ring's own.
class file_replacement {
public:
    /// Creates the temporary file, with the permissions of the existing file; of a new one they are
    /// 0666 reduced by the umask. A symbolic link at `path` is replaced itself.
    ///
    /// Errors     operation_canceled, timed_out; otherwise as for openat2(2).
    /// Kernel     IORING_OP_OPENAT2 and IORING_OP_STATX, Linux 5.6; fchmod(2) on a thread of the pool.
    static task<result<file_replacement>> begin(const directory& parent, std::string_view path);

    file_replacement(file_replacement&& other) noexcept;
    file_replacement& operator=(file_replacement&& other) noexcept;
    ~file_replacement();

    /// The temporary file, open for reads and writes.
    const file& content() const noexcept;
    /// Writes the file to its device, renames it, and writes the directory to its device.
    ///
    /// Errors     operation_canceled, timed_out; otherwise as for fsync(2) and renameat2(2). After an
    ///            error of the last step the new content is visible and may not survive a crash.
    /// Kernel     IORING_OP_FSYNC, Linux 5.1; IORING_OP_RENAMEAT, Linux 5.11.
    task<result<void>> commit();

private:
    class state;
    explicit file_replacement(std::unique_ptr<state> begun) noexcept;
    static task<result<file_replacement>> begin_owned(const directory& parent, std::string path);

    std::unique_ptr<state> state_;
};

/// Replaces the content of a file, or creates it; see file_replacement.
///
/// Errors     Those of file_replacement and of file::write_all(); the old content stays.
/// Lifetime   `parent` and `content` stay valid until the await completes.
task<result<void>> replace_file(const directory& parent, std::string_view path,
                                std::span<const std::byte> content);
inline task<result<void>> replace_file(const directory& parent, std::string_view path,
                                       std::string_view content) {
    return replace_file(parent, path, std::as_bytes(std::span(content)));
}
template <byte_view Bytes>
task<result<void>> replace_file(const directory& parent, std::string_view path,
                                const Bytes& content) {
    return replace_file(parent, path, bytes_of(content));
}

}  // namespace kevring
