// process.cpp: the end of a process.
#include <kevring/kevent/sources/fd_source.hpp>

#include <cerrno>

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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
            return static_cast<int>(::syscall(SYS_pidfd_open, process, 0));
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
        constexpr auto p_pidfd = static_cast<idtype_t>(3);  // the name is newer than some headers
        if (::waitid(p_pidfd, static_cast<id_t>(held().number()), &info,
                     WEXITED | WNOHANG | WNOWAIT) == 0)
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
