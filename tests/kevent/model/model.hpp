// model.hpp: a random run of the queue, shared by all types of events: the random generator, the
// trace, and the expected state of each registration.
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

/// Whether an event must, may or must not be reported.
enum class expected { none, may, must };

class registration_model;

/// One run. Equal seeds make equal runs, except where a clock decides.
struct model_run {
    using key = std::pair<std::uint32_t, std::uint64_t>;
    static key key_of(const ukevent& one) { return {one.type, one.id.raw_u64}; }

    explicit model_run(std::uint64_t seed) : seed(seed), random(seed) {}

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
    /// Calls `act` for each registration of a class, lowest key first.
    template <class Kind, class Act>
    void each(Act act) {
        for (auto& [key, one] : all)
            if (auto* const kind = dynamic_cast<Kind*>(one.get())) act(*kind);
    }

    const std::uint64_t seed;
    std::mt19937_64 random;
    std::optional<queue> tested_queue;
    std::map<key, std::unique_ptr<registration_model>> all;
    std::uint64_t last_age = 0;
    std::chrono::steady_clock::time_point called_at;  // begin of the last collecting call
    std::string failed_at;
    std::vector<std::string> trace;
};

// Checks an assertion of the model; the first that fails ends the run.
#define KEVRING_MODEL_CHECK(run, ...) (run).check((__VA_ARGS__), __FILE__, __LINE__)

inline std::string name_of(const ukevent& one) {
    std::ostringstream name;
    name << "type " << one.type << " id " << one.id.raw[0] << ':' << one.id.raw[1] << " event "
         << one.event << " flags " << one.req_flags;
    return name.str();
}

/// The model of one registration. The class of its type determines when it is ready.
class registration_model {
public:
    registration_model(model_run& run, const ukevent& request)
        : request(request), age(++run.last_age), run_(run) {}
    registration_model(const registration_model&) = delete;
    virtual ~registration_model() = default;

    bool has(std::uint32_t flag) const { return (request.req_flags & flag) != 0; }
    bool has_fired() const { return event == expected::must && has(KEVENT_REQ_ONESHOT); }
    void raise(expected to) { event = std::max(event, to); }
    /// A command has put it on the ready list, regardless of its origin.
    void list() {
        event = expected::must;
        listed = true;
    }

    /// A call that collects every ready event now returns its event.
    virtual bool is_due() const { return event == expected::must; }
    /// An event may occur without an action of the model.
    virtual bool fires_by_itself() const { return false; }
    virtual bool is_overdue() const { return false; }
    virtual std::uint32_t forced_flags() const { return 0; }

    /// Changes a MODIFY into one whose result the model can predict.
    virtual void choose(ukevent&) {}
    /// MODIFY has replaced event and flags.
    virtual void modified(const ukevent& before) = 0;
    virtual void marked() { list(); }
    virtual void removed() {}
    /// Checks the fields of an event that depend on its type, and updates the model by them.
    virtual void check_record(const ukevent& got) = 0;
    /// Sets the next expectation after a delivery; not called for a one-shot.
    virtual void delivered(const ukevent& got) = 0;
    /// It would fail its last check: the queue dropped it, or has not tested it yet.
    virtual void dropped_maybe() { event = expected::may; }
    /// Every ready event has been collected.
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
    model_run& run_;
};

/// The origins of one or a few types: requests for them, and their activity.
class origin_model {
public:
    explicit origin_model(model_run& run) : run_(run) {}
    origin_model(const origin_model&) = delete;
    virtual ~origin_model() = default;

    virtual bool has_type(std::uint32_t type) const = 0;
    /// Null if no request is possible: some types are registered by their own calls. The caller
    /// sets the flags and the user field.
    virtual std::optional<ukevent> random_request() { return std::nullopt; }
    virtual std::uint32_t random_event(std::uint32_t type) = 0;
    /// Returns the answer of ADD, or null if the request is registered.
    virtual std::optional<ukevent> add(const ukevent&) { return std::nullopt; }
    /// Causes random activity of an origin.
    virtual void act() = 0;
    /// A call found nothing ready: the queue has read every event from the kernel.
    virtual void all_changes_taken() {}
    /// Called at the end of a run until it returns false: no further events follow.
    virtual bool finish() { return false; }
    /// Called immediately before and after the queue is closed.
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
        run_.all.emplace(model_run::key_of(kept.request), std::move(one));
        return kept;
    }

    model_run& run_;
};

std::unique_ptr<origin_model> make_streams(model_run& run);         // SOCKET, PIPE, POLL
std::unique_ptr<origin_model> make_user_events(model_run& run);     // UNOTIFY, TIMER
std::unique_ptr<origin_model> make_directories(model_run& run);     // INODE
std::unique_ptr<origin_model> make_signals(model_run& run);         // SIGNAL
std::unique_ptr<origin_model> make_children(model_run& run);        // PROCESS
std::unique_ptr<origin_model> make_transfers(model_run& run);       // NAIO
std::unique_ptr<origin_model> make_posix_timers(model_run& run);    // POSIX_TIMER
std::unique_ptr<origin_model> make_file_transfers(model_run& run);  // AIO

}  // namespace kevent_model
