// file_copier.hpp: the copy of one regular file, in steps of bounded length.
#pragma once

#include <kevring/runtime/copy_options.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/file_kernel.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <sys/types.h>

namespace kevring::detail {

/// Functions return 0 or a count, or a negated errno.
///
/// Thread     One at a time.
class file_copier {
public:
    explicit file_copier(file_kernel& system) noexcept : system_(system) {}
    file_copier(const file_copier&) = delete;
    file_copier& operator=(const file_copier&) = delete;
    /// Discards a copy that an exception or the end of the ring has interrupted.
    ~file_copier() { discard(); }

    /// Opens both files; follows no symbolic link at the end of the paths. -EINVAL for a source that
    /// is no regular file. `target_directory` stays open until the end, or until discard().
    int begin(int source_directory, const char* source, int target_directory, const char* target,
              const copy_options& options);
    /// Copies up to `byte_count_max` bytes; 0 at the end, when both files are closed.
    ssize_t step(std::size_t byte_count_max);
    bool active() const noexcept { return source_.valid(); }
    /// Removes a target that begin() has created and that is not complete.
    void discard() noexcept;

private:
    // Each is the fallback of the one before it.
    enum class method : std::uint8_t { range, splice, read_write };

    ssize_t copy_by_splice(std::size_t byte_count_max);
    ssize_t copy_by_read(int from, std::size_t byte_count_max);
    ssize_t write_whole(const std::byte* bytes, std::size_t byte_count);
    int finish();

    file_kernel& system_;
    fd source_;
    fd target_;
    int target_directory_ = -1;
    std::string target_name_;
    bool created_ = false;
    bool preserve_ = false;
    method method_ = method::range;
    std::uint64_t copied_bytes_ = 0;
    // Kept from one file to the next.
    bool range_fails_ = false;
    fd pipe_out_;
    fd pipe_in_;
    std::unique_ptr<std::byte[]> buffer_;
};

}  // namespace kevring::detail
