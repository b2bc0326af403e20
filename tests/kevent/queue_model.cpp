// The queue beside a model that says which events may be seen and which must be, in random runs:
// requests of five types, activity of sockets and pipes, ends that close, threads that exit, and
// both doors.
//
// A failure names its seed; KEVRING_TEST_SEED=<seed> repeats that run and no other: exactly, if the
// seed is odd; with an even one some timers are due soon, and it depends on the time who is first.
#include "tests/kevent/queue_door.hpp"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <thread>

using namespace kevent_test;

namespace {

constexpr std::uint32_t receive_bits = POLLIN | POLLRDNORM;
constexpr std::chrono::milliseconds short_period{1};

/// A socket pair or a pipe whose near end is watched. The program may close its number of it.
struct channel {
    explicit channel(bool is_socket)
        : is_socket(is_socket),
          peers(is_socket ? ends::sockets() : ends::pipe()),
          number(peers.near()),
          own(::fcntl(peers.near(), F_DUPFD_CLOEXEC, 0)) {}

    /// What poll(2) says of it at this moment: the truth that the model goes by.
    std::uint32_t bits() const {
        pollfd now{own.number(), POLLIN | POLLRDNORM | POLLOUT | POLLRDHUP, 0};
        ::poll(&now, 1, 0);
        return static_cast<std::uint16_t>(now.revents);
    }
    void drain() const {
        std::array<char, 64> bytes;
        while (::read(own.number(), bytes.data(), bytes.size()) > 0) {}
    }

    const bool is_socket;
    ends peers;
    const int number;
    const kevring::fd own;
    bool near_open = true;
    bool far_open = true;
};

enum class state { not_ready, ready, broken };
enum class expected { none, may, must };

/// One registration as the model sees it.
struct model_registration {
    ukevent request{};
    std::shared_ptr<channel> of;
    std::uint64_t age = 0;
    expected event = expected::none;
    bool listed = false;      // on the ready list by a command, whatever the origin says
    bool broken_due = false;  // an event that says so must come
    bool dead = false;
    unsigned budget = 0;      // events that can come before anything else happens: one is on the
                              // ready list, one is an edge in the kernel
    std::uint32_t masks = 0;  // the event masks since the last event
    std::uint64_t order = 0;  // of notes: when it became ready
    std::uint32_t marked_count = 0;
    std::chrono::steady_clock::time_point due;  // of short timers

    bool has(std::uint32_t flag) const { return (request.req_flags & flag) != 0; }
    bool watches() const { return of != nullptr; }
    bool is_short_timer() const {
        return request.type == KEVENT_TIMER && request.id.raw[0] == 0 && request.event != 0;
    }
    bool checked_last() const { return has(KEVENT_REQ_LAST_CHECK) || request.type == KEVENT_POLL; }

    std::uint32_t satisfied() const {
        const std::uint32_t bits = of->bits();
        if (request.type == KEVENT_POLL) return bits & request.event;
        std::uint32_t events = 0;
        const bool sends_only = (request.event & KEVENT_SOCKET_RECV) == 0;
        if ((bits & receive_bits) != 0) events |= request.event & KEVENT_SOCKET_RECV;
        if ((bits & POLLOUT) != 0 && !(sends_only && (bits & (POLLHUP | POLLERR)) != 0))
            events |= request.event & KEVENT_SOCKET_SEND;
        return events;
    }
    state now() const {
        if (!watches() || satisfied() != 0) return state::ready;
        if (request.type == KEVENT_POLL) return state::not_ready;
        const std::uint32_t ends = POLLERR | POLLHUP | (of->is_socket ? POLLRDHUP : 0u);
        return (of->bits() & ends) != 0 ? state::broken : state::not_ready;
    }
    /// It must be delivered by whoever takes all there is at this moment.
    bool is_due() const {
        if (event != expected::must) return false;
        return !checked_last() || dead || now() != state::not_ready;
    }
    void raise(expected to) { event = std::max(event, to); }
    void allow_one_more() { budget = std::min(budget + 1, 2u); }
};

class checked_queue {
public:
    explicit checked_queue(std::uint64_t seed) : timers_are_short_(seed % 2 == 0), random_(seed) {
        slot_count_ = std::array{0u, 2u, 7u}[below(3)];
        slot_count_ == 0 ? static_cast<void>(queue_.emplace())
                         : static_cast<void>(queue_.emplace(slot_count_));
        for (auto& each : channels_) each = std::make_shared<channel>(below(2) == 0);
    }

