#include <kevring/runtime/thread_pool.hpp>

#include <kevring/runtime/detail/process.hpp>
#include <kevring/runtime/thread_mutex.hpp>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace kevring {

// On the heap: a forked process leaves it, since the threads that wait in it do not exist there.
struct thread_pool::shared_state {
    thread_mutex mutex;
    thread_condition job_available;
    detail::list_link jobs KEVRING_GUARDED_BY(mutex);
    std::vector<std::thread> threads KEVRING_GUARDED_BY(mutex);
    std::size_t free_count KEVRING_GUARDED_BY(mutex) = 0;  // threads without a job
    bool stopping KEVRING_GUARDED_BY(mutex) = false;
};

thread_pool::thread_pool(thread_pool_options options)
    : options_(options), fork_generation_(detail::fork_generation()), state_(*new shared_state) {
    if (options.thread_count_max != 0) return;
    delete &state_;
    throw std::invalid_argument("kevring: a thread_pool needs at least one thread");
}

thread_pool::~thread_pool() {
    if (detail::fork_generation() != fork_generation_) return;
    std::vector<std::thread> joined;
    {
        const thread_lock lock(state_.mutex);
        KEVRING_ASSERT(!state_.jobs.linked(),
                       "thread_pool destroyed while jobs wait for a thread; join the tasks that "
                       "await them first");
        state_.stopping = true;
        joined = std::move(state_.threads);
        state_.job_available.notify_all();
    }
    for (std::thread& each : joined) each.join();
    delete &state_;
}

thread_pool& thread_pool::shared() {
    struct entry {
        thread_pool pool;
        unsigned generation = detail::fork_generation();
    };
    static std::atomic<entry*> current{nullptr};
    entry* existing = current.load(std::memory_order_acquire);
    while (existing == nullptr || existing->generation != detail::fork_generation()) {
        auto* const created = new entry;  // never destroyed: a job may run when the program ends
        // acq_rel: pairs with the load above.
        if (current.compare_exchange_strong(existing, created, std::memory_order_acq_rel))
            return created->pool;
        delete created;
    }
    return existing->pool;
}

thread_pool_counters thread_pool::counters() const noexcept {
    thread_pool_counters now;
    now.thread_count = thread_count_.get();
    now.running_count = running_count_.get();
    now.queued_count = queued_count_.get();
    now.queued_count_most = queued_count_most_.get();
    now.started_count = started_count_.get();
    now.canceled_count = canceled_count_.get();
    now.refused_count = refused_count_.get();
    return now;
}

int thread_pool::start(detail::pool_job& job) noexcept {
    if (detail::fork_generation() != fork_generation_) return EPERM;
    const thread_lock lock(state_.mutex);
    const std::size_t queued_count = queued_count_.get();
    if (queued_count >= state_.free_count && state_.threads.size() < options_.thread_count_max) {
        try {
            state_.threads.emplace_back([this] { run_thread(); });
            ++thread_count_;
            ++state_.free_count;
        } catch (const std::exception&) {
            // The job waits for one of the threads that exist.
        }
    }
    // Subtracted: queue_count_max may be the largest number.
    if (state_.threads.empty() || (queued_count >= state_.free_count &&
                                   queued_count - state_.free_count >= options_.queue_count_max)) {
        ++refused_count_;
        return EAGAIN;
    }
    job.insert_before(state_.jobs);
    queued_count_.store(queued_count + 1);
    queued_count_most_.store(std::max<std::uint64_t>(queued_count_most_.get(), queued_count + 1));
    // With fewer free threads than jobs, one of them takes this job when its own ends.
    if (queued_count < state_.free_count) state_.job_available.notify_one();
    return 0;
}

bool thread_pool::withdraw(detail::pool_job& job) noexcept {
    const thread_lock lock(state_.mutex);
    if (!job.linked()) return false;
    job.unlink();
    queued_count_.store(queued_count_.get() - 1);
    ++canceled_count_;
    return true;
}

void thread_pool::run_thread() noexcept {
    thread_lock lock(state_.mutex);
    while (true) {
        while (!state_.jobs.linked() && !state_.stopping) state_.job_available.wait(lock);
        if (!state_.jobs.linked()) return;
        auto& job = static_cast<detail::pool_job&>(*state_.jobs.next);
        job.unlink();
        --state_.free_count;
        queued_count_.store(queued_count_.get() - 1);
        ++started_count_;
        running_count_.add(1);
        lock.unlock();
        job.run(job);
        // The job has forked, and this is the child: another thread may have held the mutex. With this
        // thread, its only one, the child ends as by exit(0).
        if (detail::fork_generation() != fork_generation_) return;
        lock.lock();
        running_count_.store(running_count_.get() - 1);
        ++state_.free_count;
    }
}

