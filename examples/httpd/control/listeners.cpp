#include "listeners.hpp"

#include "accounts.hpp"

#include <kevring/net/listener.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace httpd {
namespace {

kevring::endpoint address_of(const kevring::fd& listening) {
    kevring::endpoint address;
    socklen_t bytes = kevring::endpoint::capacity();
    if (::getsockname(listening.number(), address.address(), &bytes) != 0)
        throw std::system_error(errno, std::system_category(), "getsockname");
    address.set_address_bytes(bytes);
    return address;
}

kevring::fd duplicate(const kevring::fd& listening) {
    kevring::fd other(::fcntl(listening.number(), F_DUPFD_CLOEXEC, 0));
    if (!other) throw std::system_error(errno, std::system_category(), "fcntl");
    return other;
}

// An IPv6 address does not include IPv4, so that [::]:80 and 0.0.0.0:80 can be listed together.
kevring::listener_options options_for(bool reuse_port) {
    kevring::listener_options options;
    options.reuse_port = reuse_port;
    options.ipv6_only = true;
    return options;
}

// The kernel closes the sockets of a killed process when it has ended its io_uring requests, some
// milliseconds after the process, and later on a busy machine: a restart must not fail by that. At
// a reload the control loop runs, and the address is tried once.
kevring::result<kevring::fd> open_with_retries(const kevring::endpoint& address,
                                               kevring::listener_options options) {
    constexpr int attempt_count_max = 5;
    options.address_wait = kevring::address_wait_max;
    for (int attempt = 1;; ++attempt) {
        auto opened = kevring::open_listening_socket(address, options);
        if (opened || opened.error() != std::errc::address_in_use || attempt == attempt_count_max ||
            kevring::ring::current() != nullptr)
            return opened;
    }
}

// The process's file creation mask, for the time of a bind(2).
class umask_guard {
public:
    explicit umask_guard(std::optional<unsigned> mode) : is_set_(mode.has_value()) {
        if (is_set_) before_ = ::umask(static_cast<mode_t>(0777U & ~*mode));
    }
    umask_guard(const umask_guard&) = delete;
    umask_guard& operator=(const umask_guard&) = delete;
    ~umask_guard() {
        if (is_set_) ::umask(before_);
    }

private:
    const bool is_set_;
    mode_t before_ = 0;
};

[[noreturn]] void fail(const option_text& name, const std::error_code& error) {
    std::string reason = error.message();
    if (error == std::errc::permission_denied)
        reason += "; a port below 1024 needs root or CAP_NET_BIND_SERVICE";
    name.fail(reason);
}

// Without SO_REUSEPORT until it listens: otherwise a second instance of the server would bind the
// same port without an error and get a part of the connections. Set after listen(2), the option
// lets only this process's further sockets join.
kevring::fd open_first(const option_text& name, const kevring::endpoint& address, bool will_share,
                       const unix_socket_access& access) {
    const bool has_path = !address.path().empty();
    const umask_guard mask(has_path ? access.mode : std::nullopt);
    auto opened = open_with_retries(address, options_for(false));
    if (!opened) fail(name, opened.error());
    if (has_path && !access.owner.empty()) {
        const std::string path(address.path());
        try {
            set_owner(path, access.owner);
        } catch (...) {
            ::unlink(path.c_str());
            throw;
        }
    }
    const int enabled = 1;
    if (will_share &&
        ::setsockopt(opened->number(), SOL_SOCKET, SO_REUSEPORT, &enabled, sizeof enabled) != 0)
        fail(name, std::error_code(errno, std::system_category()));
    return std::move(*opened);
}

kevring::fd open_further(const option_text& name, const kevring::endpoint& address) {
    auto opened = kevring::open_listening_socket(address, options_for(true));
    if (!opened) fail(name, opened.error());
    return std::move(*opened);
}

void remove_path(const listeners::listen_address& one) noexcept {
    if (one.removes_path && !one.address.path().empty())
        ::unlink(std::string(one.address.path()).c_str());
}

}  // namespace

listeners::listeners(std::string option, unsigned loop_count, unsigned first_number)
    : option_(std::move(option)), loop_count_(loop_count), next_number_(first_number) {}

listeners::~listeners() {
    for (const listen_address& each : open_) remove_path(each);
}

listeners::change::~change() {
    for (const listen_address& each : made_) remove_path(each);
}

