// process.hpp: detection of a fork since an object of the library was made.
//
// fork(2) copies memory and descriptors; the files behind the descriptors stay shared with the
// parent. An object that was made before the fork must not change such a file, or it destroys the
// state of the parent. fork() of the C library is seen by handlers (pthread_atfork(3)). A clone(2)
// without them is seen by a page that the kernel clears in the child (MADV_WIPEONFORK). A child
// that shares this memory, as that of vfork(2) does, is seen by its process number only.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <atomic>

namespace kevring::detail {

/// Code that runs around a fork, on the forking thread. A null pointer stands for nothing to do.
struct fork_hooks {
    /// Before the fork: locks the hook's mutex.
    void (*prepare)() noexcept = nullptr;
    /// In the parent: unlocks it.
    void (*parent)() noexcept = nullptr;
    /// In the child. `prepared`: prepare() ran before the fork. Otherwise another thread, which the
    /// child does not have, may hold the mutex for good: the hook makes a new one in its place.
    void (*child)(bool prepared) noexcept = nullptr;
};

/// Adds hooks; called while the library is loaded, so that handlers which the program registers run
/// without the locks. Hooks run in reverse order before the fork, and in order after it.
void add_fork_hooks(const fork_hooks& hooks) noexcept;

// Written in the child of a fork, by its only thread.
extern std::atomic<unsigned> fork_count;
extern constinit std::atomic<unsigned>* fork_mark;  // 0 in a child that no handler has seen

[[gnu::cold]] void on_unseen_fork() noexcept;

/// The number of forks between the process that loaded the library and this one. An object that
/// keeps the value of its construction belongs to a parent process once the values differ.
inline unsigned fork_generation() noexcept {
    // relaxed: the child of a fork begins with one thread.
    if (fork_mark->load(std::memory_order_relaxed) == 0) [[unlikely]]
        on_unseen_fork();
    return fork_count.load(std::memory_order_relaxed);
}

/// False in a child that shares the memory of its parent. Costs one getpid(2).
bool runs_in_own_process() noexcept;

}  // namespace kevring::detail
