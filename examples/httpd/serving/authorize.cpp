// authorize.cpp: user and password of requests for protected paths.
#include "connection.hpp"

#include "examples/httpd/http/basic_credentials.hpp"
#include "examples/httpd/http/target.hpp"

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <string.h>

namespace httpd {
namespace {

// Of a request, until its background job has ended.
struct verification {
    verification(std::shared_ptr<const configuration> keep, password_file& passwords,
                 basic_credentials from, std::atomic<unsigned>& counter)
        : owner(std::move(keep)), users(passwords), credentials(std::move(from)), count(counter) {}
    verification(const verification&) = delete;
    verification& operator=(const verification&) = delete;
    ~verification() {
        ::explicit_bzero(credentials.password.data(), credentials.password.size());
        count.fetch_sub(1, std::memory_order_relaxed);
    }

    const std::shared_ptr<const configuration> owner;  // of `users`
    password_file& users;
    basic_credentials credentials;
    std::atomic<unsigned>& count;
    std::atomic<bool> verified{false};
};

}  // namespace

// The result that is known without waiting.
connection::access connection::check_access(const request_head& head, std::string_view name) {
    login_->rule = site_->protection.find(name);
    if (login_->rule == nullptr) return access::granted;
    const auto value = head.single(known_field::authorization);
    const auto credentials = value ? parse_basic_credentials(*value) : std::nullopt;
    if (!credentials) return access::refused;
    login_->user = credentials->user;
    const bool verified =
        login_->rule->users->is_verified(credentials->user, credentials->password);
    return verified ? access::granted : access::unknown;
}

connection::access connection::check_access(const request_head& head) {
    if (!login_) login_ = std::make_unique<login>();
    login_->user.clear();
    std::string buffer(head.path().size() + 1, '\0');
    const target_name target = parse_target(head.path(), buffer);
    return target ? check_access(head, target.name) : access::granted;  // it leads to no file
}

// Verifies a password on a background thread. Their number and that of the requests that wait for
// them are bounded: a client that tries many passwords delays other logins, and no file.
//
// Result     0, or the status of the response: 401, or 503 if too many wait.
kevring::task<unsigned> connection::authorize(const request_head& head, access known) {
    if (known == access::granted) co_return 0;
    login_->user.clear();  // not verified yet
    if (known == access::refused) co_return 401;
    auto& state = worker_.verifications();
    if (state.waiting.fetch_add(1, std::memory_order_relaxed) >= verification_state::waiting_max) {
        state.waiting.fetch_sub(1, std::memory_order_relaxed);
        co_return 503;
    }
    const auto value = head.single(known_field::authorization);
    auto credentials = parse_basic_credentials(value.value_or(std::string_view()));
    const auto job = std::make_shared<verification>(
        held_, *login_->rule->users, credentials ? std::move(*credentials) : basic_credentials(),
        state.waiting);
    timeout_.set(kevring::never_ns);  // the time is the server's own
    const std::function<void()> verify = [job] {
        job->verified = job->users.verify(job->credentials.user, job->credentials.password);
    };
    const bool ended = co_await run_in_background(worker_.loop(), state.threads, verify);
    extend_timeout(configuration_->options.idle_time);
    if (!ended) co_return 503;
    if (!job->verified) co_return 401;
    login_->user = job->credentials.user;
    co_return 0;
}

std::string connection::refusal_lines(unsigned status) const {
    return status == 401 ? login_->rule->challenge : std::string("Retry-After: 1\r\n");
}

}  // namespace httpd