    void run() {
        for (int step = 0; step < 400 && failed_line_ == 0; ++step) {
            // What a thread has done outlives it.
            if (below(32) == 0)
                std::thread([&] { take_step(); }).join();
            else
                take_step();
        }
        if (failed_line_ == 0) take_all();
    }

    int failed_line() const { return failed_line_; }
    std::size_t delivered_count() const { return delivered_count_; }
    std::string story() const {
        std::string told;
        const std::size_t from = story_.size() < 60 ? 0 : story_.size() - 60;
        for (std::size_t i = from; i < story_.size(); ++i) told += story_[i] + "\n";
        return told;
    }

private:
    using key = std::pair<std::uint32_t, std::uint64_t>;
    static key key_of(const ukevent& one) { return {one.type, one.id.raw_u64}; }

    std::uint64_t below(std::uint64_t bound) { return random_() % bound; }
    bool check(bool holds, int line) {
        if (!holds && failed_line_ == 0) failed_line_ = line;
        return holds;
    }
    template <class... Parts>
    void tell(const Parts&... parts) {
        std::ostringstream line;
        (line << ... << parts);
        story_.push_back(line.str());
    }
    static std::string name_of(const ukevent& one) {
        std::ostringstream name;
        name << "type " << one.type << " id " << one.id.raw[0] << ':' << one.id.raw[1] << " event "
             << one.event << " flags " << one.req_flags;
        return name.str();
    }

    void take_step() {
        switch (below(16)) {
            case 0:
            case 1:
            case 2: add(); break;
            case 3: modify(); break;
            case 4: remove(); break;
            case 5: mark_ready(); break;
            case 6:
            case 7:
            case 8: far_writes(); break;
            case 9: drain(); break;
            case 10: close_something(); break;
            case 11: wait_for_due(); break;
            case 12: collect_some(); break;
            case 13: collect_some(); break;
            case 14: take_all(); break;
            default: below(2) == 0 ? release() : look_at_control(); break;
        }
    }

    // Requests.

