#include "worker_pool.hpp"

#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/result.hpp>

#include <chrono>
#include <utility>

namespace httpd {
namespace {

constexpr kevring::user_event reported{1};  // of the queue of reports

}  // namespace

worker_pool::worker_pool(unsigned loop_count, kevring::event_queue& events)
    : events_(events), left_count_(loop_count) {
    for (const kevring::user_event each : {all_serving, all_stopped})
        kevring::value_or_throw(events_.add(each), "the control queue");
    kevring::value_or_throw(reports_.add(reported), "the queue of reports");
    for (unsigned i = 0; i < loop_count; ++i)
        slots_.emplace_back(*this).last.set_callback([this] { reports_.notify(reported); });
}

void worker_pool::request::run_posted(work& item) noexcept {
    auto& self = static_cast<request&>(item);
    self.pending_.exchange(false, std::memory_order_acq_rel);
    if (self.to_.serving_worker != nullptr) self.what_(self.to_);
}

void worker_pool::change(const std::shared_ptr<const configuration>& next,
                         std::vector<std::vector<opened_listener>> opened,
                         const std::vector<unsigned>& closed) {
    const kevring::thread_lock lock(mutex_);
    for (std::size_t i = 0; i < slots_.size(); ++i) {
        worker_slot& each = slots_[i];
        each.changes.push_back({next, std::move(opened[i]), closed});
        if (each.loop != nullptr) each.change.send(*each.loop);
    }
}

void worker_pool::apply_changes(worker_slot& to) {
    std::vector<worker_change> taken;
    {
        const kevring::thread_lock lock(mutex_);
        taken.swap(to.changes);
    }
    for (worker_change& each : taken) to.serving_worker->change(std::move(each));
}

worker_change worker_pool::initial_change(unsigned index) {
    const kevring::thread_lock lock(mutex_);
    std::vector<worker_change>& changes = slots_[index].changes;
    worker_change first = std::move(changes.front());
    changes.erase(changes.begin());
    return first;
}

void worker_pool::join(unsigned index, worker& serving_worker) {
    worker_slot& self = slots_[index];
    self.serving_worker = &serving_worker;
    const kevring::thread_lock lock(mutex_);
    self.loop = &serving_worker.loop();
    if (!self.changes.empty()) self.change.send(*self.loop);
    if (draining_) self.drain.send(*self.loop);
    if (++joined_count_ == slots_.size()) events_.notify(all_serving);
}

void worker_pool::leave(unsigned index) noexcept {
    worker_slot& self = slots_[index];
    self.serving_worker = nullptr;
    const kevring::thread_lock lock(mutex_);
    self.loop = nullptr;
    if (--left_count_ == 0) events_.notify(all_stopped);
    reports_.notify(reported);  // a waiter for this loop's report waits no more
}

void worker_pool::post_to_all(request worker_slot::* what) noexcept {
    const kevring::thread_lock lock(mutex_);
    if (what == &worker_slot::drain) draining_ = true;  // for those that have not joined
    for (worker_slot& each : slots_)
        if (each.loop != nullptr) (each.*what).send(*each.loop);
}

bool worker_pool::all_have_reported(const std::vector<std::uint64_t>& after) noexcept {
    const kevring::thread_lock lock(mutex_);
    for (std::size_t i = 0; i < slots_.size(); ++i)
        if (slots_[i].loop != nullptr && slots_[i].last.number() == after[i]) return false;
    return true;
}

// A loop that is too busy to answer in time is shown as it was.
kevring::task<void> worker_pool::refresh() {
    std::vector<std::uint64_t> before;
    for (const worker_slot& each : slots_) before.push_back(each.last.number());
    const auto limit = co_await kevring::within(std::chrono::seconds(1));
    post_to_all(&worker_slot::report);
    while (!all_have_reported(before)) {
        const auto one = co_await reports_.next();
        if (!one) co_return;
    }
    reports_.notify(reported);  // other calls may wait for the same reports
}

}  // namespace httpd
