// file_reader.hpp: reads a file from one offset to its end, ahead of its consumer.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace kevring {

struct file_reader_options {
    /// At most INT64_MAX.
    std::uint64_t file_offset = 0;
    /// Bytes of one read, clamped to 1 to 0x7ffff000. For a file opened with O_DIRECT a multiple of its
    /// alignment.
    std::size_t block_bytes = 128 * 1024;
    /// Blocks in memory: the one that the consumer has, and those that are read ahead; clamped to 1 to
    /// 1024.
    std::size_t block_count = 3;
};

/// A regular file as a stream of blocks. Reads of the next blocks are in flight while the consumer uses
/// the current one. The position of the open file is neither used nor changed.
///
/// Lifetime   `file` stays open as long as the reader. A reader may be destroyed while reads are in
///            flight: each block lives until its read completes. Within the life of its ring.
/// Thread     The ring's own.
/// In flight  One next() at a time.
/// Memory     block_count times block_bytes, aligned to 4096 bytes.
/// Kernel     IORING_OP_READ, Linux 5.6.
class file_reader {
public:
    file_reader(ring& loop, fd_ref file, const file_reader_options& options = {});
    file_reader(file_reader&& other) noexcept;
    file_reader& operator=(file_reader&& other) noexcept;
    ~file_reader();

    /// The next bytes: block_bytes of them, fewer at the end, none after it.
    /// They stay valid until the following next().
    ///
    /// Errors     operation_canceled, timed_out, and no byte is lost; invalid_argument for an offset
    ///            above INT64_MAX; bad_file_descriptor for a reader that was moved from; otherwise
    ///            as for read(2). The following next() repeats a failed read; bytes of the block before the error follow
    ///            when that succeeds.
    task<result<std::span<const std::byte>>> next();
    /// The offset behind the last bytes of next().
    std::uint64_t file_offset() const noexcept;

private:
    class state;
    struct state_end {
        void operator()(state* ended) const noexcept;
    };
    std::unique_ptr<state, state_end> state_;
};

}  // namespace kevring