    std::uint32_t random_flags() {
        std::uint32_t flags = 0;
        for (const std::uint32_t flag :
             {KEVENT_REQ_ONESHOT, KEVENT_REQ_WAKEUP_ALL, KEVENT_REQ_ET, KEVENT_REQ_LAST_CHECK})
            if (below(4) == 0) flags |= flag;
        if (below(2) == 0) flags |= KEVENT_REQ_ALWAYS_QUEUE;
        if (below(10) == 0) flags |= KEVENT_REQ_READY;
        return flags;
    }
    std::uint32_t random_event(std::uint32_t type) {
        if (below(12) == 0) return 0;
        if (type == KEVENT_SOCKET)
            return std::array{KEVENT_SOCKET_RECV, KEVENT_SOCKET_SEND,
                              KEVENT_SOCKET_RECV | KEVENT_SOCKET_SEND}[below(3)];
        if (type == KEVENT_PIPE) return KEVENT_SOCKET_RECV;
        if (type == KEVENT_POLL)
            return std::array{KEVENT_POLL_POLLIN, KEVENT_POLL_POLLOUT,
                              KEVENT_POLL_POLLIN | KEVENT_POLL_POLLHUP}[below(3)];
        return 1;
    }
    ukevent random_request() {
        constexpr std::array types{KEVENT_SOCKET, KEVENT_PIPE, KEVENT_POLL, KEVENT_UNOTIFY,
                                   KEVENT_TIMER};
        const auto type = static_cast<std::uint32_t>(types[below(types.size())]);
        ukevent made = record(type, 0, random_event(type), random_flags());
        made.user_u64 = random_();
        if (type == KEVENT_UNOTIFY) {
            made.id.raw[0] = static_cast<std::uint32_t>(below(6));
        } else if (type == KEVENT_TIMER) {
            // One that is due soon, or one that is not while this runs.
            if (timers_are_short_ && below(2) == 0)
                made.id.raw[1] = static_cast<std::uint32_t>(
                    std::chrono::nanoseconds(short_period).count() + below(2));
            else
                made.id.raw[0] = static_cast<std::uint32_t>(5000 + below(2));
        } else {
            made.id.raw[0] = static_cast<std::uint32_t>(channels_[below(channels_.size())]->number);
            made.id.raw[1] = static_cast<std::uint32_t>(below(2));
        }
        return made;
    }
    // Of a registration that is there, most often.
    ukevent random_key() {
        if (all_.empty() || below(6) == 0) return random_request();
        auto at = all_.begin();
        std::advance(at, static_cast<std::ptrdiff_t>(below(all_.size())));
        return at->second.request;
    }

    void add() {
        std::vector<ukevent> records;
        std::vector<ukevent> answers;
        for (std::uint64_t i = 1 + below(4); i > 0; --i) {
            const ukevent request = random_request();
            std::shared_ptr<channel> of;
            if (request.type != KEVENT_UNOTIFY && request.type != KEVENT_TIMER) {
                const auto at = std::find_if(channels_.begin(), channels_.end(), [&](auto& each) {
                    return each->number == static_cast<int>(request.id.raw[0]);
                });
                of = *at;
                // Its number may mean another file by now.
                if (!of->near_open && all_.count(key_of(request)) == 0) continue;
            }
            tell("ADD ", name_of(request));
            records.push_back(request);
            if (auto answer = add_to_model(request, of)) answers.push_back(*answer);
        }
        const int count = queue_->ctl(KEVENT_CTL_ADD, records);
        if (!check(count == static_cast<int>(answers.size()), __LINE__)) return;
        for (std::size_t i = 0; i < answers.size(); ++i) {
            check(key_of(records[i]) == key_of(answers[i]), __LINE__);
            check(records[i].ret_flags == answers[i].ret_flags, __LINE__);
            check(records[i].ret_data[0] == answers[i].ret_data[0], __LINE__);
            check(records[i].ret_data[1] == answers[i].ret_data[1], __LINE__);
            check(records[i].user_u64 == answers[i].user_u64, __LINE__);
        }
    }

    std::optional<ukevent> add_to_model(const ukevent& request, std::shared_ptr<channel> of) {
        ukevent answer = request;
        const auto fail = [&](int error_number) {
            answer.ret_flags = KEVENT_RET_DONE | KEVENT_RET_BROKEN;
            answer.ret_data[0] = 0;
            answer.ret_data[1] = static_cast<std::uint32_t>(error_number);
            return answer;
        };
        if (all_.count(key_of(request)) != 0) return fail(-EEXIST);
        if (request.type == KEVENT_SOCKET && !of->is_socket) return fail(-ENOTSOCK);
        if (request.type == KEVENT_PIPE && of->is_socket) return fail(-EINVAL);
        model_registration one;
        one.request = request;
        one.of = std::move(of);
        one.age = ++last_age_;
        one.masks = request.event;
        const bool forced = one.has(KEVENT_REQ_READY);
        if (one.watches()) {
            const state now = one.now();
            if (!forced && now == state::broken) return fail(-EPIPE);
            if (!forced && now == state::ready && !one.has(KEVENT_REQ_ALWAYS_QUEUE)) {
                answer.ret_flags = KEVENT_RET_DONE;
                answer.ret_data[0] = one.satisfied();
                answer.ret_data[1] = 0;
                return answer;
            }
            if (now != state::not_ready && request.event != 0) {
                one.raise(forced ? expected::may : expected::must);
                one.allow_one_more();
                // It fires once, by the flag: whether it hears of the failure as well is chance.
                if (now == state::broken && !one.has(KEVENT_REQ_ONESHOT)) one.broken_due = true;
            }
        }
        one.due = now() + 2 * short_period;
        model_registration& kept = all_.emplace(key_of(request), one).first->second;
        if (forced || (request.type == KEVENT_UNOTIFY && kept.has(KEVENT_REQ_ALWAYS_QUEUE)))
            list(kept);
        return std::nullopt;
    }

