// resolve.cpp: see resolve.hpp.
#include <kevring/net/resolve.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/detail/process.hpp>
#include <kevring/runtime/kernel.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/thread_mutex.hpp>
#include <kevring/runtime/thread_pool.hpp>
#include <kevring/runtime/work.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include <netdb.h>
#include <sys/socket.h>

namespace kevring {
namespace {

static_assert(EAI_NONAME == -static_cast<int>(resolve_errc::unknown_host) &&
              EAI_AGAIN == -static_cast<int>(resolve_errc::try_again) &&
              EAI_FAIL == -static_cast<int>(resolve_errc::failed) &&
              EAI_NODATA == -static_cast<int>(resolve_errc::no_address) &&
              EAI_FAMILY == -static_cast<int>(resolve_errc::no_family) &&
              EAI_SERVICE == -static_cast<int>(resolve_errc::unknown_service) &&
              EAI_MEMORY == -static_cast<int>(resolve_errc::no_memory));

constexpr std::size_t text_bytes_max = 1024;  // of NI_MAXHOST, without the zero byte

class resolve_category final : public std::error_category {
public:
    const char* name() const noexcept override { return "kevring.resolve"; }
    std::string message(int code) const override { return ::gai_strerror(-code); }
    std::error_condition default_error_condition(int code) const noexcept override {
        switch (static_cast<resolve_errc>(code)) {
            case resolve_errc::try_again: return std::errc::resource_unavailable_try_again;
            case resolve_errc::no_memory: return std::errc::not_enough_memory;
            default: return {code, *this};
        }
    }
};

// `answer` is that of name_service::look_up().
std::error_code error_of(int answer, int saved_errno) noexcept {
    if (answer == EAI_SYSTEM) return {saved_errno != 0 ? saved_errno : EIO, std::system_category()};
    return make_error_code(static_cast<resolve_errc>(-answer));
}

bool is_lasting(const std::error_code& error) noexcept {
    return error == resolve_errc::unknown_host || error == resolve_errc::no_address ||
           error == resolve_errc::unknown_service;
}

bool is_digits(std::string_view text) noexcept {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

bool is_port(std::string_view digits) noexcept {
    std::uint16_t port = 0;
    return std::from_chars(digits.data(), digits.data() + digits.size(), port).ec == std::errc{};
}

std::vector<endpoint> without_duplicates(const std::vector<endpoint>& addresses) {
    std::vector<endpoint> distinct;
    distinct.reserve(addresses.size());
    for (const endpoint& each : addresses)
        if (std::find(distinct.begin(), distinct.end(), each) == distinct.end())
            distinct.push_back(each);
    return distinct;
}

// Empty: the text is a name. A host with a colon is an IPv6 address, or nothing.
std::optional<result<endpoint>> parse_address(const std::string& host, const std::string& service) {
    if (host.find(':') != std::string::npos) {
        const auto parsed =
            endpoint::parse('[' + host + "]:" + (is_digits(service) ? service : "0"));
        if (!parsed || is_digits(service)) return parsed;
        return std::nullopt;  // the name of the service is looked up
    }
    if (!is_digits(service) || host == "localhost" || host == "*") return std::nullopt;
    const auto parsed = endpoint::parse(host + ':' + service);
    if (parsed) return parsed;
    return std::nullopt;
}

}  // namespace

std::error_code make_error_code(resolve_errc code) noexcept {
    static const resolve_category category;
    return {static_cast<int>(code), category};
}

name_service& name_service::real() noexcept {
    class system_names final : public name_service {};
    static system_names only;
    return only;
}

int name_service::look_up(const char* host, const char* service, std::vector<endpoint>& addresses) {
    struct list_end {
        void operator()(addrinfo* list) const noexcept { ::freeaddrinfo(list); }
    };
    addrinfo wanted{};
    wanted.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int answer = ::getaddrinfo(host, service, &wanted, &found);
    if (answer != 0) return answer;
    const std::unique_ptr<addrinfo, list_end> list(found);
    for (const addrinfo* each = found; each != nullptr; each = each->ai_next)
        addresses.emplace_back(each->ai_addr, each->ai_addrlen);
    return 0;
}

std::int64_t name_service::steady_ns() noexcept { return kernel::real().steady_ns(); }

// On the heap: a forked process leaves it, since another thread may have held the mutex there.
struct resolver::shared_state {
    using key = std::pair<std::string, std::string>;

