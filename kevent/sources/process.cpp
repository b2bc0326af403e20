// process.cpp: the end of a process.
#include <kevring/kevent/sources/fd_source.hpp>
#include <kevring/runtime/process_kernel.hpp>

#include <cerrno>

#include <poll.h>
#include <sys/wait.h>

namespace kevring::detail {
namespace {

// A pidfd, so that a number that is reused for another process cannot mislead it. The process is
// not reaped: that is up to its parent.
//
// ret_data[0]   of a child: its exit code, or the signal that ended it
// ret_data[1]   of a child: CLD_EXITED, CLD_KILLED or CLD_DUMPED; of others 0
class process_source final : public fd_source {
public:
    using fd_source::fd_source;

    static result<std::unique_ptr<source>> make(source_host& host, registration& target) {
        const auto process = static_cast<pid_t>(target.record.id.raw[0]);
        hidden_fd handle = hidden_fd::open([&]() noexcept {  // close-on-exec in any case
            const int number = process_kernel::real().open_process(process);
            if (number < 0) errno = -number;
            return number < 0 ? -1 : number;
        });
        if (!handle) return error_from_errno();
        auto made = std::make_unique<process_source>(host, target);
        made->set_watched(std::move(handle));
        return made;
    }

private:
    std::uint32_t wanted_bits() const noexcept override { return POLLIN; }
    readiness evaluate(std::uint32_t poll_bits) noexcept override {
        if ((poll_bits & POLLIN) == 0 || event() == KEVENT_MASK_EMPTY) return readiness::not_ready;
        siginfo_t info{};
        if (process_kernel::real().wait_process(held().number(), info,
                                                WEXITED | WNOHANG | WNOWAIT) >= 0)
            set_results(static_cast<std::uint32_t>(info.si_status),
                        static_cast<std::uint32_t>(info.si_code));
        return readiness::ready;
    }
};

}  // namespace

result<std::unique_ptr<source>> make_process_source(source_host& host, registration& target) {
    return process_source::make(host, target);
}

}  // namespace kevring::detail
