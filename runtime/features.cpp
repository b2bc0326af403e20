#include <kevring/runtime/features.hpp>

#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/operations/file_range.hpp>
#include <kevring/runtime/version.hpp>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string_view>

#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace kevring {
namespace {

struct feature_row {
    std::string_view name;
    bool features::* flag;
    std::string_view present;
    std::string_view absent;
};

constexpr std::array feature_table{
    feature_row{"send_message", &features::send_message, "wake-ups are sent by message",
                "wake-ups are written to an eventfd"},
    feature_row{"truncate", &features::truncate, "files are truncated by requests",
                "files are truncated by threads of a pool"},
    feature_row{"no_iowait", &features::no_iowait, "a sleeping loop does not count as iowait",
                "a sleeping loop counts as iowait"},
    feature_row{"epoll_control", &features::epoll_control,
                "a queue of one thread checks its descriptor by a request",
                "a queue of one thread checks its descriptor by a call of its own"},
};

bool disabled_by_environment(std::string_view name) noexcept {
    const char* const list = std::getenv("KEVRING_WITHOUT");
    if (list == nullptr) return false;
    std::string_view rest(list);
    while (!rest.empty()) {
        const std::size_t comma = rest.find(',');
        if (rest.substr(0, comma) == name) return true;
        if (comma == std::string_view::npos) break;
        rest.remove_prefix(comma + 1);
    }
    return false;
}

bool can_send_message(io_uring& probe) noexcept {
    io_uring_sqe message{};
    message.opcode = IORING_OP_MSG_RING;
    message.fd = probe.ring_fd;
    return ::syscall(__NR_io_uring_register, -1, detail::register_send_msg_ring, &message, 1) >= 0;
}

features find_out() noexcept {
    features found;
    io_uring probe{};
    io_uring_params params{};
    if (io_uring_queue_init_params(4, &probe, &params) < 0) return found;
    found.send_message = can_send_message(probe);
    found.no_iowait = (params.features & detail::feature_no_iowait) != 0;
    if (io_uring_probe* const offered = io_uring_get_probe_ring(&probe)) {
        found.truncate = io_uring_opcode_supported(offered, truncate_operation::opcode) != 0;
        found.epoll_control = io_uring_opcode_supported(offered, IORING_OP_EPOLL_CTL) != 0;
        io_uring_free_probe(offered);
    }
    io_uring_queue_exit(&probe);
    for (const feature_row& row : feature_table)
        if (disabled_by_environment(row.name)) found.*row.flag = false;
    return found;
}

std::string first_line(const char* path) {
    std::string line;
    std::getline(std::ifstream(path), line);
    return line;
}

std::string kernel_release() {
    utsname names{};
    return ::uname(&names) == 0 ? names.release : "unknown";
}

}  // namespace

const features& features::get() noexcept {
    static const features found = find_out();
    return found;
}

std::string explain_ring_failure(int error_number) {
    const std::string begin = "kevring: io_uring cannot be used: ";
    switch (error_number) {
        case ENOSYS:
            return begin + "this kernel (" + kernel_release() +
                   ") has no io_uring; Linux 6.1 or newer is needed, built with CONFIG_IO_URING";
        case EPERM: {
            const std::string disabled = first_line("/proc/sys/kernel/io_uring_disabled");
            if (disabled == "1" || disabled == "2")
                return begin + "kernel.io_uring_disabled is " + disabled +
                       "; allow it with `sysctl -w kernel.io_uring_disabled=0`" +
                       (disabled == "1" ? ", or join the group of kernel.io_uring_group" : "");
            return begin +
                   "a seccomp filter refuses it, as container engines do by default; allow "
                   "io_uring_setup, io_uring_enter and io_uring_register in the profile (Docker: "
                   "--security-opt seccomp=PROFILE)";
        }
        case ENOMEM: {  // 6.1 charges the cgroup alone, 6.18 also the user without CAP_IPC_LOCK
            rlimit limit{};
            ::getrlimit(RLIMIT_MEMLOCK, &limit);
            return begin + "no memory for its queues; the limit on locked memory is " +
                   (limit.rlim_cur == RLIM_INFINITY
                        ? std::string("none")
                        : std::to_string(limit.rlim_cur / 1024) + " KiB") +
                   "; raise it (`ulimit -l`, LimitMEMLOCK= of a systemd unit) or the memory limit "
                   "of the cgroup (MemoryMax=), or ask for a smaller ring (ring_options)";
        }
        case EINVAL:
            return begin + "this kernel (" + kernel_release() +
                   ") refuses the options; Linux 6.1 or newer is needed";
        case EMFILE:
        case ENFILE:
            return begin +
                   "no descriptor is left for a ring; raise the limit (`ulimit -n`, LimitNOFILE=)";
        default: return begin + "io_uring_setup";
    }
}

std::string describe() {
    std::string text = std::string("kevring ") + version() + "\nkernel " + kernel_release() + '\n';
    const features& found = features::get();
    for (const feature_row& row : feature_table) {
        text += row.name;
        text += found.*row.flag ? ": yes, " : ": no, ";
        text += found.*row.flag ? row.present : row.absent;
        text += '\n';
    }
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    text += "descriptors: " + std::to_string(limit.rlim_cur) + " at most\n";
    const std::string disabled = first_line("/proc/sys/kernel/io_uring_disabled");
    if (!disabled.empty()) text += "kernel.io_uring_disabled: " + disabled + '\n';
    return text;
}

}  // namespace kevring
