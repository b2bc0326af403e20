// streams.cpp: sockets and pipes of the model, watched as SOCKET, PIPE and POLL.
#include "tests/kevent/model/model.hpp"

namespace kevent_model {
namespace {

constexpr std::uint32_t receive_bits = POLLIN | POLLRDNORM;

/// A socket pair or a pipe whose near end is watched. The program may close its number of it.
struct channel {
    explicit channel(bool is_socket)
        : is_socket(is_socket),
          peers(is_socket ? connected_pair::sockets() : connected_pair::pipe()),
          number(peers.local()),
          own(::fcntl(peers.local(), F_DUPFD_CLOEXEC, 0)) {}

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
    connected_pair peers;
    const int number;
    const kevring::fd own;
    bool near_open = true;
    bool far_open = true;
};

enum class state { not_ready, ready, broken };

class stream final : public registration_model {
public:
    stream(run& in, const ukevent& request, std::shared_ptr<channel> of)
        : registration_model(in, request), of(std::move(of)), masks(request.event) {}

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
        if (satisfied() != 0) return state::ready;
        if (request.type == KEVENT_POLL) return state::not_ready;
        const std::uint32_t ends = POLLERR | POLLHUP | (of->is_socket ? POLLRDHUP : 0u);
        return (of->bits() & ends) != 0 ? state::broken : state::not_ready;
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
    // Younger ones that kept silent for this one are tested again. Bytes that it has delivered, and
    // that were not read, may then be reported once more.
    void removed() override {
        if (request.type == KEVENT_POLL) return;
        in_.each<stream>([&](stream& other) {
            if (other.of != of || other.age <= age || other.request.type == KEVENT_POLL) return;
            if (other.dead || other.has(KEVENT_REQ_WAKEUP_ALL)) return;
            other.raise(expected::may);
            other.allow_one_more();
        });
    }

    void modified(const ukevent&) override {
        masks |= request.event;
        // What younger ones of its origin have heard and not been asked about is for it, now.
        in_.each<stream>([&](stream& other) {
            if (other.of == of && other.age > age && other.event == expected::must &&
                !other.listed && !other.broken_due)
                other.event = expected::may;
        });
        const bool fired_already = has_fired();
        broken_due = false;
        if (dead && fired_already) return;
        dead = false;
        const state at = request.event != 0 ? now() : state::not_ready;
        if (at == state::not_ready) return;
        raise(expected::must);
        allow_one_more();
        broken_due = at == state::broken && !has(KEVENT_REQ_ONESHOT);
    }

    void check_record(const ukevent& got) override {
        KEVRING_MODEL_CHECK(in_, event != expected::none);
        if ((got.ret_flags & KEVENT_RET_BROKEN) != 0) {
            KEVRING_MODEL_CHECK(in_, request.type != KEVENT_POLL && !of->far_open);
            KEVRING_MODEL_CHECK(in_, error_of(got) == -EPIPE);
        } else {
            KEVRING_MODEL_CHECK(in_, (got.ret_data[0] & ~masks) == 0);
            if (checked_last()) KEVRING_MODEL_CHECK(in_, got.ret_data[0] == satisfied());
        }
        if (checked_last() && !dead) KEVRING_MODEL_CHECK(in_, now() != state::not_ready);
    }

    void delivered(const ukevent& got) override {
        if ((got.ret_flags & KEVENT_RET_BROKEN) != 0) {
            dead = true;
            broken_due = false;
        }
        // A dead one has had its edge.
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
        KEVRING_MODEL_CHECK(in_, !broken_due);
        registration_model::nothing_left();
        budget = 0;
    }

    const std::shared_ptr<channel> of;
    bool broken_due = false;  // an event that says so must come
    unsigned budget = 0;      // events that can come before anything else happens: one is on the
                              // ready list, one is an edge in the kernel
    std::uint32_t masks;      // the event masks since the last event
};

class streams final : public origins {
public:
    explicit streams(run& in) : origins(in) {
        for (auto& each : channels_) each = std::make_shared<channel>(in.below(2) == 0);
    }

    bool has_type(std::uint32_t type) const override {
        return type == KEVENT_SOCKET || type == KEVENT_PIPE || type == KEVENT_POLL;
    }

    std::optional<ukevent> random_request() override {
        constexpr std::array types{KEVENT_SOCKET, KEVENT_PIPE, KEVENT_POLL};
        ukevent made = record(static_cast<std::uint32_t>(types[in_.below(types.size())]), 0, 0);
        const channel& of = *channels_[in_.below(channels_.size())];
        made.id.raw[0] = static_cast<std::uint32_t>(of.number);
        made.id.raw[1] = static_cast<std::uint32_t>(in_.below(2));
        // Its number may mean another file by now.
        if (!of.near_open && in_.all.count(run::key_of(made)) == 0) return std::nullopt;
        return made;
    }

