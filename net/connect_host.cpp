// connect_host.cpp: see connect_host.hpp.
#include <kevring/net/connect_host.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/reset_event.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <algorithm>
#include <optional>

namespace kevring {
namespace {

constexpr nanoseconds attempt_delay_min = std::chrono::milliseconds(10);  // RFC 8305, section 5

// The text of a target, divided at the colon before the port.
struct host_and_service {
    std::string host;
    std::string service;
};

bool is_service_name(std::string_view text) noexcept {
    const auto is_allowed = [](char each) {
        return (each >= 'a' && each <= 'z') || (each >= 'A' && each <= 'Z') ||
               (each >= '0' && each <= '9') || each == '-' || each == '_' || each == '+' ||
               each == '.';
    };
    return std::all_of(text.begin(), text.end(), is_allowed) &&
           text.find_first_not_of("0123456789") != std::string_view::npos;
}

// `error` is that of endpoint::parse(): the text is not an address with a number for a port.
result<host_and_service> divide(const std::string& target, std::error_code error) {
    if (error != endpoint_errc::host_name && error != endpoint_errc::bad_port)
        return tl::unexpected<std::error_code>(error);
    const std::size_t colon = target.rfind(':');
    host_and_service parts{target.substr(0, colon), target.substr(colon + 1)};
    if (error == endpoint_errc::bad_port && !is_service_name(parts.service))
        return tl::unexpected<std::error_code>(error);
    if (parts.host.empty())
        return tl::unexpected<std::error_code>(make_error_code(endpoint_errc::no_host));
    if (parts.host.front() == '[' && parts.host.back() == ']' &&
        parts.host.find(':') != std::string::npos)
        parts.host = parts.host.substr(1, parts.host.size() - 2);
    return parts;
}

// The state that the attempts share.
struct race {
    ring& loop;
    const connect_options& options;
    std::vector<connect_attempt> attempts;
    std::size_t pending_count = 0;
    std::optional<socket> winner;
    auto_reset_event progress;  // an attempt has ended
};

task<void> try_address(race& all, std::size_t index) {
    auto connected = co_await connect(all.loop, all.attempts[index].address, all.options);
    --all.pending_count;
    if (!connected)
        all.attempts[index].error = connected.error();
    else if (all.winner)  // the destructor closes it
        all.attempts[index].error = std::make_error_code(std::errc::operation_canceled);
    else
        all.winner.emplace(std::move(*connected));
    all.progress.set();
}

std::error_code error_of(stop_cause cause) noexcept {
    return std::make_error_code(detail::errc_of(cause));
}

task<connect_result> race_addresses(ring& loop, std::string target, std::vector<endpoint> addresses,
                                    connect_host_options options) {
    if (addresses.size() > options.attempt_count_max) addresses.resize(options.attempt_count_max);
    if (addresses.empty())
        co_return connect_result(std::move(target), make_error_code(resolve_errc::no_address), {});
    cancel_scope& outer = co_await current_scope();
    if (outer.stop_requested())
        co_return connect_result(std::move(target), error_of(outer.cause()), {});
    const nanoseconds delay = std::max(nanoseconds(options.attempt_delay), attempt_delay_min);
    race all{loop, options.connection, {}, 0, std::nullopt, auto_reset_event()};
    all.attempts.reserve(addresses.size());
    auto body = [&](task_scope& tries) -> task<void> {
        for (const endpoint& address : addresses) {
            all.attempts.push_back({address, {}});
            ++all.pending_count;
            tries.spawn(try_address(all, all.attempts.size() - 1));
            if (all.winner || tries.stop_requested()) break;
            static_cast<void>(co_await with_timeout(all.progress.wait(), delay));
            if (all.winner || tries.stop_requested()) break;
        }
        while (all.pending_count > 0 && !all.winner && !tries.stop_requested())
            static_cast<void>(co_await all.progress.wait());
        tries.request_stop();
    };
    co_await in_scope(body);
    if (all.winner)
        co_return connect_result(std::move(target), std::move(*all.winner),
                                 std::move(all.attempts));
    const std::error_code error =
        outer.stop_requested() ? error_of(outer.cause()) : all.attempts.front().error;
    co_return connect_result(std::move(target), error, std::move(all.attempts));
}

task<connect_result> connect_text(ring& loop, std::string target, connect_host_options options) {
    const auto address = endpoint::parse(target);
    // A host may have both addresses of this name.
    if (address && !target.starts_with("localhost:")) {
        std::vector<endpoint> only(1, *address);
        co_return co_await race_addresses(loop, std::move(target), std::move(only), options);
    }
    const auto parts =
        divide(target, address ? make_error_code(endpoint_errc::host_name) : address.error());
    if (!parts) co_return connect_result(std::move(target), parts.error(), {});
    resolver& names = options.names != nullptr ? *options.names : resolver::shared();
    const auto addresses = co_await names.resolve(parts->host, parts->service);
    if (!addresses) co_return connect_result(std::move(target), addresses.error(), {});
    auto ordered = interleave_families(*addresses);
    co_return co_await race_addresses(loop, std::move(target), std::move(ordered), options);
}

}  // namespace

std::string connect_result::describe() const {
    std::string text = target_;
    const auto add = [&](const std::string& part) {
        if (!text.empty()) text += text.size() == target_.size() ? ": " : "; ";
        text += part;
    };
    for (const connect_attempt& each : attempts_)
        add(each.address.to_string() + ": " + (each.error ? each.error.message() : "connected"));
    if (attempts_.empty() && !has_value()) add(error().message());
    return text;
}

std::vector<endpoint> interleave_families(const std::vector<endpoint>& addresses) {
    if (addresses.empty()) return {};
    const int first_family = addresses.front().family();
    std::vector<endpoint> first;
    std::vector<endpoint> second;
    for (const endpoint& each : addresses)
        (each.family() == first_family ? first : second).push_back(each);
    std::vector<endpoint> ordered;
    ordered.reserve(addresses.size());
    for (std::size_t index = 0; index < std::max(first.size(), second.size()); ++index) {
        if (index < first.size()) ordered.push_back(first[index]);
        if (index < second.size()) ordered.push_back(second[index]);
    }
    return ordered;
}

task<connect_result> connect_first(ring& loop, std::vector<endpoint> addresses,
                                   connect_host_options options) {
    return race_addresses(loop, std::string(), std::move(addresses), options);
}

task<connect_result> connect(ring& loop, std::string_view target, connect_host_options options) {
    return connect_text(loop, std::string(target), options);
}

task<connect_result> connect(std::string_view target, connect_host_options options) {
    KEVRING_ASSERT(
        ring::current() != nullptr,
        "connect() on a thread that drives no ring; pass the ring as the first argument");
    return connect_text(*ring::current(), std::string(target), options);
}

}  // namespace kevring
