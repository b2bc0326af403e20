// process.cpp: see process.hpp.
#include <kevring/runtime/detail/process.hpp>

#include <kevring/runtime/assert.hpp>

#include <array>
#include <cstddef>
#include <new>

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

namespace kevring::detail {

constinit std::atomic<unsigned> fork_count{0};

namespace {

// In place of the page where the kernel does not offer one; then only handlers see a fork.
constinit std::atomic<unsigned> plain_mark{1};
constinit std::atomic<pid_t> own_process{0};

constexpr std::size_t hooks_max = 8;
constinit std::array<fork_hooks, hooks_max> all_hooks{};
constinit std::size_t hooks_count = 0;

void before_fork() noexcept {
    for (std::size_t i = hooks_count; i-- != 0;)
        if (all_hooks[i].prepare != nullptr) all_hooks[i].prepare();
}

void in_parent() noexcept {
    for (std::size_t i = 0; i < hooks_count; ++i)
        if (all_hooks[i].parent != nullptr) all_hooks[i].parent();
}

void in_child(bool prepared) noexcept {
    fork_count.fetch_add(1, std::memory_order_relaxed);  // first: hooks see the new process
    fork_mark->store(1, std::memory_order_relaxed);
    own_process.store(::getpid(), std::memory_order_relaxed);
    for (std::size_t i = 0; i < hooks_count; ++i)
        if (all_hooks[i].child != nullptr) all_hooks[i].child(prepared);
}

[[gnu::constructor]] void watch_forks() noexcept {
    own_process.store(::getpid(), std::memory_order_relaxed);
    const auto page_bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    void* const page =
        ::mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED) {
        if (::madvise(page, page_bytes, MADV_WIPEONFORK) == 0)
            fork_mark = new (page) std::atomic<unsigned>(1);
        else
            ::munmap(page, page_bytes);
    }
    ::pthread_atfork(before_fork, in_parent, [] { in_child(true); });
}

}  // namespace

constinit std::atomic<unsigned>* fork_mark = &plain_mark;

void add_fork_hooks(const fork_hooks& hooks) noexcept {
    KEVRING_ASSERT(hooks_count < hooks_max, "internal error: too many fork hooks; raise hooks_max");
    all_hooks[hooks_count++] = hooks;
}

void on_unseen_fork() noexcept {
    unsigned unseen = 0;
    if (fork_mark->compare_exchange_strong(unseen, 1, std::memory_order_relaxed)) in_child(false);
}

bool runs_in_own_process() noexcept {
    static_cast<void>(
        fork_generation());  // first: a child that no handler saw has a process of its own
    return ::getpid() == own_process.load(std::memory_order_relaxed);
}

}  // namespace kevring::detail
