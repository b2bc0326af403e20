// awaitables.cpp: see awaitables.hpp.
#include <kevring/kevent/awaitables.hpp>

#include <kevring/runtime/operations/wait_process.hpp>

#include <poll.h>

namespace kevring {

descriptor_events readable(fd_ref file) noexcept { return {file, POLLIN}; }
descriptor_events writable(fd_ref file) noexcept { return {file, POLLOUT}; }

task<result<exit_status>> wait_for_exit(pid_t process) {
    ring* const loop = ring::current();
    const auto handle = open_process(process_kernel::chosen_by(*loop), process);
    if (!handle) co_return tl::unexpected<std::error_code>(handle.error());
    wait_process_operation end(*loop, *handle);
    auto status = co_await end;
    // Of processes of others only the end is known.
    if (status) status->process = process;
    co_return status;
}

}  // namespace kevring
