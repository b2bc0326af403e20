// model.hpp: a random run of the queue, as all types of events share it: the dice, the story, and
// what the model expects of each registration.
#pragma once

#include "tests/kevent/kevent_fixture.hpp"

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace kevent_model {

using namespace kevent_test;

/// Whether an event has to come, can come, or would be wrong.
enum class expected { none, may, must };

class registration_model;

/// One run. Equal seeds make equal runs, as far as no clock has a say.
struct run {
    using key = std::pair<std::uint32_t, std::uint64_t>;
    static key key_of(const ukevent& one) { return {one.type, one.id.raw_u64}; }

    explicit run(std::uint64_t seed) : seed(seed), random(seed) {}

    std::uint64_t below(std::uint64_t bound) { return random() % bound; }
    bool check(bool holds, const char* file, int line) {
        if (!holds && failed_at.empty()) failed_at = std::string(file) + ':' + std::to_string(line);
        return holds;
    }
    template <class... Parts>
    void log(const Parts&... parts) {
        std::ostringstream line;
        (line << ... << parts);
        trace.push_back(line.str());
    }
    /// Calls `what` for each registration of a class, oldest key first.
    template <class Kind, class What>
    void each(What what) {
        for (auto& [key, one] : all)
            if (auto* const kind = dynamic_cast<Kind*>(one.get())) what(*kind);
    }

    const std::uint64_t seed;
    std::mt19937_64 random;
    std::optional<queue> door;
    std::map<key, std::unique_ptr<registration_model>> all;
    std::uint64_t last_age = 0;
    std::chrono::steady_clock::time_point asked_at;  // when the last collecting call began
    std::string failed_at;
    std::vector<std::string> trace;
};

// Checks a claim of the model; the first that does not hold ends the run.
#define KEVRING_MODEL_CHECK(run, ...) (run).check((__VA_ARGS__), __FILE__, __LINE__)

inline std::string name_of(const ukevent& one) {
    std::ostringstream name;
    name << "type " << one.type << " id " << one.id.raw[0] << ':' << one.id.raw[1] << " event "
         << one.event << " flags " << one.req_flags;
    return name.str();
}

/// One registration as the model sees it. Its type's class says what makes it ready.
class registration_model {
public:
    registration_model(run& in, const ukevent& request)
        : request(request), age(++in.last_age), in_(in) {}
    registration_model(const registration_model&) = delete;
    virtual ~registration_model() = default;

    bool has(std::uint32_t flag) const { return (request.req_flags & flag) != 0; }
    bool has_fired() const { return event == expected::must && has(KEVENT_REQ_ONESHOT); }
    void raise(expected to) { event = std::max(event, to); }
    /// A command has put it on the ready list, whatever its origin says.
    void list() {
        event = expected::must;
        listed = true;
    }

    /// Whoever takes all there is at this moment gets its event.
    virtual bool is_due() const { return event == expected::must; }
    /// An event may come without anything that the model does.
    virtual bool rings_by_itself() const { return false; }
    virtual bool is_overdue() const { return false; }
    virtual std::uint32_t forced_flags() const { return 0; }

    /// Turns a MODIFY into one whose outcome the model can tell.
    virtual void choose(ukevent&) {}
    /// MODIFY has replaced event and flags.
    virtual void modified(const ukevent& before) = 0;
    virtual void marked() { list(); }
    virtual void removed() {}
    /// Checks what is the type's own in an event, and learns from it.
    virtual void check_record(const ukevent& got) = 0;
    /// The event has been handed out, and it is no one-shot: what is next?
    virtual void delivered(const ukevent& got) = 0;
    /// It would fail its last check: it has been dropped, or nobody has looked at it yet.
    virtual void dropped_maybe() { event = expected::may; }
    /// All that was ready has been collected.
    virtual void nothing_left() {
        event = expected::none;
        listed = false;
    }

    ukevent request;
    const std::uint64_t age;
    expected event = expected::none;
    bool listed = false;
    bool dead = false;

protected:
    run& in_;
};

/// The origins of one or a few types: what may be asked of them, and what happens to them.
class origins {
public:
    explicit origins(run& in) : in_(in) {}
    origins(const origins&) = delete;
    virtual ~origins() = default;

    virtual bool has_type(std::uint32_t type) const = 0;
    /// Null where nothing can be asked for: some types are registered by calls of their own. Flags
    /// and the user's word are the caller's.
    virtual std::optional<ukevent> random_request() { return std::nullopt; }
    virtual std::uint32_t random_event(std::uint32_t type) = 0;
    /// What ADD answers; null: it is registered from now on.
    virtual std::optional<ukevent> add(const ukevent&) { return std::nullopt; }
    /// Something happens to an origin.
    virtual void act() = 0;
    /// A call has found nothing ready: so it has seen all that the kernel had to say.
    virtual void all_was_heard() {}
    /// At the end of a run, as long as it says that there is more to collect.
    virtual bool finish() { return false; }
    /// The last that happens with the queue, which is closed then.
    virtual void before_close() {}
    virtual void after_close() {}

protected:
    static ukevent failure(const ukevent& request, int error_number) {
        ukevent answer = request;
        answer.ret_flags = KEVENT_RET_DONE | KEVENT_RET_BROKEN;
        answer.ret_data[0] = 0;
        answer.ret_data[1] = static_cast<std::uint32_t>(error_number);
        return answer;
    }
    template <class Kind>
    Kind& keep(std::unique_ptr<Kind> one) {
        Kind& kept = *one;
        in_.all.emplace(run::key_of(kept.request), std::move(one));
        return kept;
    }

    run& in_;
};

std::unique_ptr<origins> make_streams(run& in);         // SOCKET, PIPE, POLL
std::unique_ptr<origins> make_notes(run& in);           // UNOTIFY, TIMER
std::unique_ptr<origins> make_directories(run& in);     // INODE
std::unique_ptr<origins> make_signals(run& in);         // SIGNAL
std::unique_ptr<origins> make_children(run& in);        // PROCESS
std::unique_ptr<origins> make_transfers(run& in);       // NAIO
std::unique_ptr<origins> make_posix_timers(run& in);    // POSIX_TIMER
std::unique_ptr<origins> make_file_transfers(run& in);  // AIO

}  // namespace kevent_model
