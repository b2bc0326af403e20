// checked_queue.cpp: see checked_queue.hpp.
#include "tests/kevent/model/checked_queue.hpp"

#include <thread>

namespace kevent_model {

checked_queue::checked_queue(std::uint64_t seed) : in_(seed) {
    slot_count_ = std::array{0u, 2u, 7u}[in_.below(3)];
    slot_count_ == 0 ? static_cast<void>(in_.door.emplace())
                     : static_cast<void>(in_.door.emplace(slot_count_));
    origins_.push_back(make_streams(in_));
    origins_.push_back(make_notes(in_));
    // Not all in each run: with fewer things to happen, more happens to each.
    for (const auto make :
         {make_directories, make_signals, make_children, make_transfers, make_posix_timers})
        if (in_.below(2) == 0) origins_.push_back(make(in_));
    // A thread of their own carries them out.
    if (seed % 2 == 0 && in_.below(2) == 0) origins_.push_back(make_file_transfers(in_));
}

void checked_queue::go() {
    for (int step = 0; step < 400 && in_.failed_at.empty(); ++step) {
        // What a thread has done outlives it. A queue of one thread has no other.
        if (in_.below(32) == 0 && !is_of_one_thread())
            std::thread([&] { take_step(); }).join();
        else
            take_step();
    }
    bool more = true;
    while (more && in_.failed_at.empty()) {
        take_all();
        more = false;
        for (auto& each : origins_) more = each->finish() || more;
    }
    if (!in_.failed_at.empty()) return;
    for (auto& each : origins_) each->before_close();
    in_.door->close();
    for (auto& each : origins_) each->after_close();
}

std::string checked_queue::trace() const {
    std::string told;
    const std::size_t from = in_.trace.size() < 60 ? 0 : in_.trace.size() - 60;
    for (std::size_t i = from; i < in_.trace.size(); ++i) told += in_.trace[i] + "\n";
    for (const auto& [key, one] : in_.all) {
        told += "there is " + name_of(one->request);
        told += one->is_due() ? ", due\n" : one->is_overdue() ? ", overdue\n" : "\n";
    }
    return told;
}

void checked_queue::take_step() {
    switch (in_.below(18)) {
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
        case 12: origins_[in_.below(origins_.size())]->act(); break;
        case 13: wait_for_due(); break;
        case 14:
        case 15: collect_some(); break;
        case 16: take_all(); break;
        default: in_.below(2) == 0 ? release() : look_at_control(); break;
    }
}

// Requests.

origins& checked_queue::of_type(std::uint32_t type) {
    return **std::find_if(origins_.begin(), origins_.end(),
                          [&](const auto& each) { return each->has_type(type); });
}

std::uint32_t checked_queue::random_flags() {
    std::uint32_t flags = 0;
    for (const std::uint32_t flag :
         {KEVENT_REQ_ONESHOT, KEVENT_REQ_WAKEUP_ALL, KEVENT_REQ_ET, KEVENT_REQ_LAST_CHECK})
        if (in_.below(4) == 0) flags |= flag;
    if (in_.below(2) == 0) flags |= KEVENT_REQ_ALWAYS_QUEUE;
    if (in_.below(10) == 0) flags |= KEVENT_REQ_READY;
    return flags;
}

std::uint32_t checked_queue::random_event(std::uint32_t type) {
    return in_.below(12) == 0 ? 0 : of_type(type).random_event(type);
}

// Of a registration that is there, most often.
ukevent checked_queue::random_key() {
    if (in_.all.empty() || in_.below(6) == 0) {
        if (const auto made = origins_[in_.below(origins_.size())]->random_request()) return *made;
        return user_event(in_.below(6));
    }
    auto at = in_.all.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(in_.below(in_.all.size())));
    return at->second->request;
}

