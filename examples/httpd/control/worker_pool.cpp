#include "worker_pool.hpp"

#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/result.hpp>

#include <chrono>
#include <utility>

namespace httpd {
namespace {

constexpr kevring::note reported{1};  // of the queue of reports

}  // namespace

crew::crew(unsigned loop_count, kevring::event_queue& events)
    : events_(events), left_count_(loop_count) {
    for (const kevring::note each : {all_serve, all_have_left})
        kevring::value_or_throw(events_.add(each), "the control queue");
    kevring::value_or_throw(reports_.add(reported), "the queue of reports");
    for (unsigned i = 0; i < loop_count; ++i)
        members_.emplace_back(*this).last.tell([this] { reports_.notify(reported); });
}

void crew::request::arrived(work& item) noexcept {
    auto& self = static_cast<request&>(item);
    self.pending_.exchange(false, std::memory_order_acq_rel);
    if (self.to_.who != nullptr) self.what_(self.to_);
}

void crew::change(const std::shared_ptr<const configuration>& with,
                  std::vector<std::vector<opened_door>> opened,
                  const std::vector<unsigned>& closed) {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < members_.size(); ++i) {
        member& each = members_[i];
        each.changes.push_back({with, std::move(opened[i]), closed});
        if (each.on != nullptr) each.change.send(*each.on);
    }
}

void crew::take_changes(member& to) {
    std::vector<worker_change> taken;
    {
        const std::lock_guard lock(mutex_);
        taken.swap(to.changes);
    }
    for (worker_change& each : taken) to.who->change(std::move(each));
}

worker_change crew::first_change(unsigned index) {
    const std::lock_guard lock(mutex_);
    std::vector<worker_change>& changes = members_[index].changes;
    worker_change first = std::move(changes.front());
    changes.erase(changes.begin());
    return first;
}

void crew::join(unsigned index, worker& who) {
    member& self = members_[index];
    self.who = &who;
    const std::lock_guard lock(mutex_);
    self.on = &who.on();
    if (!self.changes.empty()) self.change.send(*self.on);
    if (draining_) self.drain.send(*self.on);
    if (++joined_count_ == members_.size()) events_.notify(all_serve);
}

void crew::leave(unsigned index) noexcept {
    member& self = members_[index];
    self.who = nullptr;
    const std::lock_guard lock(mutex_);
    self.on = nullptr;
    if (--left_count_ == 0) events_.notify(all_have_left);
    reports_.notify(reported);  // who waits for this loop's report waits no more
}

void crew::ask_all(request member::* what) noexcept {
    const std::lock_guard lock(mutex_);
    if (what == &member::drain) draining_ = true;  // for those that have not joined
    for (member& each : members_)
        if (each.on != nullptr) (each.*what).send(*each.on);
}

bool crew::all_have_reported(const std::vector<std::uint64_t>& after) noexcept {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < members_.size(); ++i)
        if (members_[i].on != nullptr && members_[i].last.number() == after[i]) return false;
    return true;
}

// A loop that is too busy to answer in time is shown as it was.
kevring::task<void> crew::refresh() {
    std::vector<std::uint64_t> before;
    for (const member& each : members_) before.push_back(each.last.number());
    const auto limit = co_await kevring::within(std::chrono::seconds(1));
    ask_all(&member::report);
    while (!all_have_reported(before)) {
        const auto one = co_await reports_.next();
        if (!one) co_return;
    }
}

}  // namespace httpd
