// recording_kernel.hpp: records the system calls of a transfer, and changes some results.
#pragma once

#include "tests/sendfile/transfer_test.hpp"

#include <kevring/runtime/kernel.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include <sys/stat.h>

namespace kevring::testing {

inline constexpr std::uint64_t window = 256 * 1024;
inline constexpr std::uint64_t sendfile_window = 2 * 1024 * 1024;

/// Passes calls on to Linux, and reports a part of every file as absent from the page cache.
class recording_kernel : public kernel {
public:
    std::uint64_t nonresident_begin = 0;
    std::uint64_t nonresident_end = 0;
    bool knows_cachestat = true;
    bool knows_nowait = true;
    int fail_send_file = 0;
    std::function<int()> before_send_file;  // the error that the call gives, or 0
    unsigned inject_faults = 0;             // short counts, EINTR and EAGAIN in between

    struct call {
        std::uint64_t begin;
        std::uint64_t end;
    };
    std::vector<call> sendfile_calls;
    const ring* loop = nullptr;
    std::map<std::uint64_t, std::uint64_t> bytes_by_iteration;
    unsigned residency_queries = 0;
    unsigned version_queries = 0;
    unsigned flag_queries = 0;
    std::uint64_t largest_query = 0;

    ssize_t send_file(int socket, int file, off_t* file_offset,
                      std::size_t count) noexcept override {
        const auto begin = static_cast<std::uint64_t>(*file_offset);
        sendfile_calls.push_back({begin, begin + count});
        if (before_send_file)
            if (const int error = before_send_file()) return -error;
        if (fail_send_file != 0) return -fail_send_file;
        if (const int refused = inject_fault(count, 37)) return refused;
        const ssize_t sent = kernel::send_file(socket, file, file_offset, count);
        if (sent > 0 && loop != nullptr)
            bytes_by_iteration[loop->counters().iterations] += static_cast<std::uint64_t>(sent);
        return sent;
    }
    ssize_t sendmsg_nowait(int socket, const msghdr& message, int flags) noexcept override {
        iovec first = message.msg_iov[0];
        if (const int refused = inject_fault(first.iov_len, 0)) return refused;
        if (first.iov_len < message.msg_iov[0].iov_len) {
            msghdr less = message;
            less.msg_iov = &first;
            less.msg_iovlen = 1;
            return kernel::sendmsg_nowait(socket, less, flags);
        }
        return kernel::sendmsg_nowait(socket, message, flags);
    }
    ssize_t splice_nowait(int source, off_t* source_offset, int target, std::size_t count,
                          unsigned flags) noexcept override {
        if (const int refused = inject_fault(count, 37)) return refused;
        return kernel::splice_nowait(source, source_offset, target, count, flags);
    }
    ssize_t read_nowait(int file, const iovec* parts, int part_count,
                        off_t file_offset) noexcept override {
        if (!knows_nowait) return -EOPNOTSUPP;
        const auto begin = static_cast<std::uint64_t>(file_offset);
        if (begin < nonresident_end && begin + parts->iov_len > nonresident_begin) return -EAGAIN;
        return kernel::read_nowait(file, parts, part_count, file_offset);
    }
    ssize_t resident_pages(int file, std::uint64_t file_offset,
                           std::uint64_t count) noexcept override {
        ++residency_queries;
        largest_query = std::max(largest_query, count);
        if (!knows_cachestat) return -ENOSYS;
        if (file_offset < nonresident_end && file_offset + count > nonresident_begin) return 0;
        return kernel::resident_pages(file, file_offset, count);
    }
    int stat_file(int file, struct stat& status) noexcept override {
        ++version_queries;
        return kernel::stat_file(file, status);
    }
    int set_nonblocking(int file) noexcept override {
        ++flag_queries;
        return kernel::set_nonblocking(file);
    }
    std::optional<std::int64_t> clock_ns;  // set: the clock stops
    std::int64_t steady_ns() noexcept override { return clock_ns.value_or(kernel::steady_ns()); }
    bool has_pipes = true;
    int open_pipe(int (&ends)[2], std::size_t capacity_bytes) noexcept override {
        return has_pipes ? kernel::open_pipe(ends, capacity_bytes) : -EMFILE;
    }

private:
    // An inject_faults kernel: EINTR, EAGAIN, fewer bytes and no trouble, in turn.
    int inject_fault(std::size_t& count, std::size_t growth) noexcept {
        if (inject_faults == 0) return 0;
        switch (inject_faults++ % 4) {
            case 0: return -EINTR;
            case 1: return -EAGAIN;
            case 2: count = std::min<std::size_t>(count, 1 + inject_faults * growth); return 0;
            default: return 0;
        }
    }
};

}  // namespace kevring::testing