void checked_queue::add() {
    std::vector<ukevent> records;
    std::vector<ukevent> answers;
    for (std::uint64_t i = 1 + in_.below(4); i > 0; --i) {
        origins& of = *origins_[in_.below(3) == 0 ? 0 : in_.below(origins_.size())];
        const auto made = of.random_request();
        if (!made) continue;
        ukevent request = *made;
        request.event = random_event(request.type);
        request.req_flags = random_flags();
        request.user_u64 = in_.random();
        in_.log("ADD ", name_of(request));
        records.push_back(request);
        std::optional<ukevent> answer;
        if (in_.all.count(run::key_of(request)) != 0) {
            answer = request;
            answer->ret_flags = KEVENT_RET_DONE | KEVENT_RET_BROKEN;
            answer->ret_data[1] = static_cast<std::uint32_t>(-EEXIST);
        } else {
            answer = of.add(request);
        }
        if (answer) answers.push_back(*answer);
    }
    const int count = in_.door->ctl(KEVENT_CTL_ADD, records);
    if (!KEVRING_MODEL_CHECK(in_, count == static_cast<int>(answers.size()))) return;
    for (std::size_t i = 0; i < answers.size(); ++i) {
        KEVRING_MODEL_CHECK(in_, run::key_of(records[i]) == run::key_of(answers[i]));
        KEVRING_MODEL_CHECK(in_, records[i].ret_flags == answers[i].ret_flags);
        KEVRING_MODEL_CHECK(in_, records[i].ret_data[0] == answers[i].ret_data[0]);
        KEVRING_MODEL_CHECK(in_, records[i].ret_data[1] == answers[i].ret_data[1]);
        KEVRING_MODEL_CHECK(in_, records[i].user_u64 == answers[i].user_u64);
    }
}

void checked_queue::modify() {
    std::vector<ukevent> records;
    std::vector<bool> found;
    const std::size_t count = in_.below(2) == 0 ? 1 : 1 + in_.below(8);
    const bool too_many = count > in_.all.size();
    while (records.size() < count) {
        // One that has been changed may be changed again in the same call.
        const bool again = !records.empty() && in_.below(3) == 0;
        ukevent request = again ? records[in_.below(records.size())] : random_key();
        // The same again, most often: that is how a program goes on after an event.
        if (in_.below(2) == 0) request.event = random_event(request.type);
        if (in_.below(2) == 0) request.req_flags = random_flags();
        request.req_flags &= ~std::uint32_t{KEVENT_REQ_READY};
        const auto at = in_.all.find(run::key_of(request));
        found.push_back(at != in_.all.end());
        if (found.back()) at->second->choose(request);
        in_.log("MODIFY ", name_of(request));
        records.push_back(request);
        if (!found.back() || too_many) continue;
        registration_model& one = *at->second;
        const ukevent before = one.request;
        one.request.event = request.event;
        one.request.req_flags = request.req_flags | one.forced_flags();
        one.modified(before);
    }
    const int answer = in_.door->ctl(KEVENT_CTL_MODIFY, records);
    KEVRING_MODEL_CHECK(in_, answer == (too_many ? -EINVAL : 0));
    for (std::size_t i = 0; i < count && !too_many; ++i)
        KEVRING_MODEL_CHECK(in_,
                            records[i].ret_flags ==
                                (found[i] ? KEVENT_RET_DONE : KEVENT_RET_DONE | KEVENT_RET_BROKEN));
}

void checked_queue::remove() {
    std::vector<ukevent> records;
    for (std::uint64_t i = 1 + in_.below(3); i > 0; --i) records.push_back(random_key());
    const bool too_many = records.size() > in_.all.size();
    for (const ukevent& each : records) in_.log("REMOVE ", name_of(each));
    const int answer = in_.door->ctl(KEVENT_CTL_REMOVE, records);
    KEVRING_MODEL_CHECK(in_, answer == (too_many ? -EINVAL : 0));
    if (too_many) return;
    for (const ukevent& each : records) {
        const auto at = in_.all.find(run::key_of(each));
        const bool found = at != in_.all.end();
        KEVRING_MODEL_CHECK(
            in_, each.ret_flags == (found ? KEVENT_RET_DONE : KEVENT_RET_DONE | KEVENT_RET_BROKEN));
        if (!found) continue;
        at->second->removed();
        in_.all.erase(at);
    }
}