// The kernel spreads connections over all sockets of an address, so each of them must be accepted
// from. A loop for which there is none gets a new one, or accepts from the socket of another loop.
void listeners::adopt(const std::string& name, std::vector<kevring::fd> sockets, change& prepared) {
    listen_address& made = prepared.made_.emplace_back();
    made.number = next_number_++;
    made.name = name;
    made.address = address_of(sockets.front());
    const bool several = sockets.size() > 1;
    for (std::size_t i = 0; i < std::max(sockets.size(), loop_count_); ++i) {
        kevring::fd one;
        if (i < sockets.size()) {
            one = std::move(sockets[i]);
            made.sockets.push_back(one.number());
        } else if (several) {
            auto opened = kevring::open_listening_socket(made.address, options_for(true));
            if (opened) made.sockets.push_back(opened->number());
            if (opened) one = std::move(*opened);
        }
        if (!one) one = duplicate(prepared.opened[i % made.sockets.size()].back().socket);
        prepared.opened[i % loop_count_].push_back({made.number, std::move(one)});
    }
}

listeners::change listeners::prepare(const std::vector<option_text>& listed,
                                     std::vector<inherited_socket>& inherited,
                                     const unix_socket_access& access) {
    change prepared;
    prepared.opened.resize(loop_count_);
    const auto take = [&](const std::string& name) {
        std::vector<kevring::fd> taken;
        for (inherited_socket& each : inherited)
            if (each.name == name) taken.push_back(std::move(each.socket));
        std::erase_if(inherited, [](const inherited_socket& each) { return !each.socket; });
        return taken;
    };
    const auto is_listed = [&](const std::string& name) {
        return std::ranges::find(listed, name, &option_text::text) != listed.end();
    };
    for (const option_text& each : listed)
        if (auto sockets = take(option_ + ' ' + each.text); !sockets.empty())
            adopt(each.text, std::move(sockets), prepared);
    if (option_ == "--listen")
        for (kevring::fd& each : take(std::string())) {
            std::vector<kevring::fd> one;
            one.push_back(std::move(each));
            adopt(std::string(), std::move(one), prepared);
        }
    for (const listen_address& each : open_)
        if (!each.name.empty() && !is_listed(each.name)) prepared.closed.push_back(each.number);
    for (const option_text& each : listed)
        if (std::ranges::find(open_, each.text, &listen_address::name) == open_.end() &&
            std::ranges::find(prepared.made_, each.text, &listen_address::name) ==
                prepared.made_.end())
            bind(each, access, prepared);
    return prepared;
}

// Binds a socket for each loop, and the kernel spreads the connections over them (SO_REUSEPORT). A
// Unix address has one socket, from which all loops accept.
void listeners::bind(const option_text& name, const unix_socket_access& access, change& prepared) {
    const auto parsed = kevring::endpoint::parse(name.text);
    if (!parsed) name.fail(parsed.error().message());
    const bool is_unix = parsed->family() == AF_UNIX;
    listen_address made;
    made.number = next_number_++;
    made.name = name.text;
    made.address = *parsed;
    prepared.made_.push_back(made);
    listen_address& stored = prepared.made_.back();
    for (std::vector<opened_listener>& loop_sockets : prepared.opened) {
        const bool is_first = &loop_sockets == &prepared.opened.front();
        kevring::fd socket;
        if (is_first)
            socket = open_first(name, stored.address, loop_count_ > 1 && !is_unix, access);
        else if (is_unix)
            socket = duplicate(prepared.opened.front().back().socket);
        else
            socket = open_further(name, stored.address);
        if (is_first) {
            stored.removes_path = true;
            stored.address = address_of(socket);  // with the port that the kernel chose for 0
        }
        if (is_first || !is_unix) stored.sockets.push_back(socket.number());
        loop_sockets.push_back({stored.number, std::move(socket)});
    }
}

void listeners::commit(change& prepared) {
    for (const unsigned number : prepared.closed) {
        const auto found = std::ranges::find(open_, number, &listen_address::number);
        remove_path(*found);
        open_.erase(found);
    }
    for (listen_address& each : prepared.made_) open_.push_back(std::move(each));
    prepared.made_.clear();
}

// The path of a socket of systemd, which has no name here, is never removed.
void listeners::set_path_ownership(bool owns) noexcept {
    for (listen_address& each : open_) each.removes_path = owns && !each.name.empty();
}

void listeners::append_inherited(std::vector<handed_socket>& target) const {
    for (const listen_address& each : open_) {
        const std::string name = each.name.empty() ? std::string() : option_ + ' ' + each.name;
        for (const int socket : each.sockets) {
            // A loop whose accept failed has closed its socket.
            kevring::endpoint address;
            socklen_t bytes = kevring::endpoint::capacity();
            if (::getsockname(socket, address.address(), &bytes) != 0) continue;
            address.set_address_bytes(bytes);
            if (address == each.address) target.push_back({kevring::fd_ref(socket), name});
        }
    }
}

}  // namespace httpd
