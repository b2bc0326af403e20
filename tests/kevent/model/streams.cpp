// streams.cpp: sockets and pipes of the model, watched as SOCKET, PIPE and POLL.
#include "tests/kevent/model/model.hpp"

namespace kevent_model {
namespace {

constexpr std::uint32_t receive_bits = POLLIN | POLLRDNORM;

/// A socket pair or a pipe whose local end is watched. The program may close its descriptor.
struct channel {
    explicit channel(bool is_socket)
        : is_socket(is_socket),
          peers(is_socket ? connected_pair::sockets() : connected_pair::pipe()),
          number(peers.local()),
          own(::fcntl(peers.local(), F_DUPFD_CLOEXEC, 0)) {}

    /// The bits that poll(2) reports now; the model relies on them.
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
    connected_pair peers;
    const int number;
    const kevring::fd own;
    bool local_open = true;
    bool peer_open = true;
};

enum class state { not_ready, ready, broken };

class stream final : public registration_model {
public:
    stream(model_run& run, const ukevent& request, std::shared_ptr<channel> watched)
        : registration_model(run, request), watched(std::move(watched)), masks(request.event) {}

    bool checked_last() const { return has(KEVENT_REQ_LAST_CHECK) || request.type == KEVENT_POLL; }
    std::uint32_t satisfied() const {
        const std::uint32_t bits = watched->bits();
        if (request.type == KEVENT_POLL) return bits & request.event;
        std::uint32_t events = 0;
        const bool sends_only = (request.event & KEVENT_SOCKET_RECV) == 0;
        if ((bits & receive_bits) != 0) events |= request.event & KEVENT_SOCKET_RECV;
        if ((bits & POLLOUT) != 0 && !(sends_only && (bits & (POLLHUP | POLLERR)) != 0))
            events |= request.event & KEVENT_SOCKET_SEND;
        return events;
    }
    state now() const {
        if (satisfied() != 0) return state::ready;
        if (request.type == KEVENT_POLL) return state::not_ready;
        const std::uint32_t ends = POLLERR | POLLHUP | (watched->is_socket ? POLLRDHUP : 0u);
        return (watched->bits() & ends) != 0 ? state::broken : state::not_ready;
    }
    bool is_due() const override {
        if (event != expected::must) return false;
        return !checked_last() || dead || now() != state::not_ready;
    }
    void allow_one_more() { budget = std::min(budget + 1, 2u); }

    void marked() override {
        list();
        allow_one_more();
    }
    // Younger registrations that kept silent for this one are tested again. Bytes that it has
    // delivered, and that were not read, may then be reported once more.
    void removed() override {
        if (request.type == KEVENT_POLL) return;
        run_.each<stream>([&](stream& other) {
            if (other.watched != watched || other.age <= age || other.request.type == KEVENT_POLL)
                return;
            if (other.dead || other.has(KEVENT_REQ_WAKEUP_ALL)) return;
            other.raise(expected::may);
            other.allow_one_more();
        });
    }

    void modified(const ukevent&) override {
        masks |= request.event;
        // Uncollected events of younger registrations of the origin belong to this one now.
        run_.each<stream>([&](stream& other) {
            if (other.watched == watched && other.age > age && other.event == expected::must &&
                !other.listed && !other.broken_due)
                other.event = expected::may;
        });
        const bool fired_already = has_fired();
        broken_due = false;
        if (dead && fired_already) return;
        dead = false;
        const state present = request.event != 0 ? now() : state::not_ready;
        if (present == state::not_ready) return;
        raise(expected::must);
        allow_one_more();
        broken_due = present == state::broken && !has(KEVENT_REQ_ONESHOT);
    }

    void check_record(const ukevent& got) override {
        KEVRING_MODEL_CHECK(run_, event != expected::none);
        if ((got.ret_flags & KEVENT_RET_BROKEN) != 0) {
            KEVRING_MODEL_CHECK(run_, request.type != KEVENT_POLL && !watched->peer_open);
            KEVRING_MODEL_CHECK(run_, error_of(got) == -EPIPE);
        } else {
            KEVRING_MODEL_CHECK(run_, (got.ret_data[0] & ~masks) == 0);
            if (checked_last()) KEVRING_MODEL_CHECK(run_, got.ret_data[0] == satisfied());
        }
        if (checked_last() && !dead) KEVRING_MODEL_CHECK(run_, now() != state::not_ready);
    }

    void delivered(const ukevent& got) override {
        if ((got.ret_flags & KEVENT_RET_BROKEN) != 0) {
            dead = true;
            broken_due = false;
        }
        // A broken registration has no further edge.
        budget = dead || budget == 0 ? 0 : budget - 1;
        event = broken_due ? expected::must : budget != 0 ? expected::may : expected::none;
        listed = false;
        masks = request.event;
    }

    void dropped_maybe() override {
        event = expected::may;
        listed = false;
    }
    void nothing_left() override {
        KEVRING_MODEL_CHECK(run_, !broken_due);
        registration_model::nothing_left();
        budget = 0;
    }

    const std::shared_ptr<channel> watched;
    bool broken_due = false;  // an event that reports the failure must come
    unsigned budget = 0;      // events possible without further activity: one on the ready list,
                              // and one edge in the kernel
    std::uint32_t masks;      // the event masks since the last event
};

class streams final : public origin_model {
public:
    explicit streams(model_run& run) : origin_model(run) {
        for (auto& each : channels_) each = std::make_shared<channel>(run.below(2) == 0);
    }

    bool has_type(std::uint32_t type) const override {
        return type == KEVENT_SOCKET || type == KEVENT_PIPE || type == KEVENT_POLL;
    }

