// event_queue.hpp: the kevent queue on a loop: requests in, events out, one await for all of them.
#pragma once

#include <kevring/kevent/awaitables.hpp>
#include <kevring/kevent/change_stream.hpp>
#include <kevring/kevent/detail/queue_wait.hpp>
#include <kevring/kevent/event.hpp>
#include <kevring/kevent/event_ring.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/detail/fetched_item.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sys/types.h>

namespace kevring {

class ring;

namespace detail {
class loop_port;

/// The thread that wrote a member last; for other threads, which must not read that member.
class writing_thread {
public:
    writing_thread() noexcept = default;
    writing_thread(writing_thread&& other) noexcept : thread_(other.thread_.load()) {}
    writing_thread& operator=(writing_thread&&) = delete;

    void set() noexcept { thread_.store(std::this_thread::get_id(), std::memory_order_relaxed); }
    bool is_this() const noexcept {
        return thread_.load(std::memory_order_relaxed) == std::this_thread::get_id();
    }

private:
    std::atomic<std::thread::id> thread_;
};
class queue_core;
class readiness_watch;
}  // namespace detail

// Requests; also timer, readable() and writable(), of awaitables.hpp.

/// A signal, delivered through the queue only: add() blocks it in the calling thread. Signals for
/// the process arrive where all threads block them; see signal_set::block().
struct signal {
    explicit constexpr signal(int signal_number) noexcept : number(signal_number) {}
    int number;
};

/// Whether the queue keeps the names of an inode request for event_queue::take_changes().
enum class inode_names : std::uint8_t { dropped, kept };

/// Changes in a directory: names that are made or removed, or come and go by a rename, and
/// files that change: any of `created`, `removed`, `moved_from`, `moved_to`, `modified` and
/// `attributes`. Of a file by itself the last two.
struct inode {
    explicit inode(std::string watched_path,
                   change_kind wanted_kinds = change_kind::created | change_kind::removed,
                   inode_names wanted_names = inode_names::dropped)
        : path(std::move(watched_path)), kinds(wanted_kinds), names(wanted_names) {}
    std::string path;
    change_kind kinds;
    inode_names names;
};
inline constexpr change_kind created = change_kind::created;
inline constexpr change_kind removed = change_kind::removed;

/// Readiness of a socket, and failed() when none of the kinds is possible any more; see readable()
/// for bits of poll(2) instead. The connection stays open until the request is removed.
struct socket_events {
    socket_events(fd_ref socket, socket_interest wanted_kinds) noexcept
        : file(socket), kinds(wanted_kinds) {}
    fd_ref file;
    socket_interest kinds;
};

/// Readiness of one end of a pipe: `receive` or `send`; failed() when the other is closed.
struct pipe_events {
    pipe_events(fd_ref pipe, socket_interest wanted_kinds) noexcept
        : file(pipe), kinds(wanted_kinds) {}
    fd_ref file;
    socket_interest kinds;
};

/// The end of a process. A child is not reaped by it.
struct process {
    explicit constexpr process(pid_t process_number) noexcept : number(process_number) {}
    pid_t number;
};

/// A part of a file, to be sent to a connected stream socket once; see send_file(). A file that is
/// shorter is sent up to its end.
struct file_transfer {
    file_transfer(fd_ref target_socket, fd_ref source_file, std::uint64_t offset = 0,
                  std::uint64_t byte_count = INT64_MAX) noexcept
        : socket(target_socket), file(source_file), file_offset(offset), bytes(byte_count) {}
    fd_ref socket;
    fd_ref file;
    std::uint64_t file_offset;
    std::uint64_t bytes;
};

/// An event of the program's own, fired by event_queue::notify(); its number is its name.
struct user_event {
    explicit constexpr user_event(std::uint64_t note_number) noexcept : number(note_number) {}
    std::uint64_t number;
};

/// How often a request is answered.
enum class repeat : std::uint8_t {
    always,
    once,  // then it is gone by itself
};

/// The value that a program attaches to a request; see event::user_data().
class user_data {
public:
    constexpr user_data() noexcept = default;
    template <event_user_data T>
        requires(!std::is_same_v<T, user_data>)
    user_data(T value) noexcept {  // implicit: it stands for any value in a call of add()
        std::memcpy(&bits_, &value, sizeof value);
    }
    std::uint64_t bits() const noexcept { return bits_; }

private:
    std::uint64_t bits_ = 0;
};

/// One queue for every kind of event, awaited on a loop; the same queue as that of kevent.h.
///
///     event_queue queue;
///     queue.add(timer(1s), job::tick);
///     queue.add(readable(listener), job::accept);
///     while (true) {
///         auto got = co_await queue.next();
///         ...
///
/// A registration is ready at most once until its event is taken: further activity is counted or
/// merged, and a burst takes no memory. Readiness of descriptors is reported as edges.
///
/// The registrations are requests of the loop's own io_uring: an event costs no system call beyond
/// the loop's own. A request that another thread adds or changes reaches the loop with its next
/// iteration. The kernel holds the file of a request that was removed until that iteration.
///
/// Lifetime   Stays where it is while it is awaited. Registrations go with the last queue object
///            that shares them. The queue outlives the loops that await it: a loop that ends takes
///            no registration and no event along, and the next await may be on another loop. There
///            readiness that was reported already is reported once more.
/// Thread     One queue object is awaited on one loop at a time; it may move to another loop of
///            the same thread when no task waits. share() gives another object for another loop,
///            and each event goes to one of them. Any number of tasks of the loop may wait at the
///            same time; each event goes to one of them. add(), modify(), remove() and notify() are
///            for any thread.
/// Moved from Calls report bad_file_descriptor, or no event and no registration.
/// Fork       In the child of a fork(2) the queue is of no use: calls report
///            operation_not_permitted, or no event and no registration. The registrations of the
///            parent are not affected, also when the child destroys the queue.
class event_queue {
public:
    /// A queue of the loop that the calling thread drives; without one, of the loop that awaits it
    /// first.
    event_queue();
    /// A queue of `loop`, which the calling thread drives or no thread has driven yet.
    explicit event_queue(ring& loop);
    event_queue(event_queue&& other) noexcept;
    event_queue& operator=(event_queue&& other) noexcept;
    ~event_queue();

