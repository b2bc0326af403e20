// source.hpp: the interface between the queue and a type of event.
//
// A registration owns one source, made by its type's row in the source table. The queue knows
// nothing of types beyond this file. Every call here is made under the queue's lock.
#pragma once

#include <kevring/kevent/kevent.h>
#include <kevring/kevent/event_type.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/timer_queue.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include <poll.h>

namespace kevring::detail {

class source;

/// State of an origin, as its source reports it.
enum class readiness : std::uint8_t { not_ready, ready, broken };

/// One accepted request: the record, its place in the ready list, and its source.
struct registration : list_link {
    ukevent record{};  // `event` and `req_flags` change with MODIFY, the results with each event
    registration* next_in_bucket = nullptr;
    std::uint64_t tested_in_fetch = 0;  // the fetch that found the origin ready
    std::uint64_t position = 0;         // in the ring, of its last record; see is_published
    bool is_published = false;          // by a driver, at `position`
    bool is_held = false;               // ready, and not in the ready list
    bool armed = false;                 // activity of the origin is noticed
    bool broken = false;                // broken and not armed; REMOVE and MODIFY still find it
    std::unique_ptr<source> event_source;

    bool ready() const noexcept { return linked(); }
    bool has(std::uint32_t req_flag) const noexcept { return (record.req_flags & req_flag) != 0; }
};

/// Receives readiness events of one watched descriptor.
class fd_handler {
public:
    /// The descriptor has `poll_bits`, of those that are watched for or POLLERR, POLLHUP.
    virtual void on_ready(std::uint32_t poll_bits) noexcept = 0;

protected:
    ~fd_handler() = default;
};

/// A descriptor in the queue's set of watched ones.
struct fd_watch {
    int number = -1;                      // the source's own descriptor, so that it stays open
    std::uint32_t slot = 0;               // 0: not in the set
    std::uint32_t poll_bits = 0;          // with a slot: the bits that are watched for
    std::uint64_t tag = 0;                // with a slot: the tag of its edges
    const void* prefetch_hint = nullptr;  // memory that the handler will access
};

/// Services of the queue for its sources.
class source_host {
public:
    /// Begins to watch for `poll_bits` (POLLIN ...), or changes what is watched for; an origin that
    /// has some of them already is reported at once. Reports are edges.
    ///
    /// Result     0, or a negative error number; what was watched before stays so then.
    virtual int watch(fd_watch& what, fd_handler& listener, std::uint32_t poll_bits) = 0;
    /// Before a watch() for the same bits in the same call: it will cost less.
    virtual void prepare_watch(const fd_watch& what) noexcept = 0;
    /// Ends it: no report comes after this. Not watching is fine.
    virtual void unwatch(fd_watch& what) noexcept = 0;

    /// Reports the bits of a watched descriptor that are set now, once more. `target` is a copy of
    /// a watch that stays armed during the call. Any thread, without the queue's lock.
    virtual void report_again(const fd_watch& target) noexcept = 0;
    /// Dispatches what the kernel has reported so far, unless another thread does that.
    virtual void fetch_reports() noexcept = 0;
    /// True if another thread dispatches it: fetch_reports() has no effect.
    virtual bool is_driven() const noexcept = 0;
    /// 0, or -EPERM: poll(2) reports the file of `number` ready at all times, since it has no poll
    /// operation.
    virtual int check_pollable(int number) noexcept = 0;
    /// True if the control descriptor of the queue was closed, and so no call collects from it any
    /// more. Any thread, without the queue's lock.
    virtual bool is_abandoned() const noexcept = 0;

    /// Timers of the steady clock; their fire functions run under the queue's lock.
    virtual timer_queue& timers() = 0;
    /// Before the first timer. Result: 0, or a negative error number.
    virtual int prepare_timers() = 0;
    virtual std::int64_t now_ns() noexcept = 0;

    /// The origin was active just now: puts the registration on the ready list if `state` is ready
    /// or broken, unless it is not armed.
    virtual void report(registration& target, readiness state) noexcept = 0;