void checked_queue::mark_ready() {
    ukevent one = random_key();
    in_.log("READY ", name_of(one));
    const auto at = in_.all.find(run::key_of(one));
    const int expected_answer = in_.all.empty() ? -EINVAL : at != in_.all.end() ? 1 : 0;
    KEVRING_MODEL_CHECK(in_, in_.door->ctl(KEVENT_CTL_READY, one) == expected_answer);
    if (at != in_.all.end()) at->second->marked();
}

void checked_queue::release() {
    in_.log("READY of nothing");
    KEVRING_MODEL_CHECK(in_, in_.door->release() == 0);
    released_ = true;
}

// Collecting, by a random door.

std::size_t checked_queue::due_count() const {
    return static_cast<std::size_t>(std::count_if(
        in_.all.begin(), in_.all.end(), [](const auto& each) { return each.second->is_due(); }));
}

// -1 where nothing could be asked for.
int checked_queue::collect(unsigned min_count, unsigned max_count, timespec timeout) {
    const bool by_ring = slot_count_ != 0 && in_.below(2) == 0;
    in_.asked_at = now();
    std::vector<ukevent> got(max_count);
    int count = 0;
    if (by_ring) {
        const std::uint64_t room = slot_count_ - (published_ - committed_);
        if (room == 0 || min_count > 1) return -1;
        const unsigned wanted = std::min(max_count, slot_count_);
        count = in_.door->wait(wanted, static_cast<unsigned>(committed_ % slot_count_), timeout);
        in_.log("wait for ", wanted, ", ", timeout.tv_sec, " s: ", count);
        const int most = static_cast<int>(std::min<std::uint64_t>(wanted, room));
        if (!KEVRING_MODEL_CHECK(in_, count >= 0 && count <= most)) return count;
        for (int i = 0; i < count; ++i)
            got[static_cast<std::size_t>(i)] = in_.door->ring().event[published_++ % slot_count_];
    } else {
        count = kevent_get_events(in_.door->number(), min_count, max_count, timeout, got.data(), 0);
        in_.log("get_events of ", min_count, " to ", max_count, ", ", timeout.tv_sec,
                " s: ", count);
        if (!KEVRING_MODEL_CHECK(in_, count >= 0 && count <= static_cast<int>(max_count)))
            return count;
        for (int i = 0; slot_count_ != 0 && i < count; ++i)
            compare_copy(got[static_cast<std::size_t>(i)]);
    }
    released_ = false;
    if (slot_count_ != 0) {
        KEVRING_MODEL_CHECK(in_, in_.door->ring_kidx() == published_ % slot_count_);
        commit();
    }
    for (int i = 0; i < count; ++i) deliver(got[static_cast<std::size_t>(i)]);
    if (count == 0)
        for (auto& each : origins_) each->all_was_heard();
    // What fails its last check may have been dropped, or not been looked at.
    for (auto& [key, one] : in_.all)
        if (one->event == expected::must && !one->is_due()) one->dropped_maybe();
    return count;
}

void checked_queue::compare_copy(ukevent& one) {
    const bool is_full = published_ - committed_ == slot_count_;
    KEVRING_MODEL_CHECK(in_, ((one.ret_flags & KEVENT_RET_COPY_FAILED) != 0) == is_full);
    one.ret_flags &= ~KEVENT_RET_COPY_FAILED;
    if (is_full) return;
    const ukevent& copy = in_.door->ring().event[published_++ % slot_count_];
    KEVRING_MODEL_CHECK(in_, std::memcmp(&copy, &one, sizeof one) == 0);
}

void checked_queue::commit() {
    const std::uint64_t count = in_.below(published_ - committed_ + 1);
    const std::uint64_t until = committed_ + count;
    const int freed = in_.door->commit(static_cast<unsigned>(until % slot_count_),
                                       static_cast<unsigned>(until / slot_count_));
    KEVRING_MODEL_CHECK(in_, freed == static_cast<int>(count));
    committed_ = until;
}

