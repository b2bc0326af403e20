// uring.hpp: the only include of <liburing.h>; differences between its versions end here.
//
// Debian 12 brings liburing 2.3, whose header ends with Linux 6.1. Newer constants are defined here
// with the numbers of the kernel's interface, so that the library offers the same on every
// distribution and asks only the running kernel what it can do.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <liburing.h>

#include <cstdint>

namespace kevring::detail {

// Registrations that came after Linux 6.1 (include/uapi/linux/io_uring.h).
inline constexpr unsigned register_send_msg_ring = 31;  // Linux 6.13

// Flags of io_uring_enter() that came after Linux 6.1.
inline constexpr unsigned enter_no_iowait = 1U << 7;          // Linux 6.15
inline constexpr std::uint32_t feature_no_iowait = 1U << 17;  // its bit in params.features

// Requests that the kernel never tries within io_uring_enter(), and gives to a worker of its own.
// Others get there when they would have to wait: for a disk, mostly.
inline constexpr std::uint64_t always_punted_opcodes =
    1ULL << IORING_OP_FSYNC | 1ULL << IORING_OP_SYNC_FILE_RANGE | 1ULL << IORING_OP_FALLOCATE |
    1ULL << IORING_OP_STATX | 1ULL << IORING_OP_MADVISE | 1ULL << IORING_OP_SPLICE |
    1ULL << IORING_OP_TEE | 1ULL << IORING_OP_SHUTDOWN | 1ULL << IORING_OP_RENAMEAT |
    1ULL << IORING_OP_UNLINKAT | 1ULL << IORING_OP_MKDIRAT | 1ULL << IORING_OP_SYMLINKAT |
    1ULL << IORING_OP_LINKAT;
constexpr std::uint64_t always_punted(std::uint8_t opcode) noexcept {
    return opcode < 64 ? always_punted_opcodes >> opcode & 1 : 0;
}

// Zero-copy sends: a flag in `ioprio`, and the mark in `res` of the notice (Linux 6.2).
inline constexpr std::uint16_t send_zero_copy_report_usage = 1U << 3;
inline constexpr std::uint32_t notification_copied = 1U << 31;

// user_data below the first address is the ring's own; all else is the address of a completion.
inline constexpr std::uint64_t user_data_ignored = 0;
inline constexpr std::uint64_t user_data_wake = 1;
inline constexpr std::uint64_t user_data_first_address = 4096;
inline constexpr std::uint64_t user_data_refused = 1;  // bit beside the address, which is even

}  // namespace kevring::detail