    /// Another queue object on the same registrations. From the first call on they are watched by
    /// an epoll set, which wakes one loop for one event; readiness that was reported already is
    /// reported once more.
    ///
    /// Errors     Throws std::system_error where descriptors are exhausted.
    event_queue share() const;

    /// Registers a request. An origin that is ready already is an event, too.
    ///
    /// Result     The key of the registration, in its events and for modify() and remove().
    /// Errors     invalid_argument for a file that cannot be watched, or for no period, no kinds;
    ///            not_a_socket; broken_pipe for an origin that can report no event any more;
    ///            file_exists for a signal, a process or a note that is registered already;
    ///            bad_file_descriptor, no_such_process, and those of open(2) for an inode.
    result<event_key> add(timer request, user_data user = {}, repeat times = repeat::always);
    result<event_key> add(descriptor_events request, user_data user = {},
                          repeat times = repeat::always);
    result<event_key> add(socket_events request, user_data user = {},
                          repeat times = repeat::always);
    result<event_key> add(pipe_events request, user_data user = {}, repeat times = repeat::always);
    result<event_key> add(signal request, user_data user = {}, repeat times = repeat::always);
    result<event_key> add(const inode& request, user_data user = {}, repeat times = repeat::always);
    result<event_key> add(process request, user_data user = {}, repeat times = repeat::once);
    result<event_key> add(user_event request, user_data user = {}, repeat times = repeat::always);
    /// Sends a part of a file on the loop that the calling thread drives. Its one event comes when
    /// the last byte was passed to the kernel, or the transfer has failed; remove() stops it.
    /// Transfers of one loop to one socket run in the order of the calls.
    ///
    /// Errors     In the event those of send_file(), with event::bytes_sent(); operation_canceled
    ///            where the loop has ended. Here not_a_socket, bad_file_descriptor,
    ///            too_many_files_open; operation_not_permitted on a thread that drives no loop.
    /// Lifetime   The caller may close both descriptors: the transfer has duplicates. It continues if
    ///            the queue is destroyed.
    result<event_key> add(const file_transfer& request, user_data user = {});