void checked_queue::deliver(const ukevent& got) {
    in_.log("event ", name_of(got), " returns ", got.ret_flags, " data ", got.ret_data[0], ' ',
            error_of(got));
    ++delivered_count_;
    const auto at = in_.all.find(run::key_of(got));
    if (!KEVRING_MODEL_CHECK(in_, at != in_.all.end())) return;
    registration_model& one = *at->second;
    const ukevent& request = one.request;
    KEVRING_MODEL_CHECK(in_, got.user_u64 == request.user_u64);
    KEVRING_MODEL_CHECK(in_, got.event == request.event);
    KEVRING_MODEL_CHECK(in_, got.req_flags == (request.req_flags & ~KEVENT_REQ_LAST_CHECK));
    KEVRING_MODEL_CHECK(in_, (got.ret_flags & KEVENT_RET_DONE) != 0);
    one.check_record(got);
    if (one.has(KEVENT_REQ_ONESHOT))
        in_.all.erase(at);
    else
        one.delivered(got);
}

void checked_queue::collect_some() { collect(1, 1 + static_cast<unsigned>(in_.below(5)), no_wait); }

void checked_queue::wait_for_due() {
    const auto any = [&](auto claim) {
        return std::any_of(in_.all.begin(), in_.all.end(),
                           [&](const auto& each) { return claim(*each.second); });
    };
    const bool has_timer = any([](const registration_model& each) {
        return each.is_overdue() || (each.rings_by_itself() && !each.has(KEVENT_REQ_ONESHOT));
    });
    const bool has_doubtful = any([](const registration_model& each) {
        return each.event != expected::none && !each.is_due();
    });
    const std::size_t due = due_count();
    if (due == 0 && !has_timer && !released_) return;
    const bool released = released_;
    const auto min_count = static_cast<unsigned>(due > 1 ? 1 + in_.below(due) : 1);
    const int count = collect(min_count, min_count + 2, test_timeout);
    // Who is ready and fails its last check has counted as ready.
    const unsigned wanted = has_doubtful ? 1 : min_count;
    if (count >= 0 && !released) KEVRING_MODEL_CHECK(in_, count >= static_cast<int>(wanted));
}

// Afterwards there is nothing that had to be seen.
void checked_queue::take_all() {
    const auto is_late = [&] {
        return std::any_of(in_.all.begin(), in_.all.end(),
                           [](const auto& each) { return each.second->is_overdue(); });
    };
    while (in_.failed_at.empty()) {
        // An alarm may ring later than the clock says, on a core that is busy; but it rings.
        const bool late = is_late();
        const bool released = released_;
        const int count =
            collect(1, 1 + static_cast<unsigned>(in_.below(8)), late ? test_timeout : no_wait);
        if (count < 0) commit();
        if (count == 0 && late && !released) KEVRING_MODEL_CHECK(in_, false);
        if (count == 0 && !late) break;
    }
    in_.log("nothing is left");
    bool has_timer = false;
    for (auto& [key, one] : in_.all) {
        if (one->is_due()) {
            in_.log("but not ", name_of(one->request), " age ", one->age, one->dead ? " dead" : "");
            KEVRING_MODEL_CHECK(in_, false);
        }
        has_timer = has_timer || one->rings_by_itself();
        one->nothing_left();
    }
    // The control descriptor of a ring can be readable for nothing, until the next call.
    const auto end = now() + half_of_test_timeout;
    bool readable = in_.door->readable();
    while (!has_timer && is_of_one_thread() && readable && now() < end && in_.failed_at.empty()) {
        ukevent late{};
        const int count = kevent_get_events(in_.door->number(), 1, 1, no_wait, &late, 0);
        if (!KEVRING_MODEL_CHECK(in_, count == 0)) in_.log("late ", name_of(late));
        readable = in_.door->readable();
    }
    if (!has_timer) KEVRING_MODEL_CHECK(in_, !readable);
}

void checked_queue::look_at_control() {
    if (!released_ && due_count() == 0) return;
    // The kernel defers what an eventfd, such as that of a transfer, has to signal to another one.
    pollfd control{in_.door->number(), POLLIN, 0};
    KEVRING_MODEL_CHECK(in_, ::poll(&control, 1, is_of_one_thread() ? 30'000 : 0) == 1);
}

}  // namespace kevent_model