namespace detail {

bool pool_wait::start(std::coroutine_handle<> waiter, cancel_scope* scope) noexcept {
    ring* const loop = scope != nullptr ? &scope->loop() : ring::current();
    KEVRING_ASSERT(
        loop != nullptr && loop->on_ring_thread(),
        "blocking() or resume_on(pool) awaited on a thread that does not drive its ring; "
        "await it in a task that run() or spawn() started");
    KEVRING_ASSERT(!waiter_, "blocking() or resume_on() awaited twice; create one per await");
    if (loop->created_by_parent_process()) [[unlikely]] {
        error_ = EPERM;  // the loop, which would resume the coroutine, is the parent's
        return false;
    }
    if (scope == nullptr) scope = &loop->root_scope();
    if (scope->stop_requested()) {
        cause_ = scope->cause();
        return false;
    }
    loop_ = loop;
    waiter_ = waiter;
    // first: from start() on the object is another thread's, which may resume the coroutine as soon
    // as this function has returned to the loop. Only the loop's thread uses the scope.
    loop->expect_post();
    scope->add(*this);
    if (const int error = pool_->start(*this); error != 0) {
        loop->expected_post_ended();
        cancel_hook::unlink();
        error_ = error;
        return false;
    }
    return true;
}

void pool_wait::stop_wait(cancel_hook& hook, stop_cause cause) noexcept {
    auto& self = static_cast<pool_wait&>(hook);
    if (self.pool_->withdraw(self)) {
        self.cause_ = cause;
        self.loop_->expected_post_ended();
        self.loop_->schedule(self);
    } else if (self.stop_source_) {
        self.stop_source_->request_stop();
    }
}

pool_visit*& pool_visit::current() noexcept {
    thread_local pool_visit* visit = nullptr;
    return visit;
}

int pool_visit::begin() noexcept {
    ring& loop = scope_.loop();
    loop.expect_post();
    scope_.add(*this);  // first: from start() on, the thread of the pool runs the coroutine
    const int error = pool_.start(*this);
    if (error == 0) return 0;
    loop.expected_post_ended();
    cancel_hook::unlink();
    delete this;
    return error;
}

// On the thread of the pool.
void pool_visit::run_job(pool_job& job) noexcept {
    auto& self = static_cast<pool_visit&>(job);
    if (self.scope_place_ != nullptr) *self.scope_place_ = nullptr;
    current() = &self;
    self.waiter_.resume();
    KEVRING_ASSERT(
        current() == nullptr,
        "coroutine ended or waited on a thread of a pool; co_await resume_on(loop) first");
}

void pool_visit::leave(std::coroutine_handle<> waiter) noexcept {
    pool_visit& self = *std::exchange(current(), nullptr);
    if (self.scope_place_ != nullptr) *self.scope_place_ = &self.scope_;
    self.waiter_ = waiter;
    self.loop().post_expected(self);  // last: the loop resumes the coroutine
}

// On the loop that the coroutine had left.
void pool_visit::ended(work& item) noexcept {
    auto& self = static_cast<pool_visit&>(item);
    const std::coroutine_handle<> waiter = self.waiter_;
    self.cancel_hook::unlink();
    delete &self;
    waiter.resume();
}

void pool_visit::stop_wait(cancel_hook& hook, stop_cause cause) noexcept {
    auto& self = static_cast<pool_visit&>(hook);
    if (!self.pool_.withdraw(self)) return;
    self.cause_ = cause;
    self.loop().expected_post_ended();
    self.loop().schedule(self);
}

}  // namespace detail

bool resume_on_pool::start(std::coroutine_handle<> waiter, cancel_scope* scope,
                           cancel_scope** scope_place) {
    ring* const loop = scope != nullptr ? &scope->loop() : ring::current();
    KEVRING_ASSERT(
        loop != nullptr && loop->on_ring_thread(),
        "blocking() or resume_on(pool) awaited on a thread that does not drive its ring; "
        "await it in a task that run() or spawn() started");
    if (loop->created_by_parent_process()) [[unlikely]] {
        error_ = EPERM;
        return false;
    }
    if (scope == nullptr) scope = &loop->root_scope();
    if (scope->stop_requested()) {
        cause_ = scope->cause();
        return false;
    }
    auto* const visit = new detail::pool_visit(pool_, *scope, scope_place, waiter, cause_);
    const int error = visit->begin();
    if (error == 0) return true;  // `*this` may be destroyed
    error_ = error;
    return false;
}

void resume_on_ring::await_suspend(std::coroutine_handle<> waiter) const noexcept {
    const detail::pool_visit* const visit = detail::pool_visit::current();
    KEVRING_ASSERT(visit != nullptr && &visit->loop() == &loop_,
                   "resume_on(loop) awaited by a coroutine that has not left this loop through "
                   "resume_on(pool); use submit() to start a task on another loop");
    detail::pool_visit::leave(waiter);
}

}  // namespace kevring
