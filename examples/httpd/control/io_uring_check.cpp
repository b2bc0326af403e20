#include "io_uring_check.hpp"

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/features.hpp>

#include <array>
#include <cerrno>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <system_error>

#include <sys/syscall.h>
#include <unistd.h>

namespace httpd {
namespace {

// As in <linux/io_uring.h>, which only the library includes.
using ring_parameters = std::array<std::uint32_t, 30>;  // struct io_uring_params
using probe_head = std::array<std::uint64_t, 2>;        // struct io_uring_probe, without entries
constexpr unsigned register_probe = 8;

[[noreturn]] void fail(const char* call) {
    throw std::runtime_error(
        std::string("io_uring is not available: ") + call + ": " +
        std::system_category().message(errno) +
        "; let the seccomp profile of the container or service allow io_uring_setup, "
        "io_uring_enter and io_uring_register");
}

}  // namespace

void check_io_uring() {
    ring_parameters parameters{};
    const kevring::fd ring(static_cast<int>(::syscall(SYS_io_uring_setup, 4, parameters.data())));
    if (!ring)
        throw std::runtime_error("io_uring is not available: " +
                                 kevring::explain_ring_failure(errno));
    probe_head probe{};
    if (::syscall(SYS_io_uring_register, ring.number(), register_probe, probe.data(), 0) != 0)
        fail("io_uring_register");
    if (::syscall(SYS_io_uring_enter, ring.number(), 0, 0, 0, nullptr, 0) < 0)
        fail("io_uring_enter");
}

}  // namespace httpd