    void list(model_registration& one) {
        if (one.event != expected::must) one.order = ++last_order_;
        one.event = expected::must;
        one.listed = true;
        one.allow_one_more();
    }

    void modify() {
        ukevent request = random_key();
        request.event = random_event(request.type);
        request.req_flags = random_flags() & ~KEVENT_REQ_READY;
        tell("MODIFY ", name_of(request));
        const auto at = all_.find(key_of(request));
        const bool too_many = all_.empty();
        ukevent reply = request;
        const int answer = queue_->ctl(KEVENT_CTL_MODIFY, reply);
        if (too_many) {
            check(answer == -EINVAL, __LINE__);
            return;
        }
        check(answer == 0, __LINE__);
        check(reply.ret_flags ==
                  (at != all_.end() ? KEVENT_RET_DONE : KEVENT_RET_DONE | KEVENT_RET_BROKEN),
              __LINE__);
        if (at == all_.end()) return;

        model_registration& one = at->second;
        one.request.event = request.event;
        one.request.req_flags = request.req_flags;
        one.masks |= request.event;
        one.due = now() + 2 * short_period;
        if (!one.watches()) {
            list(one);
            return;
        }
        // What younger ones of its origin have heard and not been asked about is for it, now.
        for (auto& [key, other] : all_) {
            if (other.of == one.of && other.age > one.age && other.event == expected::must &&
                !other.listed && !other.broken_due)
                other.event = expected::may;
        }
        const bool fired_already = one.event == expected::must && one.has(KEVENT_REQ_ONESHOT);
        one.broken_due = false;
        if (one.dead && fired_already) return;
        one.dead = false;
        const state now = request.event != 0 ? one.now() : state::not_ready;
        if (now == state::not_ready) return;
        one.raise(expected::must);
        one.allow_one_more();
        one.broken_due = now == state::broken && !one.has(KEVENT_REQ_ONESHOT);
    }

    void remove() {
        std::vector<ukevent> records;
        for (std::uint64_t i = 1 + below(3); i > 0; --i) records.push_back(random_key());
        const bool too_many = records.size() > all_.size();
        for (const ukevent& each : records) tell("REMOVE ", name_of(each));
        const int answer = queue_->ctl(KEVENT_CTL_REMOVE, records);
        check(answer == (too_many ? -EINVAL : 0), __LINE__);
        if (too_many) return;
        for (const ukevent& each : records) {
            const bool found = all_.erase(key_of(each)) != 0;
            check(each.ret_flags == (found ? KEVENT_RET_DONE : KEVENT_RET_DONE | KEVENT_RET_BROKEN),
                  __LINE__);
        }
    }

    void mark_ready() {
        ukevent one = random_key();
        tell("READY ", name_of(one));
        const auto at = all_.find(key_of(one));
        const int expected_answer = all_.empty() ? -EINVAL : at != all_.end() ? 1 : 0;
        check(queue_->ctl(KEVENT_CTL_READY, one) == expected_answer, __LINE__);
        if (at == all_.end()) return;
        list(at->second);
        ++at->second.marked_count;
    }

