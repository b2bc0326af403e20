#include "doors.hpp"

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
    kevring::endpoint where;
    socklen_t bytes = kevring::endpoint::capacity();
    if (::getsockname(listening.number(), where.address(), &bytes) != 0)
        throw std::system_error(errno, std::system_category(), "getsockname");
    where.set_address_bytes(bytes);
    return where;
}

kevring::fd again(const kevring::fd& listening) {
    kevring::fd other(::fcntl(listening.number(), F_DUPFD_CLOEXEC, 0));
    if (!other) throw std::system_error(errno, std::system_category(), "fcntl");
    return other;
}

// The path of a socket that others have bound is theirs to remove.
void remove_path(const doors::door& of) noexcept {
    if (of.name.empty() || of.where.path().empty()) return;
    ::unlink(std::string(of.where.path()).c_str());
}

}  // namespace

doors::doors(std::string option, unsigned loop_count)
    : option_(std::move(option)), loop_count_(loop_count) {}

doors::~doors() {
    for (const door& each : open_) remove_path(each);
}

doors::change::~change() {
    for (const door& each : made_) remove_path(each);
}

void doors::inherit(kevring::fd listening, change& into) {
    door& made = into.made_.emplace_back();
    made.number = next_number_++;
    made.where = address_of(listening);
    for (std::size_t i = 1; i < loop_count_; ++i)
        into.opened[i].push_back({made.number, again(listening)});
    into.opened[0].push_back({made.number, std::move(listening)});
}

doors::change doors::prepare(const std::vector<std::string>& listed,
                             std::vector<kevring::fd> inherited) {
    change prepared;
    prepared.opened.resize(loop_count_);
    for (kevring::fd& each : inherited) inherit(std::move(each), prepared);
    for (const door& each : open_)
        if (!each.name.empty() && std::ranges::find(listed, each.name) == listed.end())
            prepared.closed.push_back(each.number);
    for (const std::string& name : listed)
        if (std::ranges::find(open_, name, &door::name) == open_.end() &&
            std::ranges::find(prepared.made_, name, &door::name) == prepared.made_.end())
            bind(name, prepared);
    return prepared;
}

void doors::bind(const std::string& name, change& into) {
    const std::string what = option_ + ' ' + name;
    door made;
    made.number = next_number_++;
    made.where = kevring::value_or_throw(kevring::endpoint::parse(name), what.c_str());
    // A socket for each loop, where the kernel can spread connections over them; a Unix address
    // has one, from which all loops accept.
    const bool shared = made.where.family() == AF_UNIX;
    kevring::listener_options options;
    options.reuse_port = loop_count_ > 1 && !shared;
    for (std::vector<opened_door>& of_loop : into.opened) {
        const bool first = &of_loop == &into.opened.front();
        if (shared && !first) {
            of_loop.push_back({made.number, again(into.opened.front().back().socket)});
            continue;
        }
        of_loop.push_back(
            {made.number, kevring::value_or_throw(
                              kevring::open_listening_socket(made.where, options), what.c_str())});
        if (!first) continue;
        made.name = name;
        made.where = address_of(of_loop.back().socket);  // the port that port 0 became
        into.made_.push_back(made);
    }
}

void doors::commit(change& prepared) {
    for (const unsigned number : prepared.closed) {
        const auto found = std::ranges::find(open_, number, &door::number);
        remove_path(*found);
        open_.erase(found);
    }
    for (door& each : prepared.made_) open_.push_back(std::move(each));
    prepared.made_.clear();
}

}  // namespace httpd