    /// A place for what all sources of one type in this queue share; who uses it owns it.
    virtual std::weak_ptr<void>& shared_state(event_type type) noexcept = 0;

protected:
    ~source_host() = default;
};

/// The origin of one registration, as its type sees it.
class source {
public:
    source(source_host& host, registration& target) noexcept : host_(host), registration_(target) {}
    source(const source&) = delete;
    source& operator=(const source&) = delete;
    /// Ends the watching.
    virtual ~source() = default;

    /// Starts watching, or restarts it by the registration's present event and flags.
    ///
    /// Result     0, or a negative error number; what was armed before stays so then.
    virtual int arm() = 0;
    /// Before an arm() by the same event in the same call, or in vain: the source may begin what
    /// takes a system call.
    virtual void prepare_arm() noexcept {}
    /// Says how the origin is now, and sets ret_data by it. Never waits.
    virtual readiness test() = 0;
    /// The last check before a record is handed out, of a source without poll_question().
    virtual readiness last_check() { return test(); }
    /// The question of test() to poll(2), for a call that asks it of many registrations at once. -1 as
    /// its descriptor: test() has none.
    virtual pollfd poll_question() const noexcept { return {-1, 0, 0}; }
    /// test() with `poll_bits` as the answer of poll(2) to that question.
    virtual readiness test_by_answer(std::uint32_t /*poll_bits*/) { return test(); }
    /// The same while the registration is being added, before it is armed.
    virtual readiness test_on_add() { return test(); }
    /// It is in the queue, armed and not ready: what there is to do at once, and how it is then.
    virtual readiness on_added() { return readiness::not_ready; }
    /// First in a REMOVE from a queue whose driver dispatches edges. True: on_removed() has to know
    /// whether it has dispatched those of this origin; the caller waits for that without the lock.
    virtual bool begin_removal() noexcept { return false; }
    /// REMOVE: the origin's work is no longer wanted. Not called when the queue is closed.
    virtual void on_removed() noexcept {}
    /// READY: the program itself has fired it.
    virtual void on_marked_ready() noexcept {}
    /// No report comes after this, until arm().
    virtual void disarm() noexcept = 0;

    /// Request flags that every registration of the type has, whatever ADD and MODIFY say.
    virtual std::uint32_t forced_flags() const noexcept { return 0; }
    /// True if arm() reports an origin that is ready already, so that no caller has to test().
    virtual bool arm_reports_readiness() const noexcept { return false; }
    /// True if it holds a descriptor of its own, which the program does not see.
    virtual bool holds_descriptor() const noexcept { return false; }
    /// The record is about to be handed out: the last moment to bring ret_data up to date. False:
    /// there is nothing to tell any more, and nothing is handed out.
    virtual bool before_collect() noexcept { return true; }
    /// The record has been handed out, and the registration is still there: what it says now.
    virtual readiness after_collect() noexcept { return readiness::not_ready; }

protected:
    std::uint32_t event() const noexcept { return registration_.record.event; }
    void set_results(std::uint32_t first, std::uint32_t second) noexcept {
        registration_.record.ret_data[0] = first;
        registration_.record.ret_data[1] = second;
    }

    source_host& host_;
    registration& registration_;
};

/// Checks the request of `of`, and makes its source without starting it.
///
/// Errors     Those that ADD reports for the record.
using source_maker = result<std::unique_ptr<source>> (*)(source_host& host, registration& target);

struct source_row {
    event_type type;
    std::string_view name;
    source_maker make;  // null: ADD cannot make this type
};

/// The same for registrations that a call of their own makes.
using source_factory =
    std::function<result<std::unique_ptr<source>>(source_host& host, registration& target)>;

/// The row of a type; null where there is no such type.
const source_row* find_source_row(std::uint32_t type) noexcept;

result<std::unique_ptr<source>> make_inode_source(source_host& host, registration& target);
result<std::unique_ptr<source>> make_pipe_source(source_host& host, registration& target);
result<std::unique_ptr<source>> make_poll_source(source_host& host, registration& target);
result<std::unique_ptr<source>> make_process_source(source_host& host, registration& target);
result<std::unique_ptr<source>> make_signal_source(source_host& host, registration& target);
result<std::unique_ptr<source>> make_socket_source(source_host& host, registration& target);
result<std::unique_ptr<source>> make_timer_source(source_host& host, registration& target);
result<std::unique_ptr<source>> make_unotify_source(source_host& host, registration& target);

}  // namespace kevring::detail