    std::optional<ukevent> random_request() override {
        constexpr std::array types{KEVENT_SOCKET, KEVENT_PIPE, KEVENT_POLL};
        ukevent made = record(static_cast<std::uint32_t>(types[run_.below(types.size())]), 0, 0);
        const channel& chosen = *channels_[run_.below(channels_.size())];
        made.id.raw[0] = static_cast<std::uint32_t>(chosen.number);
        made.id.raw[1] = static_cast<std::uint32_t>(run_.below(2));
        // Its number may refer to another file now.
        if (!chosen.local_open && run_.all.count(model_run::key_of(made)) == 0) return std::nullopt;
        return made;
    }

    std::uint32_t random_event(std::uint32_t type) override {
        if (type == KEVENT_SOCKET)
            return std::array{KEVENT_SOCKET_RECV, KEVENT_SOCKET_SEND,
                              KEVENT_SOCKET_RECV | KEVENT_SOCKET_SEND}[run_.below(3)];
        if (type == KEVENT_PIPE) return KEVENT_SOCKET_RECV;
        return std::array{KEVENT_POLL_POLLIN, KEVENT_POLL_POLLOUT,
                          KEVENT_POLL_POLLIN | KEVENT_POLL_POLLHUP}[run_.below(3)];
    }

    std::optional<ukevent> add(const ukevent& request) override {
        const auto watched = *std::find_if(channels_.begin(), channels_.end(), [&](auto& each) {
            return each->local_open && each->number == static_cast<int>(request.id.raw[0]);
        });
        if (request.type == KEVENT_SOCKET && !watched->is_socket)
            return failure(request, -ENOTSOCK);
        if (request.type == KEVENT_PIPE && watched->is_socket) return failure(request, -EINVAL);
        auto one = std::make_unique<stream>(run_, request, watched);
        const bool forced = one->has(KEVENT_REQ_READY);
        const state now = one->now();
        if (!forced && now == state::broken) return failure(request, -EPIPE);
        if (!forced && now == state::ready && !one->has(KEVENT_REQ_ALWAYS_QUEUE)) {
            ukevent answer = request;
            answer.ret_flags = KEVENT_RET_DONE;
            answer.ret_data[0] = one->satisfied();
            answer.ret_data[1] = 0;
            return answer;
        }
        if (now != state::not_ready && request.event != 0) {
            one->raise(forced ? expected::may : expected::must);
            one->allow_one_more();
            // The flag fires it once; whether it also reports the failure depends on time.
            if (now == state::broken && !one->has(KEVENT_REQ_ONESHOT)) one->broken_due = true;
        }
        stream& kept = keep(std::move(one));
        if (forced) kept.marked();
        return std::nullopt;
    }

    void act() override {
        switch (run_.below(5)) {
            case 0: drain(); break;
            case 1: close_something(); break;
            default: send_from_peer(); break;
        }
    }

private:
    // The oldest ready registration of a socket or pipe takes an event; a younger one is notified
    // only if it waits for bits that no older one waits for.
    bool leaves_to_older(const stream& one) {
        if (one.request.type == KEVENT_POLL || one.has(KEVENT_REQ_WAKEUP_ALL)) return false;
        std::uint32_t left = one.satisfied();
        run_.each<stream>([&](stream& other) {
            if (other.watched == one.watched && other.request.type != KEVENT_POLL &&
                other.age < one.age)
                left &= ~other.masks;
        });
        return left == 0;
    }
    void activity(const std::shared_ptr<channel>& changed, bool is_end) {
        run_.each<stream>([&](stream& one) {
            if (one.watched != changed || one.dead || one.request.event == 0) return;
            const state now = one.now();
            if (now == state::not_ready || one.has_fired()) return;
            one.allow_one_more();
            if (now == state::broken) {
                one.raise(expected::must);
                one.broken_due = !one.has(KEVENT_REQ_ONESHOT);
                return;
            }
            // Received bytes do not concern a SEND-only registration, but Linux may wake it.
            const bool concerned = is_end || (one.request.event & POLLIN) != 0;
            one.raise(concerned && !leaves_to_older(one) ? expected::must : expected::may);
        });
    }
    void send_from_peer() {
        const auto& one = channels_[run_.below(channels_.size())];
        if (!one->peer_open) return;
        run_.log("a byte for ", one->number);
        if (::write(one->peers.peer(), "x", 1) == 1) activity(one, false);
    }
    void drain() {
        const auto& one = channels_[run_.below(channels_.size())];
        run_.log("no byte left for ", one->number);
        one->drain();
        run_.each<stream>([&](stream& each) {
            // The queue may or may not have tested the edge before; bits that are still set may
            // belong to another registration.
            if (each.watched == one && each.event == expected::must && !each.listed &&
                !each.broken_due && (each.now() == state::not_ready || leaves_to_older(each)))
                each.event = expected::may;
        });
    }
    void close_something() {
        auto& one = channels_[run_.below(channels_.size())];
        bool is_watched = false;
        run_.each<stream>([&](stream& each) { is_watched = is_watched || each.watched == one; });
        if (!is_watched && (!one->peer_open || !one->local_open)) {
            one = std::make_shared<channel>(run_.below(2) == 0);
            run_.log("a new channel ", one->number);
        } else if (run_.below(3) == 0 && one->peer_open) {
            run_.log("the peer closes, of ", one->number);
            one->peers.close_peer();
            one->peer_open = false;
            activity(one, true);
        } else if (run_.below(3) == 0 && one->local_open) {
            run_.log("the number is closed: ", one->number);
            one->peers.close_local();
            one->local_open = false;
        }
    }

    std::array<std::shared_ptr<channel>, 5> channels_;
};

}  // namespace

std::unique_ptr<origin_model> make_streams(model_run& run) {
    return std::make_unique<streams>(run);
}

}  // namespace kevent_model
