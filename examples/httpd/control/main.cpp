// main.cpp: reads the options, and runs the control loop and the loops that serve.
#include "accounts.hpp"
#include "descriptor_limits.hpp"
#include "examples/httpd/config/configuration.hpp"
#include "examples/httpd/config/environment.hpp"
#include "examples/httpd/config/settings.hpp"
#include "examples/httpd/observe/error_log.hpp"
#include "init_process.hpp"
#include "io_uring_check.hpp"
#include "server.hpp"

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/run.hpp>

#include <algorithm>
#include <csignal>
#include <exception>

#include <sched.h>

namespace {

constexpr int wrong_option_status = 2;

unsigned core_count() noexcept {
    cpu_set_t allowed;
    if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
    return static_cast<unsigned>(std::max(1, CPU_COUNT(&allowed)));
}

// Opens what a start would open, but for the sockets.
void check_configuration(const httpd::settings& options) {
    const httpd::configuration checked(options);
    for (const httpd::option_text* const each : {&options.user, &options.unix_owner})
        if (!each->empty()) static_cast<void>(httpd::find_account(*each));
    httpd::log_message(httpd::severity::notice, "the configuration is valid");
}

}  // namespace

int main(int argc, char** argv) try {
    // first: a socket with the number of standard error would receive the messages.
    kevring::reserve_standard_descriptors();
    httpd::set_error_log(httpd::open_error_log({}, httpd::severity::info));
    httpd::settings options;
    try {
        if (const auto status = httpd::parse_settings(argc, argv, options)) return *status;
    } catch (const httpd::option_error& wrong) {
        httpd::log_fatal(wrong.what());
        return wrong_option_status;
    }
    httpd::check_environment();
    if (options.check_config) {
        check_configuration(options);
        return 0;
    }
    std::signal(SIGPIPE, SIG_IGN);
    httpd::check_io_uring();
    const unsigned loop_count = options.thread_count != 0 ? options.thread_count : core_count();
    httpd::apply_descriptor_limit(options, loop_count);
    bool is_replaced = false;
    {
        httpd::server server(argc, argv, options, loop_count);
        kevring::run(loop_count + 1, [&](unsigned index) {
            return index == 0 ? server.control() : server.work(index - 1);
        });
        is_replaced = server.is_replaced();
    }
    // The end of process 1 would end the container of the process that took over.
    if (is_replaced && httpd::is_init_process()) return httpd::supervise_children();
    return 0;
} catch (const std::exception& failure) {
    httpd::log_fatal(failure.what());
    return 1;
}
