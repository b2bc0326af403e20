// checked_queue.cpp: see checked_queue.hpp.
#include "tests/kevent/model/checked_queue.hpp"

#include <thread>

namespace kevent_model {

checked_queue::checked_queue(std::uint64_t seed) : run_(seed) {
    slot_count_ = std::array{0u, 2u, 7u}[run_.below(3)];
    slot_count_ == 0 ? static_cast<void>(run_.tested_queue.emplace())
                     : static_cast<void>(run_.tested_queue.emplace(slot_count_));
    origins_.push_back(make_streams(run_));
    origins_.push_back(make_user_events(run_));
    // Not all in each run: with fewer kinds of origin, each has more activity.
    for (const auto make :
         {make_directories, make_signals, make_children, make_transfers, make_posix_timers})
        if (run_.below(2) == 0) origins_.push_back(make(run_));
    // These need a thread of the library.
    if (seed % 2 == 0 && run_.below(2) == 0) origins_.push_back(make_file_transfers(run_));
}

void checked_queue::go() {
    for (int step = 0; step < 400 && run_.failed_at.empty(); ++step) {
        // Registrations outlive the thread that made them. A queue of one thread accepts no other.
        if (run_.below(32) == 0 && !is_of_one_thread())
            std::thread([&] { take_step(); }).join();
        else
            take_step();
    }
    bool more = true;
    while (more && run_.failed_at.empty()) {
        take_all();
        more = false;
        for (auto& each : origins_) more = each->finish() || more;
    }
    if (!run_.failed_at.empty()) return;
    for (auto& each : origins_) each->before_close();
    run_.tested_queue->close();
    for (auto& each : origins_) each->after_close();
}

std::string checked_queue::trace() const {
    std::string text;
    const std::size_t from = run_.trace.size() < 60 ? 0 : run_.trace.size() - 60;
    for (std::size_t i = from; i < run_.trace.size(); ++i) text += run_.trace[i] + "\n";
    for (const auto& [key, one] : run_.all) {
        text += "registered: " + name_of(one->request);
        text += one->is_due() ? ", due\n" : one->is_overdue() ? ", overdue\n" : "\n";
    }
    return text;
}

void checked_queue::take_step() {
    switch (run_.below(18)) {
        case 0:
        case 1:
        case 2: add(); break;
        case 3: modify(); break;
        case 4: remove(); break;
        case 5: mark_ready(); break;
        case 6:
        case 7:
        case 8:
        case 9: origins_[0]->act(); break;
        case 10:
        case 11:
        case 12: origins_[run_.below(origins_.size())]->act(); break;
        case 13: wait_for_due(); break;
        case 14:
        case 15: collect_some(); break;
        case 16: take_all(); break;
        default: run_.below(2) == 0 ? release() : check_control(); break;
    }
}

// Requests.

origin_model& checked_queue::model_of_type(std::uint32_t type) {
    return **std::find_if(origins_.begin(), origins_.end(),
                          [&](const auto& each) { return each->has_type(type); });
}

std::uint32_t checked_queue::random_flags() {
    std::uint32_t flags = 0;
    for (const std::uint32_t flag :
         {KEVENT_REQ_ONESHOT, KEVENT_REQ_WAKEUP_ALL, KEVENT_REQ_ET, KEVENT_REQ_LAST_CHECK})
        if (run_.below(4) == 0) flags |= flag;
    if (run_.below(2) == 0) flags |= KEVENT_REQ_ALWAYS_QUEUE;
    if (run_.below(10) == 0) flags |= KEVENT_REQ_READY;
    return flags;
}

std::uint32_t checked_queue::random_event(std::uint32_t type) {
    return run_.below(12) == 0 ? 0 : model_of_type(type).random_event(type);
}

// The key of an existing registration, most often.
ukevent checked_queue::random_key() {
    if (run_.all.empty() || run_.below(6) == 0) {
        if (const auto made = origins_[run_.below(origins_.size())]->random_request()) return *made;
        return user_event(run_.below(6));
    }
    auto entry = run_.all.begin();
    std::advance(entry, static_cast<std::ptrdiff_t>(run_.below(run_.all.size())));
    return entry->second->request;
}

void checked_queue::add() {
    std::vector<ukevent> records;
    std::vector<ukevent> answers;
    for (std::uint64_t i = 1 + run_.below(4); i > 0; --i) {
        origin_model& model = *origins_[run_.below(3) == 0 ? 0 : run_.below(origins_.size())];
        const auto made = model.random_request();
        if (!made) continue;
        ukevent request = *made;
        request.event = random_event(request.type);
        request.req_flags = random_flags();
        request.user_u64 = run_.random();
        run_.log("ADD ", name_of(request));
        records.push_back(request);
        std::optional<ukevent> answer;
        if (run_.all.count(model_run::key_of(request)) != 0) {
            answer = request;
            answer->ret_flags = KEVENT_RET_DONE | KEVENT_RET_BROKEN;
            answer->ret_data[1] = static_cast<std::uint32_t>(-EEXIST);
        } else {
            answer = model.add(request);
        }
        if (answer) answers.push_back(*answer);
    }
    const int count = run_.tested_queue->ctl(KEVENT_CTL_ADD, records);
    if (!KEVRING_MODEL_CHECK(run_, count == static_cast<int>(answers.size()))) return;
    for (std::size_t i = 0; i < answers.size(); ++i) {
        KEVRING_MODEL_CHECK(run_, model_run::key_of(records[i]) == model_run::key_of(answers[i]));
        KEVRING_MODEL_CHECK(run_, records[i].ret_flags == answers[i].ret_flags);
        KEVRING_MODEL_CHECK(run_, records[i].ret_data[0] == answers[i].ret_data[0]);
        KEVRING_MODEL_CHECK(run_, records[i].ret_data[1] == answers[i].ret_data[1]);
        KEVRING_MODEL_CHECK(run_, records[i].user_u64 == answers[i].user_u64);
    }
}

void checked_queue::modify() {
    std::vector<ukevent> records;
    std::vector<bool> found;
    const std::size_t count = run_.below(2) == 0 ? 1 : 1 + run_.below(8);
    const bool too_many = count > run_.all.size();
    while (records.size() < count) {
        // A record may be changed twice in the same call.
        const bool again = !records.empty() && run_.below(3) == 0;
        ukevent request = again ? records[run_.below(records.size())] : random_key();
        // Often unchanged: programs arm a registration again in this way.
        if (run_.below(2) == 0) request.event = random_event(request.type);
        if (run_.below(2) == 0) request.req_flags = random_flags();
        request.req_flags &= ~std::uint32_t{KEVENT_REQ_READY};
        const auto entry = run_.all.find(model_run::key_of(request));
        found.push_back(entry != run_.all.end());
        if (found.back()) entry->second->choose(request);
        run_.log("MODIFY ", name_of(request));
        records.push_back(request);
        if (!found.back() || too_many) continue;
        registration_model& one = *entry->second;
        const ukevent before = one.request;
        one.request.event = request.event;
        one.request.req_flags = request.req_flags | one.forced_flags();
        one.modified(before);
    }
    const int answer = run_.tested_queue->ctl(KEVENT_CTL_MODIFY, records);
    KEVRING_MODEL_CHECK(run_, answer == (too_many ? -EINVAL : 0));
    for (std::size_t i = 0; i < count && !too_many; ++i)
        KEVRING_MODEL_CHECK(run_,
                            records[i].ret_flags ==
                                (found[i] ? KEVENT_RET_DONE : KEVENT_RET_DONE | KEVENT_RET_BROKEN));
}

void checked_queue::remove() {
    std::vector<ukevent> records;
    for (std::uint64_t i = 1 + run_.below(3); i > 0; --i) records.push_back(random_key());
    const bool too_many = records.size() > run_.all.size();
    for (const ukevent& each : records) run_.log("REMOVE ", name_of(each));
    const int answer = run_.tested_queue->ctl(KEVENT_CTL_REMOVE, records);
    KEVRING_MODEL_CHECK(run_, answer == (too_many ? -EINVAL : 0));
    if (too_many) return;
    for (const ukevent& each : records) {
        const auto entry = run_.all.find(model_run::key_of(each));
        const bool found = entry != run_.all.end();
        KEVRING_MODEL_CHECK(run_, each.ret_flags == (found ? KEVENT_RET_DONE
                                                           : KEVENT_RET_DONE | KEVENT_RET_BROKEN));
        if (!found) continue;
        entry->second->removed();
        run_.all.erase(entry);
    }
}

void checked_queue::mark_ready() {
    ukevent one = random_key();
    run_.log("READY ", name_of(one));
    const auto entry = run_.all.find(model_run::key_of(one));
    const int expected_answer = run_.all.empty() ? -EINVAL : entry != run_.all.end() ? 1 : 0;
    KEVRING_MODEL_CHECK(run_, run_.tested_queue->ctl(KEVENT_CTL_READY, one) == expected_answer);
    if (entry != run_.all.end()) entry->second->marked();
}

void checked_queue::release() {
    run_.log("READY without records");
    KEVRING_MODEL_CHECK(run_, run_.tested_queue->release() == 0);
    released_ = true;
}

// Collecting, by a random call.

std::size_t checked_queue::due_count() const {
    return static_cast<std::size_t>(std::count_if(
        run_.all.begin(), run_.all.end(), [](const auto& each) { return each.second->is_due(); }));
}

// Returns -1 if the ring has no space for a call.
int checked_queue::collect(unsigned min_count, unsigned max_count, timespec timeout) {
    const bool by_ring = slot_count_ != 0 && run_.below(2) == 0;
    run_.called_at = now();
    std::vector<ukevent> got(max_count);
    int count = 0;
    if (by_ring) {
        const std::uint64_t room = slot_count_ - (published_ - committed_);
        if (room == 0 || min_count > 1) return -1;
        const unsigned wanted = std::min(max_count, slot_count_);
        count = run_.tested_queue->wait(wanted, static_cast<unsigned>(committed_ % slot_count_),
                                        timeout);
        run_.log("wait for ", wanted, ", ", timeout.tv_sec, " s: ", count);
        const int most = static_cast<int>(std::min<std::uint64_t>(wanted, room));
        if (!KEVRING_MODEL_CHECK(run_, count >= 0 && count <= most)) return count;
        for (int i = 0; i < count; ++i)
            got[static_cast<std::size_t>(i)] =
                run_.tested_queue->ring().event[published_++ % slot_count_];
    } else {
        count = kevent_get_events(run_.tested_queue->number(), min_count, max_count, timeout,
                                  got.data(), 0);
        run_.log("get_events of ", min_count, " to ", max_count, ", ", timeout.tv_sec,
                 " s: ", count);
        if (!KEVRING_MODEL_CHECK(run_, count >= 0 && count <= static_cast<int>(max_count)))
            return count;
        for (int i = 0; slot_count_ != 0 && i < count; ++i)
            compare_copy(got[static_cast<std::size_t>(i)]);
    }
    released_ = false;
    if (slot_count_ != 0) {
        KEVRING_MODEL_CHECK(run_, run_.tested_queue->ring_kidx() == published_ % slot_count_);
        commit();
    }
    for (int i = 0; i < count; ++i) deliver(got[static_cast<std::size_t>(i)]);
    if (count == 0)
        for (auto& each : origins_) each->all_changes_taken();
    // A registration that fails its last check may have been dropped, or not been tested.
    for (auto& [key, one] : run_.all)
        if (one->event == expected::must && !one->is_due()) one->dropped_maybe();
    return count;
}

void checked_queue::compare_copy(ukevent& one) {
    const bool is_full = published_ - committed_ == slot_count_;
    KEVRING_MODEL_CHECK(run_, ((one.ret_flags & KEVENT_RET_COPY_FAILED) != 0) == is_full);
    one.ret_flags &= ~KEVENT_RET_COPY_FAILED;
    if (is_full) return;
    const ukevent& copy = run_.tested_queue->ring().event[published_++ % slot_count_];
    KEVRING_MODEL_CHECK(run_, std::memcmp(&copy, &one, sizeof one) == 0);
}

void checked_queue::commit() {
    const std::uint64_t count = run_.below(published_ - committed_ + 1);
    const std::uint64_t until = committed_ + count;
    const int freed = run_.tested_queue->commit(static_cast<unsigned>(until % slot_count_),
                                                static_cast<unsigned>(until / slot_count_));
    KEVRING_MODEL_CHECK(run_, freed == static_cast<int>(count));
    committed_ = until;
}

void checked_queue::deliver(const ukevent& got) {
    run_.log("event ", name_of(got), " returns ", got.ret_flags, " data ", got.ret_data[0], ' ',
             error_of(got));
    ++delivered_count_;
    const auto entry = run_.all.find(model_run::key_of(got));
    if (!KEVRING_MODEL_CHECK(run_, entry != run_.all.end())) return;
    registration_model& one = *entry->second;
    const ukevent& request = one.request;
    KEVRING_MODEL_CHECK(run_, got.user_u64 == request.user_u64);
    KEVRING_MODEL_CHECK(run_, got.event == request.event);
    KEVRING_MODEL_CHECK(run_, got.req_flags == (request.req_flags & ~KEVENT_REQ_LAST_CHECK));
    KEVRING_MODEL_CHECK(run_, (got.ret_flags & KEVENT_RET_DONE) != 0);
    one.check_record(got);
    if (one.has(KEVENT_REQ_ONESHOT))
        run_.all.erase(entry);
    else
        one.delivered(got);
}

void checked_queue::collect_some() {
    collect(1, 1 + static_cast<unsigned>(run_.below(5)), no_wait);
}

void checked_queue::wait_for_due() {
    const auto any = [&](auto claim) {
        return std::any_of(run_.all.begin(), run_.all.end(),
                           [&](const auto& each) { return claim(*each.second); });
    };
    const bool has_timer = any([](const registration_model& each) {
        return each.is_overdue() || (each.fires_by_itself() && !each.has(KEVENT_REQ_ONESHOT));
    });
    const bool has_doubtful = any([](const registration_model& each) {
        return each.event != expected::none && !each.is_due();
    });
    const std::size_t due = due_count();
    if (due == 0 && !has_timer && !released_) return;
    const bool released = released_;
    const auto min_count = static_cast<unsigned>(due > 1 ? 1 + run_.below(due) : 1);
    const int count = collect(min_count, min_count + 2, test_timeout);
    // A ready registration that fails its last check was counted as ready.
    const unsigned wanted = has_doubtful ? 1 : min_count;
    if (count >= 0 && !released) KEVRING_MODEL_CHECK(run_, count >= static_cast<int>(wanted));
}

// Collects until no event is left that must be reported.
void checked_queue::take_all() {
    const auto is_late = [&] {
        return std::any_of(run_.all.begin(), run_.all.end(),
                           [](const auto& each) { return each.second->is_overdue(); });
    };
    while (run_.failed_at.empty()) {
        // On a busy core a timer may fire later than its deadline, but it fires.
        const bool late = is_late();
        const bool released = released_;
        const int count =
            collect(1, 1 + static_cast<unsigned>(run_.below(8)), late ? test_timeout : no_wait);
        if (count < 0) commit();
        if (count == 0 && late && !released) KEVRING_MODEL_CHECK(run_, false);
        if (count == 0 && !late) break;
    }
    run_.log("all collected");
    bool has_timer = false;
    for (auto& [key, one] : run_.all) {
        if (one->is_due()) {
            run_.log("except ", name_of(one->request), " age ", one->age, one->dead ? " dead" : "");
            KEVRING_MODEL_CHECK(run_, false);
        }
        has_timer = has_timer || one->fires_by_itself();
        one->nothing_left();
    }
    // The control descriptor of a queue with io_uring can be readable without an event until the
    // next call.
    const auto end = now() + half_of_test_timeout;
    bool readable = run_.tested_queue->readable();
    while (!has_timer && is_of_one_thread() && readable && now() < end && run_.failed_at.empty()) {
        ukevent late{};
        const int count = kevent_get_events(run_.tested_queue->number(), 1, 1, no_wait, &late, 0);
        if (!KEVRING_MODEL_CHECK(run_, count == 0)) run_.log("late ", name_of(late));
        readable = run_.tested_queue->readable();
    }
    if (!has_timer) KEVRING_MODEL_CHECK(run_, !readable);
}

void checked_queue::check_control() {
    if (!released_ && due_count() == 0) return;
    // The kernel defers the signal of one eventfd, such as that of a transfer, to another one.
    pollfd control{run_.tested_queue->number(), POLLIN, 0};
    KEVRING_MODEL_CHECK(run_, ::poll(&control, 1, is_of_one_thread() ? 30'000 : 0) == 1);
}

}  // namespace kevent_model