    /// Watches a descriptor, a socket, a pipe or an inode for other bits from now on, as often as
    /// it was to be reported before; bits that are set already are reported again. An inode that
    /// was added without `modified` or `attributes` cannot have them later: its event is failed()
    /// then.
    ///
    /// Errors     no_such_file_or_directory: there is no such registration.
    result<void> modify(event_key which, std::uint32_t bits);
    /// Takes what has happened in the directory of an inode request that keeps names, oldest first;
    /// `path` and `watch` of the changes are not set. At most 1024 are kept, and then a `lost`.
    ///
    /// Errors     no_such_file_or_directory: there is no such registration; invalid_argument: it
    ///            keeps no names.
    result<std::vector<change>> take_changes(event_key which);
    /// Ends a registration; an event of it that was not taken is dropped. False: there was none.
    /// An event that an abandoned next() has left for the following one is dropped only by a call on
    /// the loop's thread.
    bool remove(event_key which);
    /// Fires a note. False: there is none registered by that number.
    bool notify(user_event which);
    std::size_t registration_count() const;

    /// The next event.
    ///
    /// Errors     operation_canceled and timed_out, by the scope around it; no event is lost then.
    ///            device_or_resource_busy: tasks wait for this object on another loop; use share().
    [[nodiscard]] detail::fetched_item<event> next() { return {fetched_, fetch()}; }

    /// Waits until `min_count` events are there, and gives up to `max_count` of them, in the order
    /// in which they became ready; at `deadline` as many as there are, maybe none. More than 65536
    /// count as 65536.
    ///
    /// Lifetime   The events stay until the next wait() or poll() of this object begins. Tasks that
    ///            wait at the same time copy what they keep, or use next().
    /// Errors     Those of next().
    detail::queue_wait wait(unsigned min_count, unsigned max_count,
                            clamped_time deadline = steady_time::max());

    /// Returns the events that are ready now, at most `max_count` and at most 65536. Never waits.
    ///
    /// Lifetime   As with wait().
    std::span<const event> poll(unsigned max_count);

    /// Publishes the events into `target` as they come, until the scope around it is stopped. Any
    /// number of threads, with a loop or without, claim them there without a system call. While the
    /// ring is full, events stay in the queue; some that were taken from it before are published
    /// first by the next publish_to() of this object.
    ///
    /// Errors     Always one: operation_canceled or timed_out, by the scope; those of next().
    /// Lifetime   `target` outlives the await. It may have other producers.
    [[nodiscard]] task<result<void>> publish_to(event_ring& target);

private:
    friend class detail::queue_wait;
    event_queue(std::shared_ptr<detail::queue_core> core, detail::loop_port& port) noexcept;
    explicit event_queue(std::unique_ptr<detail::loop_port> port);
    result<event_key> add_record(ukevent record, user_data user, repeat times);
    result<event_key> add_file(event_type type, fd_ref file, socket_interest kinds,
                               socket_interest allowed, user_data user, repeat times);
    task<result<void>> fetch();
    bool inherited() const noexcept;
    int unusable() const noexcept;
    int attach(ring& loop) const;
    detail::readiness_watch* waits(const ring& loop);
    task<result<std::span<const event>>> wait_as_task(unsigned min_count, unsigned max_count,
                                                      steady_time deadline);
    task<result<unsigned>> collect(unsigned min_count, std::span<ukevent> target);
    std::span<const event> batch(std::span<const ukevent> records);

    std::shared_ptr<detail::queue_core> core_;
    detail::loop_port* port_;                         // of core_
    unsigned fork_generation_;                        // of the construction
    std::shared_ptr<detail::readiness_watch> edges_;  // after share()
    std::vector<ukevent> collected_;                  // by wait(), which may be suspended while
    std::vector<ukevent> polled_;                     // poll() takes these
    std::vector<event> batch_;
    std::vector<ukevent> unpublished_;  // taken by publish_to(), for which there was no space
    std::optional<event> fetched_;      // by a next() that was left before it took it
    detail::writing_thread fetched_by_;
};

}  // namespace kevring
