// work.hpp: something to do on a ring's thread, linked into its queue without an allocation.
#pragma once

#include <kevring/runtime/detail/language.hpp>

namespace kevring {

/// One entry of a ring's run queue.
///
/// Lifetime   From schedule() or post() until `run` is called the ring holds its address.
struct work {
    using run_function = void (*)(work&) noexcept;

    explicit work(run_function function) noexcept : run(function) {}
    work(const work&) = delete;
    work& operator=(const work&) = delete;

    run_function run;      // called once on the ring's thread; `*this` may be gone on return
    work* next = nullptr;  // the queue's
};

}  // namespace kevring
