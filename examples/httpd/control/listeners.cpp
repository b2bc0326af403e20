#include "listeners.hpp"

#include <kevring/net/listener.hpp>
#include <kevring/runtime/result.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/socket.h>
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

void remove_path(const listeners::listen_address& address) noexcept {
    if (address.removes_path && !address.address.path().empty())
        ::unlink(std::string(address.address.path()).c_str());
}

}  // namespace

listeners::listeners(std::string option, unsigned loop_count)
    : option_(std::move(option)), loop_count_(loop_count) {}

listeners::~listeners() {
    for (const listen_address& each : open_) remove_path(each);
}

listeners::change::~change() {
    for (const listen_address& each : made_) remove_path(each);
}

// Several sockets of one address share its connections out between them, so each of them must be
// accepted from; a loop that has none of its own gets another, or accepts from one of theirs.
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
            kevring::listener_options options;
            options.reuse_port = true;
            auto opened = kevring::open_listening_socket(made.address, options);
            if (opened) made.sockets.push_back(opened->number());
            if (opened) one = std::move(*opened);
        }
        if (!one) one = duplicate(prepared.opened[i % made.sockets.size()].back().socket);
        prepared.opened[i % loop_count_].push_back({made.number, std::move(one)});
    }
}

listeners::change listeners::prepare(const std::vector<std::string>& listed) {
    std::vector<inherited_socket> none;
    return prepare(listed, none);
}

listeners::change listeners::prepare(const std::vector<std::string>& listed,
                                     std::vector<inherited_socket>& inherited) {
    change prepared;
    prepared.opened.resize(loop_count_);
    const auto take = [&](const std::string& name) {
        std::vector<kevring::fd> taken;
        for (inherited_socket& each : inherited)
            if (each.name == name) taken.push_back(std::move(each.socket));
        std::erase_if(inherited, [](const inherited_socket& each) { return !each.socket; });
        return taken;
    };
    for (const std::string& name : listed)
        if (auto sockets = take(option_ + ' ' + name); !sockets.empty())
            adopt(name, std::move(sockets), prepared);
    if (option_ == "--listen")
        for (kevring::fd& each : take(std::string())) {
            std::vector<kevring::fd> one;
            one.push_back(std::move(each));
            adopt(std::string(), std::move(one), prepared);
        }
    for (const listen_address& each : open_)
        if (!each.name.empty() && std::ranges::find(listed, each.name) == listed.end())
            prepared.closed.push_back(each.number);
    for (const std::string& name : listed)
        if (std::ranges::find(open_, name, &listen_address::name) == open_.end() &&
            std::ranges::find(prepared.made_, name, &listen_address::name) == prepared.made_.end())
            bind(name, prepared);
    return prepared;
}

void listeners::bind(const std::string& name, change& prepared) {
    const std::string what = option_ + ' ' + name;
    listen_address made;
    made.number = next_number_++;
    made.address = kevring::value_or_throw(kevring::endpoint::parse(name), what.c_str());
    // A socket for each loop, where the kernel can spread connections over them; a Unix address
    // has one, from which all loops accept.
    const bool shared = made.address.family() == AF_UNIX;
    kevring::listener_options options;
    options.reuse_port = loop_count_ > 1 && !shared;
    for (std::vector<opened_listener>& loop_sockets : prepared.opened) {
        const bool first = &loop_sockets == &prepared.opened.front();
        if (shared && !first) {
            loop_sockets.push_back({made.number, duplicate(prepared.opened.front().back().socket)});
            continue;
        }
        loop_sockets.push_back({made.number, kevring::value_or_throw(kevring::open_listening_socket(
                                                                         made.address, options),
                                                                     what.c_str())});
        made.sockets.push_back(loop_sockets.back().socket.number());
        if (!first) {
            prepared.made_.back().sockets = made.sockets;
            continue;
        }
        made.name = name;
        made.removes_path = true;
        made.address = address_of(loop_sockets.back().socket);  // the port that port 0 became
        prepared.made_.push_back(made);
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

// The path of a socket of systemd, which has no name here, is never this process's.
void listeners::set_path_ownership(bool owns) noexcept {
    for (listen_address& each : open_) each.removes_path = owns && !each.name.empty();
}

void listeners::append_inherited(std::vector<handed_socket>& target) const {
    for (const listen_address& each : open_) {
        const std::string name = each.name.empty() ? std::string() : option_ + ' ' + each.name;
        for (const int socket : each.sockets) {
            // A loop that could accept no longer has closed its own.
            kevring::endpoint address;
            socklen_t bytes = kevring::endpoint::capacity();
            if (::getsockname(socket, address.address(), &bytes) != 0) continue;
            address.set_address_bytes(bytes);
            if (address == each.address) target.push_back({kevring::fd_ref(socket), name});
        }
    }
}

}  // namespace httpd
