// readiness_watch.cpp: see readiness_watch.hpp.
#include <kevring/kevent/detail/readiness_watch.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/process.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/ring.hpp>

#include <cerrno>
#include <new>
#include <utility>

#include <poll.h>

namespace kevring::detail {

// The request in flight. It outlives its watch until its final completion.
class readiness_watch::request final : public completion {
public:
    request(readiness_watch& watch, ring& loop) noexcept
        : loop(loop), watch_(&watch), file_(watch.file_), generation_(fork_generation()) {}

    void prepare(io_uring_sqe& sqe) noexcept override {
        io_uring_prep_poll_multishot(&sqe, file_.number(), POLLIN);
    }
    void complete(std::int32_t res, std::uint32_t flags) noexcept override {
        const bool ends = (flags & IORING_CQE_F_MORE) == 0;
        readiness_watch* const watch = watch_;
        if (ends) {
            if (watch != nullptr) watch->request_ = nullptr;
            delete this;
        }
        // The end of the loop is no error: it stops the tasks that wait on it.
        if (watch != nullptr) watch->on_edge(res < 0 && res != -ECANCELED ? res : 0);
    }

    // The watch ends, or continues on another loop.
    void detach() noexcept {
        watch_ = nullptr;
        // The ring of a parent process is left alone; so the request is never completed here.
        if (generation_ == fork_generation()) loop.queue_cancel(*this);
    }

    ring& loop;

private:
    readiness_watch* watch_;
    const fd_ref file_;
    const unsigned generation_;
};

readiness_watch::~readiness_watch() {
    const auto is_inherited = [this] {
        const auto& first = static_cast<const wait_operation::entry&>(*waits_.next);
        return first.operation.loop_.created_by_parent_process();
    };
    KEVRING_ASSERT(!waits_.linked() || is_inherited(),
                   "queue or stream destroyed while a task waits for it; join the task first");
    if (request_ != nullptr) request_->detach();
}

int readiness_watch::start(ring& loop) noexcept {
    if (!file_.valid()) return 0;
    if (request_ != nullptr && &request_->loop != &loop) {
        if (waits_.linked() || !request_->loop.on_ring_thread()) return -EBUSY;
        std::exchange(request_, nullptr)->detach();
    }
    if (request_ != nullptr) return 0;
    request_ = new (std::nothrow) request(*this, loop);
    if (request_ == nullptr) return -ENOMEM;
    loop.queue(*request_);
    return 0;
}

void readiness_watch::on_edge(int error_number) noexcept {
    while (waits_.linked()) {
        auto& first = static_cast<wait_operation::entry&>(*waits_.next);
        first.operation.error_number_ = error_number;
        first.operation.finish();
    }
}

bool readiness_watch::wait_operation::start(std::coroutine_handle<> waiter,
                                            cancel_scope* scope) noexcept {
    KEVRING_ASSERT(loop_.on_ring_thread(),
                   "stream awaited on a thread that does not drive its ring; await it in a task of "
                   "that ring");
    if (loop_.created_by_parent_process()) [[unlikely]] {
        error_number_ = -EPERM;
        return false;
    }
    if (scope == nullptr) scope = &loop_.root_scope();  // a coroutine of another library
    if (scope->stop_requested()) {
        cause_ = scope->cause();
        return false;
    }
    error_number_ = watch_.start(loop_);
    if (error_number_ != 0) return false;
    waiter_ = waiter;
    scope_ = scope;
    wait_again();
    return true;
}

void readiness_watch::wait_operation::wait_again() noexcept {
    // A stop that came after the edge found the operation finished, and is not repeated.
    if (scope_->stop_requested()) {
        cause_ = scope_->cause();
        return finish();
    }
    finished_ = false;
    entry_.insert_before(watch_.waits_);
    scope_->add(*this);
}

// The task is resumed from the run queue, once.
void readiness_watch::wait_operation::finish() noexcept {
    entry_.unlink();
    finished_ = true;
    loop_.schedule(*this);
}

void readiness_watch::wait_operation::stopped(cancel_hook& hook, stop_cause cause) noexcept {
    auto& self = static_cast<wait_operation&>(hook);
    if (self.finished_) return;
    self.cause_ = cause;
    self.finish();
}

void readiness_watch::wait_operation::resumed(work& item) noexcept {
    auto& self = static_cast<wait_operation&>(item);
    self.cancel_hook::unlink();
    const bool is_woken = self.cause_ == stop_cause::none && self.error_number_ == 0;
    if (is_woken && self.woken_ != nullptr && self.woken_(self, self.waiter_)) return;
    self.waiter_.resume();  // last: the frame, and this object in it, may be gone on return
}

result<void> readiness_watch::wait_operation::await_resume() const noexcept {
    if (cause_ != stop_cause::none)
        return error_from(cause_ == stop_cause::deadline ? std::errc::timed_out
                                                         : std::errc::operation_canceled);
    if (error_number_ != 0) return error_from(error_number_);
    return {};
}

}  // namespace kevring::detail