    void release() {
        tell("READY of nothing");
        check(queue_->release() == 0, __LINE__);
        released_ = true;
    }

    // Activity.

    // Of several registrations of one socket or pipe the oldest that is ready takes an activity.
    bool older_may_take(const model_registration& one) const {
        return std::any_of(all_.begin(), all_.end(), [&](const auto& each) {
            const model_registration& other = each.second;
            return other.of == one.of && other.request.type != KEVENT_POLL && other.age < one.age &&
                   (other.masks & one.request.event) != 0;
        });
    }
    void activity(const std::shared_ptr<channel>& of, bool is_end) {
        for (auto& [key, one] : all_) {
            if (one.of != of || one.dead || one.request.event == 0) continue;
            const state now = one.now();
            const bool has_fired = one.event == expected::must && one.has(KEVENT_REQ_ONESHOT);
            if (now == state::not_ready || has_fired) continue;
            one.allow_one_more();
            if (now == state::broken) {
                one.raise(expected::must);
                one.broken_due = !one.has(KEVENT_REQ_ONESHOT);
                continue;
            }
            // Bytes are no activity of who only sends; but Linux may wake more than it has to.
            const bool concerned = is_end || (one.request.event & POLLIN) != 0;
            const bool shares = one.request.type != KEVENT_POLL &&
                                !one.has(KEVENT_REQ_WAKEUP_ALL) && older_may_take(one);
            one.raise(concerned && !shares ? expected::must : expected::may);
        }
    }
    void far_writes() {
        const auto& one = channels_[below(channels_.size())];
        if (!one->far_open) return;
        tell("a byte for ", one->number);
        if (::write(one->peers.far(), "x", 1) == 1) activity(one, false);
    }
    void drain() {
        const auto& one = channels_[below(channels_.size())];
        tell("no byte left for ", one->number);
        one->drain();
        for (auto& [key, each] : all_) {
            // The edge may have been looked at before, or not.
            if (each.of == one && each.event == expected::must && !each.listed &&
                !each.broken_due && each.now() == state::not_ready)
                each.event = expected::may;
        }
    }
    void close_something() {
        auto& one = channels_[below(channels_.size())];
        const bool is_watched = std::any_of(
            all_.begin(), all_.end(), [&](const auto& each) { return each.second.of == one; });
        if (!is_watched && (!one->far_open || !one->near_open)) {
            one = std::make_shared<channel>(below(2) == 0);
            tell("a new channel ", one->number);
        } else if (below(3) == 0 && one->far_open) {
            tell("the far end closes of ", one->number);
            one->peers.close_far();
            one->far_open = false;
            activity(one, true);
        } else if (below(3) == 0 && one->near_open) {
            tell("the number is closed: ", one->number);
            one->peers.close_near();
            one->near_open = false;
        }
    }

    // Collecting, by a random door.

    std::size_t due_count() const {
        return static_cast<std::size_t>(std::count_if(
            all_.begin(), all_.end(), [](const auto& each) { return each.second.is_due(); }));
    }