    std::uint32_t random_event(std::uint32_t type) override {
        if (type == KEVENT_SOCKET)
            return std::array{KEVENT_SOCKET_RECV, KEVENT_SOCKET_SEND,
                              KEVENT_SOCKET_RECV | KEVENT_SOCKET_SEND}[in_.below(3)];
        if (type == KEVENT_PIPE) return KEVENT_SOCKET_RECV;
        return std::array{KEVENT_POLL_POLLIN, KEVENT_POLL_POLLOUT,
                          KEVENT_POLL_POLLIN | KEVENT_POLL_POLLHUP}[in_.below(3)];
    }

    std::optional<ukevent> add(const ukevent& request) override {
        const auto of = *std::find_if(channels_.begin(), channels_.end(), [&](auto& each) {
            return each->near_open && each->number == static_cast<int>(request.id.raw[0]);
        });
        if (request.type == KEVENT_SOCKET && !of->is_socket) return failure(request, -ENOTSOCK);
        if (request.type == KEVENT_PIPE && of->is_socket) return failure(request, -EINVAL);
        auto one = std::make_unique<stream>(in_, request, of);
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
            // It fires once, by the flag: whether it hears of the failure as well is chance.
            if (now == state::broken && !one->has(KEVENT_REQ_ONESHOT)) one->broken_due = true;
        }
        stream& kept = keep(std::move(one));
        if (forced) kept.marked();
        return std::nullopt;
    }

    void act() override {
        switch (in_.below(5)) {
            case 0: drain(); break;
            case 1: close_something(); break;
            default: far_writes(); break;
        }
    }

private:
    // Of several registrations of one socket or pipe the oldest that is ready takes an activity;
    // who waits for something that no older one waits for is told.
    bool leaves_to_older(const stream& one) {
        if (one.request.type == KEVENT_POLL || one.has(KEVENT_REQ_WAKEUP_ALL)) return false;
        std::uint32_t left = one.satisfied();
        in_.each<stream>([&](stream& other) {
            if (other.of == one.of && other.request.type != KEVENT_POLL && other.age < one.age)
                left &= ~other.masks;
        });
        return left == 0;
    }
    void activity(const std::shared_ptr<channel>& of, bool is_end) {
        in_.each<stream>([&](stream& one) {
            if (one.of != of || one.dead || one.request.event == 0) return;
            const state now = one.now();
            if (now == state::not_ready || one.has_fired()) return;
            one.allow_one_more();
            if (now == state::broken) {
                one.raise(expected::must);
                one.broken_due = !one.has(KEVENT_REQ_ONESHOT);
                return;
            }
            // Bytes are no activity of who only sends; but Linux may wake more than it has to.
            const bool concerned = is_end || (one.request.event & POLLIN) != 0;
            one.raise(concerned && !leaves_to_older(one) ? expected::must : expected::may);
        });
    }
    void far_writes() {
        const auto& one = channels_[in_.below(channels_.size())];
        if (!one->far_open) return;
        in_.log("a byte for ", one->number);
        if (::write(one->peers.peer(), "x", 1) == 1) activity(one, false);
    }
    void drain() {
        const auto& one = channels_[in_.below(channels_.size())];
        in_.log("no byte left for ", one->number);
        one->drain();
        in_.each<stream>([&](stream& each) {
            // The edge may have been looked at before, or not; what is true still may be for
            // another.
            if (each.of == one && each.event == expected::must && !each.listed &&
                !each.broken_due && (each.now() == state::not_ready || leaves_to_older(each)))
                each.event = expected::may;
        });
    }
    void close_something() {
        auto& one = channels_[in_.below(channels_.size())];
        bool is_watched = false;
        in_.each<stream>([&](stream& each) { is_watched = is_watched || each.of == one; });
        if (!is_watched && (!one->far_open || !one->near_open)) {
            one = std::make_shared<channel>(in_.below(2) == 0);
            in_.log("a new channel ", one->number);
        } else if (in_.below(3) == 0 && one->far_open) {
            in_.log("the far end closes of ", one->number);
            one->peers.close_peer();
            one->far_open = false;
            activity(one, true);
        } else if (in_.below(3) == 0 && one->near_open) {
            in_.log("the number is closed: ", one->number);
            one->peers.close_local();
            one->near_open = false;
        }
    }

    std::array<std::shared_ptr<channel>, 5> channels_;
};

}  // namespace

std::unique_ptr<origins> make_streams(run& in) { return std::make_unique<streams>(in); }

}  // namespace kevent_model
