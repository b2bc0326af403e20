#include <kevring/sendfile/aio/aio_loop.hpp>

#include <kevring/runtime/deadline.hpp>
#include <kevring/sendfile/send_file.hpp>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <system_error>
#include <utility>

#include <pthread.h>

namespace kevring::detail {
namespace {

// Never destroyed: its thread runs until the process ends. The child of a fork has no such thread, and
// the object may have a lock that no thread releases: the child makes a new one.
constinit std::atomic<aio_loop*> current{nullptr};

int errno_of(const std::error_code& error) noexcept {
    if (!error) return 0;
    if (error.category() == std::system_category() || error.category() == std::generic_category())
        return error.value();
    return EIO;
}

}  // namespace

aio_loop& aio_loop::get() {
    // acquire: pairs with the release of the thread that has made the object.
    aio_loop* existing = current.load(std::memory_order_acquire);
    while (existing == nullptr || existing->fork_generation_ != fork_generation()) {
        std::unique_ptr<aio_loop> made(new aio_loop);
        if (current.compare_exchange_strong(existing, made.get(), std::memory_order_acq_rel,
                                            std::memory_order_acquire))
            return *made.release();
    }
    return *existing;
}

int aio_loop::ensure_running() {
    thread_lock held(mutex_);
    if (loop_ != nullptr) return 0;
    if (!starting_) {
        starting_ = true;
        failure_ = 0;
        sigset_t all;
        sigset_t before;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before);  // signals go to the threads of the program
        pthread_t thread;
        const int made = ::pthread_create(&thread, nullptr, &aio_loop::main, this);
        if (made == 0) ::pthread_detach(thread);
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        if (made != 0) {
            starting_ = false;
            failure_ = -made;
            started_.notify_all();
            return -made;
        }
    }
    while (starting_) started_.wait(held);
    return failure_;
}

void aio_loop::start(std::unique_ptr<aio_request> request) noexcept {
    request->run = start_on_loop;
    loop_->post(*request.release());  // ensure_running() has returned 0 before
}

void* aio_loop::main(void* self) {
    ::pthread_setname_np(::pthread_self(), "kevring-aio");
    static_cast<aio_loop*>(self)->drive();
    return nullptr;
}

void aio_loop::drive() {
    int failure = 0;
    try {
        ring loop;
        task_scope transfers(loop);
        scope_ = &transfers;
        {
            const thread_lock held(mutex_);
            loop_ = &loop;
            starting_ = false;
        }
        started_.notify_all();
        const bool never = false;
        loop.run_until(never);
    } catch (const std::system_error& error) {
        if (loop_ != nullptr) {
            // The ring has failed while in use: its transfers could never complete.
            std::fprintf(stderr, "kevring: aio_sendfile: %s\n", error.what());
            std::terminate();
        }
        failure = -errno_of(error.code());
    } catch (const std::bad_alloc&) {
        failure = -ENOMEM;
    }
    const thread_lock held(mutex_);
    starting_ = false;
    failure_ = failure;
    started_.notify_all();
}

void aio_loop::start_on_loop(work& item) noexcept {
    std::unique_ptr<aio_request> request(static_cast<aio_request*>(&item));
    const std::shared_ptr<aio_completion> ticket = request->ticket;
    try {
        aio_loop& self = get();
        self.scope_->spawn(run_transfer(self.lines_, std::move(request)));
    } catch (const std::bad_alloc&) {
        ticket->finish(0, ENOMEM);
    }
}

task<void> run_transfer(aio_lines& lines, std::unique_ptr<aio_request> request) {
    const std::shared_ptr<aio_completion> ticket = request->ticket;
    send_report report;
    try {
        aio_line& mine = lines[request->socket_identity];
        ++mine.transfer_count;
        send_options options;
        options.header = std::span<const std::byte>(request->header);
        options.trailer = std::span<const std::byte>(request->trailer);
        options.stop_at_eof = true;  // a short file is not an error (5.7)
        options.allow_growth = true;
        options.keep_blocking = true;
        options.queue = &mine.queue;
        std::exception_ptr thrown;
        try {
            task<send_report> send = send_file(*ring::current(), request->socket, request->file,
                                               request->range, options);
            task<send_report> stoppable = with_stop(std::move(send), ticket->stop.get_token());
            report = co_await std::move(stoppable);
        } catch (...) {
            thrown = std::current_exception();
        }
        if (--mine.transfer_count == 0) lines.erase(request->socket_identity);
        if (thrown) std::rethrow_exception(thrown);
    } catch (const std::bad_alloc&) {
        report.error = std::make_error_code(std::errc::not_enough_memory);
    }
    request.reset();  // first: a program that gets the event may expect that the socket is closed
    ticket->finish(report.bytes_sent, errno_of(report.error));
}

}  // namespace kevring::detail