    // -1 where nothing could be asked for.
    int collect(unsigned min_count, unsigned max_count, timespec timeout) {
        const bool by_ring = slot_count_ != 0 && below(2) == 0;
        std::vector<ukevent> got(max_count);
        int count = 0;
        if (by_ring) {
            const std::uint64_t room = slot_count_ - (published_ - committed_);
            if (room == 0 || min_count > 1) return -1;
            const unsigned wanted = std::min(max_count, slot_count_);
            count = queue_->wait(wanted, static_cast<unsigned>(committed_ % slot_count_), timeout);
            tell("wait for ", wanted, ": ", count);
            if (!check(
                    count >= 0 && count <= static_cast<int>(std::min<std::uint64_t>(wanted, room)),
                    __LINE__))
                return count;
            for (int i = 0; i < count; ++i)
                got[static_cast<std::size_t>(i)] = queue_->ring().event[published_++ % slot_count_];
        } else {
            count =
                kevent_get_events(queue_->number(), min_count, max_count, timeout, got.data(), 0);
            tell("get_events of ", min_count, " to ", max_count, ": ", count);
            if (!check(count >= 0 && count <= static_cast<int>(max_count), __LINE__)) return count;
            for (int i = 0; slot_count_ != 0 && i < count; ++i)
                compare_copy(got[static_cast<std::size_t>(i)]);
        }
        released_ = false;
        if (slot_count_ != 0) {
            check(queue_->ring_kidx() == published_ % slot_count_, __LINE__);
            commit();
        }
        for (int i = 0; i < count; ++i) deliver(got[static_cast<std::size_t>(i)]);
        // What fails its last check may have been dropped, or not been looked at.
        for (auto& [key, one] : all_) {
            if (one.event != expected::must || one.is_due()) continue;
            one.event = expected::may;
            one.listed = false;
        }
        return count;
    }

    void compare_copy(ukevent& one) {
        const bool is_full = published_ - committed_ == slot_count_;
        check(((one.ret_flags & KEVENT_RET_COPY_FAILED) != 0) == is_full, __LINE__);
        one.ret_flags &= ~KEVENT_RET_COPY_FAILED;
        if (is_full) return;
        const ukevent& copy = queue_->ring().event[published_++ % slot_count_];
        check(std::memcmp(&copy, &one, sizeof one) == 0, __LINE__);
    }
    void commit() {
        const std::uint64_t count = below(published_ - committed_ + 1);
        const std::uint64_t until = committed_ + count;
        check(queue_->commit(static_cast<unsigned>(until % slot_count_),
                             static_cast<unsigned>(until / slot_count_)) == static_cast<int>(count),
              __LINE__);
        committed_ = until;
    }

    void deliver(const ukevent& got) {
        tell("event ", name_of(got), " returns ", got.ret_flags, " data ", got.ret_data[0], ' ',
             static_cast<int>(got.ret_data[1]));
        ++delivered_count_;
        const auto at = all_.find(key_of(got));
        if (!check(at != all_.end(), __LINE__)) return;
        model_registration& one = at->second;
        const ukevent& request = one.request;
        const bool is_broken = (got.ret_flags & KEVENT_RET_BROKEN) != 0;
        check(one.event != expected::none || one.is_short_timer(), __LINE__);
        check(got.user_u64 == request.user_u64, __LINE__);
        check(got.event == request.event, __LINE__);
        check(got.req_flags == (request.req_flags & ~KEVENT_REQ_LAST_CHECK), __LINE__);
        check((got.ret_flags & KEVENT_RET_DONE) != 0, __LINE__);
        if (is_broken) {
            check(one.watches() && request.type != KEVENT_POLL && !one.of->far_open, __LINE__);
            check(error_of(got) == -EPIPE, __LINE__);
        } else if (one.watches()) {
            check((got.ret_data[0] & ~one.masks) == 0, __LINE__);
            if (one.checked_last()) check(got.ret_data[0] == one.satisfied(), __LINE__);
        }
        if (one.checked_last() && !one.dead) check(one.now() != state::not_ready, __LINE__);
        if (request.type == KEVENT_UNOTIFY) {
            check(one.order > last_note_, __LINE__);
            check(got.ret_data[1] == one.marked_count, __LINE__);
            last_note_ = one.order;
        }

        if (one.has(KEVENT_REQ_ONESHOT)) {
            all_.erase(at);
            return;
        }
        if (is_broken) {
            one.dead = true;
            one.broken_due = false;
        }
        // A dead one has had its edge.
        one.budget = one.dead || !one.watches() || one.budget == 0 ? 0 : one.budget - 1;
        one.event = one.broken_due    ? expected::must
                    : one.budget != 0 ? expected::may
                                      : expected::none;
        one.listed = false;
        one.masks = request.event;
        one.marked_count = 0;
        one.due = now() + 2 * short_period;
    }