    shared_state(const resolver_options& chosen, name_service& source)
        : options(chosen),
          names(source),
          pool({.thread_count_max = chosen.thread_count_max,
                .queue_count_max = chosen.queue_count_max}) {}

    // Constant after construction.
    const resolver_options options;
    name_service& names;

    thread_mutex mutex;
    std::map<key, std::unique_ptr<lookup>> lookups KEVRING_GUARDED_BY(mutex);
    resolver_counters counters KEVRING_GUARDED_BY(mutex);

    void evict(std::int64_t now_ns) noexcept KEVRING_REQUIRES(mutex);

    // The mutex is locked before that of the pool. last: the threads use what is above.
    thread_pool pool;
};

// One name: its lookup while that waits or runs, and then its result.
class resolver::lookup final : public detail::pool_job {
public:
    lookup(shared_state& owner, const shared_state::key& name)
        : pool_job(run_job), state(owner), text(name) {}

    shared_state& state;
    const shared_state::key text;
    // Guarded by the mutex of `state`.
    detail::list_link waiters;
    bool ended = false;
    std::int64_t expiry_ns = 0;
    std::error_code failure;
    std::shared_ptr<const std::vector<endpoint>> addresses;

private:
    static void run_job(pool_job& job) noexcept;
    void finish(std::error_code error, std::shared_ptr<const std::vector<endpoint>> found) noexcept;
};

// A coroutine that waits for a lookup.
class resolver::lookup_wait final : private work, private cancel_hook {
public:
    lookup_wait(shared_state& state, const shared_state::key& text) noexcept
        : work(resumed), cancel_hook(stop_wait), state_(state), text_(text) {}

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter) {
        return start(waiter, scope_of(waiter));
    }
    result<std::vector<endpoint>> await_resume() const {
        if (cause_ != stop_cause::none)
            return error_from(cause_ == stop_cause::deadline ? std::errc::timed_out
                                                             : std::errc::operation_canceled);
        if (failure_) return tl::unexpected<std::error_code>(failure_);
        return *addresses_;
    }

private:
    friend class lookup;
    // The place in the list of a lookup.
    struct place : detail::list_link {
        explicit place(lookup_wait& owner) noexcept : wait(owner) {}
        lookup_wait& wait;
    };

    bool start(std::coroutine_handle<> waiter, cancel_scope* scope);
    void take(const lookup& ended) noexcept {
        failure_ = ended.failure;
        addresses_ = ended.addresses;
    }
    static void stop_wait(cancel_hook& hook, stop_cause cause) noexcept;
    static void resumed(work& item) noexcept;

