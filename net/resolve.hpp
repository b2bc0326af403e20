// resolve.hpp: the addresses of a host name, looked up without blocking a loop.
//
//     const auto addresses = co_await kevring::resolve("example.org", "https");
//     if (!addresses) co_return;  // addresses.error().message() is the text of gai_strerror(3)
//
// connect_host.hpp connects to a name in one call.
#pragma once

#include <kevring/net/endpoint.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

namespace kevring {

/// The failures of getaddrinfo(3), whose messages are those of gai_strerror(3). `try_again` compares
/// equal to std::errc::resource_unavailable_try_again, and `no_memory` to
/// std::errc::not_enough_memory. EAI_SYSTEM is reported as the errno behind it.
enum class resolve_errc {
    unknown_host = 2,     // EAI_NONAME: no such name, or no such service
    try_again = 3,        // EAI_AGAIN: a name server did not answer
    failed = 4,           // EAI_FAIL: a name server refused
    no_address = 5,       // EAI_NODATA: the name exists and has no address
    no_family = 6,        // EAI_FAMILY
    unknown_service = 8,  // EAI_SERVICE: no such service for a stream socket
    no_memory = 10,       // EAI_MEMORY
};
std::error_code make_error_code(resolve_errc code) noexcept;

/// The source of addresses, which a test replaces: the system's getaddrinfo(3).
///
/// Lifetime   Outlives the resolvers that use it.
/// Thread     Any, several at a time.
class name_service {
public:
    virtual ~name_service() = default;

    /// That of this system: the files, name servers and modules of nsswitch.conf(5).
    static name_service& real() noexcept;

    /// Appends the addresses of a name for stream sockets, in the order of preference of RFC 6724. May
    /// block for as long as the name servers are silent; is called on threads of a resolver.
    ///
    /// Result     0, or the number of an error of getaddrinfo(3), EAI_NONAME and so on; after
    ///            EAI_SYSTEM errno is the cause. std::bad_alloc counts as EAI_MEMORY.
    virtual int look_up(const char* host, const char* service, std::vector<endpoint>& addresses);
    /// Nanoseconds on CLOCK_MONOTONIC, for the age of results.
    virtual std::int64_t steady_ns() noexcept;

protected:
    name_service() = default;
    name_service(const name_service&) = default;
    name_service& operator=(const name_service&) = default;
};

struct resolver_options {
    /// Lookups that run at a time, each on a thread that is created when it is needed; at least 1.
    std::size_t thread_count_max = 4;
    /// Lookups that wait for a thread. More are refused.
    std::size_t queue_count_max = 1024;
    /// The age up to which addresses are used again; zero: never. getaddrinfo(3) does not report the
    /// time to live of DNS, so this is the delay after which a change in DNS is followed.
    clamped_duration cache_time = std::chrono::seconds(30);
    /// The same for unknown_host, no_address and unknown_service. Other failures are not kept.
    clamped_duration failure_cache_time = std::chrono::seconds(1);
    /// Results that are kept. Beyond that the oldest ones are dropped.
    std::size_t cache_count_max = 1024;
};

/// The work of a resolver since it was created: a copy.
struct resolver_counters {
    std::uint64_t lookup_count = 0;     // given to the pool
    std::uint64_t cached_count = 0;     // answered from the cache
    std::uint64_t joined_count = 0;     // that waited for the lookup of another coroutine
    std::uint64_t withdrawn_count = 0;  // stopped before a thread was free
};

/// Looks up names on a bounded number of threads, and keeps the results for a time. Several coroutines
/// on any loops that need the same name share one lookup.
///
/// Errors     The constructor throws std::invalid_argument for no threads.
/// Lifetime   Outlives every await that uses it. The destructor joins the threads, and so waits for
///            lookups that run: up to the time limit of the name servers (resolv.conf(5)).
/// Thread     Any.
class resolver {
public:
    explicit resolver(const resolver_options& options = {},
                      name_service& names = name_service::real());
    resolver(const resolver&) = delete;
    resolver& operator=(const resolver&) = delete;
    ~resolver();

    /// The resolver of resolve(): with the default options, created at the first use, never destroyed.
    /// A forked process has one of its own.
    static resolver& shared();

    /// The addresses of `host` with the port of `service`: a number, or a name of services(5). An
    /// address in text form and a port in digits need no lookup.
    ///
    /// Result     At least one address, in the order of preference of the system (RFC 6724), without
    ///            duplicates.
    /// Errors     resolve_errc; endpoint_errc for a port above 65535, an empty host or a wrong IPv6
    ///            address; invalid_argument for a text with a zero byte or above 1024 bytes;
    ///            operation_canceled and timed_out by the scope around it, immediately: a lookup that
    ///            runs is left to its thread, and its result to the cache;
    ///            resource_unavailable_try_again where too many lookups wait; operation_not_permitted
    ///            in a forked process; not_enough_memory.
    /// Thread     A ring's. The loop is never blocked.
    /// Source     RFC 6724, RFC 8305; getaddrinfo(3).
    task<result<std::vector<endpoint>>> resolve(std::string_view host, std::string_view service);

    /// Drops all results that are kept.
    void clear_cache() noexcept;
    resolver_counters counters() const noexcept;

private:
    class lookup;
    class lookup_wait;
    struct shared_state;

    task<result<std::vector<endpoint>>> resolve_text(std::string host, std::string service);

    const unsigned fork_generation_;
    shared_state* const state_;
};

/// resolver::resolve() of the shared resolver, or of another one.
task<result<std::vector<endpoint>>> resolve(std::string_view host, std::string_view service,
                                            resolver& names = resolver::shared());

}  // namespace kevring

template <>
struct std::is_error_code_enum<kevring::resolve_errc> : std::true_type {};