    void collect_some() { collect(1, 1 + static_cast<unsigned>(below(5)), no_time); }

    void wait_for_due() {
        const bool has_timer = std::any_of(all_.begin(), all_.end(), [](const auto& each) {
            return each.second.is_short_timer() && !each.second.has(KEVENT_REQ_ONESHOT);
        });
        const bool has_doubtful = std::any_of(all_.begin(), all_.end(), [](const auto& each) {
            return each.second.event != expected::none && !each.second.is_due();
        });
        const std::size_t due = due_count();
        if (due == 0 && !has_timer && !released_) return;
        const bool released = released_;
        const auto min_count = static_cast<unsigned>(due > 1 ? 1 + below(due) : 1);
        const int count = collect(min_count, min_count + 2, long_time);
        // Who is ready and fails its last check has counted as ready.
        const unsigned wanted = has_doubtful ? 1 : min_count;
        if (count >= 0 && !released) check(count >= static_cast<int>(wanted), __LINE__);
    }

    bool has_overdue_timer() const {
        const auto at = now();
        return std::any_of(all_.begin(), all_.end(), [&](const auto& each) {
            return each.second.is_short_timer() && each.second.due <= at;
        });
    }

    // Afterwards there is nothing that had to be seen.
    void take_all() {
        while (failed_line_ == 0) {
            // An alarm may ring later than the clock says, on a core that is busy; but it rings.
            const bool is_late = has_overdue_timer();
            const bool released = released_;
            const int count =
                collect(1, 1 + static_cast<unsigned>(below(8)), is_late ? long_time : no_time);
            if (count < 0) commit();
            if (count == 0 && is_late && !released) check(false, __LINE__);
            if (count == 0 && !is_late) break;
        }
        tell("nothing is left");
        bool has_timer = false;
        for (auto& [key, one] : all_) {
            if (one.is_due() || one.broken_due) {
                tell("but not ", name_of(one.request), " age ", one.age, one.dead ? " dead" : "");
                check(false, __LINE__);
            }
            has_timer = has_timer || one.is_short_timer();
            one.event = expected::none;
            one.listed = false;
            one.budget = 0;
        }
        if (!has_timer) check(!queue_->readable(), __LINE__);
    }

    void look_at_control() {
        if (released_ || due_count() != 0) check(queue_->readable(), __LINE__);
    }

    const bool timers_are_short_;
    std::mt19937_64 random_;
    unsigned slot_count_ = 0;
    std::optional<queue> queue_;
    std::array<std::shared_ptr<channel>, 5> channels_;
    std::map<key, model_registration> all_;
    std::uint64_t published_ = 0;
    std::uint64_t committed_ = 0;
    std::uint64_t last_age_ = 0;
    std::uint64_t last_order_ = 0;
    std::uint64_t last_note_ = 0;
    bool released_ = false;
    std::size_t delivered_count_ = 0;
    int failed_line_ = 0;
    std::vector<std::string> story_;
};

}  // namespace

TEST_CASE("the queue does what a plain model of it does", "[kevent][model]") {
    const char* const chosen = std::getenv("KEVRING_TEST_SEED");
    const std::uint64_t first_seed = chosen != nullptr ? std::strtoull(chosen, nullptr, 0) : 1;
    const std::uint64_t run_count = chosen != nullptr ? 1 : 100;
    std::size_t delivered_count = 0;
    for (std::uint64_t seed = first_seed; seed < first_seed + run_count; ++seed) {
        checked_queue run(seed);
        run.run();
        if (run.failed_line() != 0)
            FAIL("line " << run.failed_line() << ", KEVRING_TEST_SEED=" << seed << "\n"
                         << run.story());
        delivered_count += run.delivered_count();
    }
    INFO(delivered_count << " events");
    CHECK(delivered_count > run_count * 20);
}