    shared_state& state_;
    const shared_state::key& text_;
    ring* loop_ = nullptr;
    std::coroutine_handle<> waiter_;
    lookup* lookup_ = nullptr;
    place place_{*this};
    stop_cause cause_ = stop_cause::none;
    std::error_code failure_;
    std::shared_ptr<const std::vector<endpoint>> addresses_;
};

// On a thread of the pool.
void resolver::lookup::run_job(pool_job& job) noexcept {
    auto& self = static_cast<lookup&>(job);
    std::error_code error;
    std::shared_ptr<const std::vector<endpoint>> found;
    try {
        std::vector<endpoint> addresses;
        errno = 0;
        const int answer =
            self.state.names.look_up(self.text.first.c_str(), self.text.second.c_str(), addresses);
        if (answer != 0)
            error = error_of(answer, errno);
        else if (addresses.empty())
            error = make_error_code(resolve_errc::no_address);
        else
            found = std::make_shared<const std::vector<endpoint>>(without_duplicates(addresses));
    } catch (const std::bad_alloc&) {
        error = make_error_code(resolve_errc::no_memory);
    }
    self.finish(error, std::move(found));  // last: the object may not exist any more
}

void resolver::lookup::finish(std::error_code error,
                              std::shared_ptr<const std::vector<endpoint>> found) noexcept {
    const nanoseconds kept_for = !error              ? nanoseconds(state.options.cache_time)
                                 : is_lasting(error) ? nanoseconds(state.options.failure_cache_time)
                                                     : nanoseconds::zero();
    const std::int64_t now_ns = state.names.steady_ns();
    shared_state& owner = state;
    const thread_lock lock(owner.mutex);
    ended = true;
    failure = error;
    addresses = std::move(found);
    expiry_ns = add_ns(now_ns, kept_for);
    while (waiters.linked()) {
        lookup_wait& wait = static_cast<lookup_wait::place&>(*waiters.next).wait;
        wait.place_.unlink();
        wait.take(*this);
        wait.loop_->post_expected(wait);  // last: the coroutine may continue
    }
    if (kept_for <= nanoseconds::zero() || owner.options.cache_count_max == 0)
        owner.lookups.erase(owner.lookups.find(text));
    else
        owner.evict(now_ns);
}

void resolver::shared_state::evict(std::int64_t now_ns) noexcept {
    if (lookups.size() <= options.cache_count_max) return;
    auto oldest = lookups.end();
    for (auto each = lookups.begin(); each != lookups.end();) {
        const auto current = each++;
        if (!current->second->ended) continue;
        if (current->second->expiry_ns <= now_ns)
            lookups.erase(current);
        else if (oldest == lookups.end() || current->second->expiry_ns < oldest->second->expiry_ns)
            oldest = current;
    }
    if (lookups.size() > options.cache_count_max && oldest != lookups.end()) lookups.erase(oldest);
}

bool resolver::lookup_wait::start(std::coroutine_handle<> waiter, cancel_scope* scope) {
    ring* const loop = scope != nullptr ? &scope->loop() : ring::current();
    KEVRING_ASSERT(loop != nullptr && loop->on_ring_thread(),
                   "resolve() awaited on a thread that does not drive its ring; await it in a task "
                   "that run() or spawn() started");
    if (loop->created_by_parent_process()) [[unlikely]] {
        failure_ = std::make_error_code(std::errc::operation_not_permitted);
        return false;
    }
    if (scope == nullptr) scope = &loop->root_scope();
    if (scope->stop_requested()) {
        cause_ = scope->cause();
        return false;
    }
    loop_ = loop;
    waiter_ = waiter;
    const std::int64_t now_ns = state_.names.steady_ns();

    const thread_lock lock(state_.mutex);
    std::unique_ptr<lookup>& entry = state_.lookups[text_];
    if (entry && entry->ended && entry->expiry_ns > now_ns) {
        ++state_.counters.cached_count;
        take(*entry);
        if (loop->spend_inline_budget()) return false;
        loop->schedule(*this);
        return true;
    }
    const bool is_new = !entry || entry->ended;
    try {
        if (is_new) entry = std::make_unique<lookup>(state_, text_);
    } catch (const std::bad_alloc&) {
        state_.lookups.erase(text_);
        throw;
    }
    // first: from start() on the lookup may end on another thread, as soon as the mutex is free.
    lookup_ = entry.get();
    place_.insert_before(entry->waiters);
    loop->expect_post();
    scope->add(*this);
    if (!is_new) {
        ++state_.counters.joined_count;
        return true;
    }
    if (const int error = state_.pool.start(*entry); error != 0) {
        place_.unlink();
        loop->expected_post_ended();
        cancel_hook::unlink();
        state_.lookups.erase(text_);
        failure_ = std::error_code(error, std::system_category());
        return false;
    }
    ++state_.counters.lookup_count;
    return true;
}

// On the loop.
void resolver::lookup_wait::stop_wait(cancel_hook& hook, stop_cause cause) noexcept {
    auto& self = static_cast<lookup_wait&>(hook);
    const thread_lock lock(self.state_.mutex);
    if (!self.place_.linked()) return;  // the lookup has ended, and the loop resumes the coroutine
    self.place_.unlink();
    self.cause_ = cause;
    // A lookup that no coroutine waits for does not begin; one that runs fills the cache.
    if (!self.lookup_->waiters.linked() && self.state_.pool.withdraw(*self.lookup_)) {
        ++self.state_.counters.withdrawn_count;
        self.state_.lookups.erase(self.text_);
    }
    self.loop_->expected_post_ended();
    self.loop_->schedule(self);
}

void resolver::lookup_wait::resumed(work& item) noexcept {
    auto& self = static_cast<lookup_wait&>(item);
    self.cancel_hook::unlink();
    self.waiter_.resume();  // last: the frame, and this object in it, may be destroyed
}

resolver::resolver(const resolver_options& options, name_service& names)
    : fork_generation_(detail::fork_generation()), state_(new shared_state(options, names)) {}

resolver::~resolver() {
    if (detail::fork_generation() != fork_generation_) return;
    {
        const thread_lock lock(state_->mutex);
        for (const auto& [text, each] : state_->lookups)
            KEVRING_ASSERT(!each->waiters.linked(),
                           "resolver destroyed while a task awaits resolve(); join the task first");
    }
    delete state_;  // joins the threads
}

resolver& resolver::shared() {
    static std::atomic<resolver*> current{nullptr};
    resolver* existing = current.load(std::memory_order_acquire);
    while (existing == nullptr || existing->fork_generation_ != detail::fork_generation()) {
        auto* const created = new resolver;  // never destroyed: a lookup may run at the end
        // acq_rel: pairs with the load above.
        if (current.compare_exchange_strong(existing, created, std::memory_order_acq_rel))
            return *created;
        delete created;
    }
    return *existing;
}

task<result<std::vector<endpoint>>> resolver::resolve(std::string_view host,
                                                      std::string_view service) {
    return resolve_text(std::string(host), std::string(service));
}

task<result<std::vector<endpoint>>> resolver::resolve_text(std::string host, std::string service) {
    const auto is_invalid = [](const std::string& text) {
        return text.size() > text_bytes_max || text.find('\0') != std::string::npos;
    };
    if (is_invalid(host) || is_invalid(service)) co_return error_from(std::errc::invalid_argument);
    if (host.empty())
        co_return tl::unexpected<std::error_code>(make_error_code(endpoint_errc::no_host));
    // getaddrinfo(3) of glibc reads 65616 as port 80.
    if (service.empty() || (is_digits(service) && !is_port(service)))
        co_return tl::unexpected<std::error_code>(
            make_error_code(service.empty() ? endpoint_errc::no_port : endpoint_errc::bad_port));
    if (const auto address = parse_address(host, service)) {
        if (!*address) co_return tl::unexpected<std::error_code>(address->error());
        co_return std::vector<endpoint>(1, **address);
    }
    if (detail::fork_generation() != fork_generation_)
        co_return error_from(std::errc::operation_not_permitted);
    const shared_state::key text(std::move(host), std::move(service));
    lookup_wait wait(*state_, text);
    co_return co_await wait;
}

void resolver::clear_cache() noexcept {
    if (detail::fork_generation() != fork_generation_) return;
    const thread_lock lock(state_->mutex);
    for (auto each = state_->lookups.begin(); each != state_->lookups.end();) {
        const auto current = each++;
        if (current->second->ended) state_->lookups.erase(current);
    }
}

resolver_counters resolver::counters() const noexcept {
    if (detail::fork_generation() != fork_generation_) return {};
    const thread_lock lock(state_->mutex);
    return state_->counters;
}

task<result<std::vector<endpoint>>> resolve(std::string_view host, std::string_view service,
                                            resolver& names) {
    return names.resolve(host, service);
}

}  // namespace kevring
