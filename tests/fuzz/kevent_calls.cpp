// kevent_calls.cpp: the C interface keeps its promises for any sequence of calls and arguments.
//
// The input is a program of calls on two queues, a few descriptors that are opened and closed, user
// events, timers, complete buffers, and transfers of a file. Checks: no crash and no hang; no call
// returns more than requested; counts of REMOVE, MODIFY and READY are as specified; each event
// belongs to a registration; and the indexes of a ring agree with the results of commit and wait. At
// its end the program prints the number of calls.
#include <kevring/kevent/kevent.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "fuzz.hpp"

namespace {

using fuzz::check;

class bytes {
public:
    bytes(const std::uint8_t* data, std::size_t size) : position_(data), end_(data + size) {}
    bool empty() const { return position_ == end_; }
    std::uint8_t next() { return empty() ? 0 : *position_++; }
    unsigned below(unsigned bound) { return next() % bound; }

private:
    const std::uint8_t* position_;
    const std::uint8_t* end_;
};

std::uint64_t call_count = 0;

template <typename Result, typename... Parameters, typename... Arguments>
Result counted(Result (*call)(Parameters...), Arguments... arguments) {
    ++call_count;
    return call(arguments...);
}

constexpr std::array<unsigned, 4> fd_types{KEVENT_SOCKET, KEVENT_POLL, KEVENT_PIPE, KEVENT_INODE};
constexpr timespec no_wait{0, 0};
constexpr timespec bad_time{0, -1};
constexpr unsigned slot_count = 4;
constexpr std::size_t file_bytes = 40'000;

// The file that transfers send, the same for all inputs.
int file() {
    static const int number = [] {
        const int made = ::memfd_create("file", MFD_CLOEXEC);
        check(made >= 0 && ::ftruncate(made, file_bytes) == 0, "there is a file");
        return made;
    }();
    return number;
}

class calls {
public:
    calls() : memory_(1 + slot_count * 5) {
        ring_ = reinterpret_cast<kevent_ring*>(memory_.data());
        // Without a thread, the queues of the previous input are released already, on any machine.
        queues_ = {counted(kevent_init, nullptr, 0u, unsigned{KEVENT_INIT_NO_THREAD}),
                   counted(kevent_init, ring_, slot_count, unsigned{KEVENT_INIT_NO_THREAD})};
        check(queues_[0] >= 0 && queues_[1] >= 0, "there is a queue");
        for (std::size_t i = 0; i < pairs_.size(); ++i) open(i);
    }
    calls(const calls&) = delete;
    ~calls() {
        for (auto& pair : pairs_) close(pair);
        for (const int queue : queues_) ::close(queue);
    }

    void one(bytes& from) {
        const unsigned which = from.below(2);
        switch (from.below(13)) {
            case 0:
            case 1: add(which, from); break;
            case 2: control(which, KEVENT_CTL_REMOVE, from); break;
            case 3: control(which, KEVENT_CTL_MODIFY, from); break;
            case 4: control(which, KEVENT_CTL_READY, from); break;
            case 5: collect(which, from); break;
            case 6: wait_and_commit(from); break;
            case 7: activity(from); break;
            case 8: wild(which, from); break;
            case 9: timer(which, from); break;
            case 10: transfer(which, from); break;
            case 11: whole_buffer(which, from); break;
            case 12: names(which, from); break;
        }
    }

private:
    using key = std::pair<std::uint64_t, std::uint32_t>;
    using pair = std::array<int, 2>;

    // Sockets, and a pipe.
    void open(std::size_t which) {
        pair& ends = pairs_[which];
        const int result =
            which == 0
                ? ::pipe2(ends.data(), O_NONBLOCK | O_CLOEXEC)
                : ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data());
        check(result == 0, "there are descriptors");
    }
    static void close(pair& ends) {
        for (const int number : ends) ::close(number);
    }

    ukevent record(bytes& from) {
        ukevent made{};
        made.req_flags = from.next() & 0x3f;
        made.event = from.next();
        made.ret_flags = made.ret_data[0] = from.next();
        switch (from.below(6)) {
            case 0:
                made.type = KEVENT_UNOTIFY;
                made.id.raw_u64 = from.below(4);
                break;
            case 1:
                made.type = KEVENT_TIMER;
                made.id.raw[0] = from.below(2);
                made.id.raw[1] = from.next() * 100u;
                break;
            case 2:
                made.type = from.below(4) == 0 ? from.next() : from.below(KEVENT_MAX + 1);
                made.id.raw[0] = from.next();  // the queues and the file are among them
                // Signals would be blocked, and processes are not ours.
                if (made.type == KEVENT_SIGNAL || made.type == KEVENT_PROCESS)
                    made.id.raw_u64 = ~std::uint64_t{0};
                break;
            case 3:
                made.type = KEVENT_NAIO;
                made.id.raw_u64 = whole_buffers_[from.below(4)];
                break;
            default:
                made.type = fd_types[from.below(4)];
                made.id.raw[0] = static_cast<std::uint32_t>(pairs_[from.below(3)][from.below(2)]);
                made.id.raw[1] = from.below(2);
        }
        return made;
    }
    std::vector<ukevent> records(bytes& from) {
        std::vector<ukevent> made(1 + from.below(4));
        for (ukevent& each : made) each = record(from);
        return made;
    }
    static key key_of(const ukevent& record) { return {record.id.raw_u64, record.type}; }

    void add(unsigned which, bytes& from) {
        std::vector<ukevent> asked = records(from);
        std::vector<ukevent> reply = asked;
        const int answered = counted(kevent_ctl, queues_[which], KEVENT_CTL_ADD,
                                     static_cast<unsigned>(reply.size()), reply.data());
        check(answered >= 0 && answered <= static_cast<int>(asked.size()), "ADD counts answers");
        std::size_t index = 0;
        for (const ukevent& each : asked) {
            const bool is_answer = index < static_cast<std::size_t>(answered) &&
                                   key_of(reply[index]) == key_of(each) &&
                                   (reply[index].ret_flags & KEVENT_RET_DONE) != 0;
            const bool there = registered_[which].count(key_of(each)) != 0;
            if (is_answer) {
                if (there) {
                    const bool is_made = each.type == KEVENT_AIO || each.type == KEVENT_NAIO ||
                                         each.type == KEVENT_POSIX_TIMER;
                    check((reply[index].ret_flags & KEVENT_RET_BROKEN) != 0 &&
                              static_cast<int>(reply[index].ret_data[1]) ==
                                  (is_made ? -ENOSYS : -EEXIST),
                          "a key is taken once");
                }
                ++index;
            } else {
                check(!there, "a key that is taken is answered");
                registered_[which].insert(key_of(each));
            }
        }
        check(index == static_cast<std::size_t>(answered), "answers are in order");
    }

    void control(unsigned which, unsigned command, bytes& from) {
        std::vector<ukevent> asked = records(from);
        auto& there = registered_[which];
        const std::vector<ukevent> given = asked;
        const auto count = static_cast<unsigned>(asked.size());
        const int answer = counted(kevent_ctl, queues_[which], command, count, asked.data());
        if (count > there.size()) {
            check(answer == -EINVAL, "not more than there are");
            return;
        }
        int found = 0;
        for (unsigned i = 0; i < count; ++i) {
            const bool known = there.count(key_of(given[i])) != 0;
            found += known;
            if (command == KEVENT_CTL_READY) continue;
            check(asked[i].ret_flags ==
                      (known ? unsigned{KEVENT_RET_DONE} : KEVENT_RET_DONE | KEVENT_RET_BROKEN),
                  "answered in its place");
            if (command == KEVENT_CTL_REMOVE) there.erase(key_of(given[i]));
        }
        check(answer == (command == KEVENT_CTL_READY ? found : 0), "the count is right");
    }

    void collected(unsigned which, const ukevent& got) {
        check((got.ret_flags & KEVENT_RET_DONE) != 0, "what is delivered is done");
        check(registered_[which].count(key_of(got)) != 0, "what is delivered is registered");
        if ((got.req_flags & KEVENT_REQ_ONESHOT) != 0) registered_[which].erase(key_of(got));
    }

    void collect(unsigned which, bytes& from) {
        std::array<ukevent, 8> got;
        const unsigned max = from.below(9);
        const int count =
            counted(kevent_get_events, queues_[which], from.below(9), max, no_wait, got.data(), 0);
        check(count >= 0 && count <= static_cast<int>(max), "not more than asked for");
        for (int i = 0; i < count; ++i) {
            const ukevent& each = got[static_cast<std::size_t>(i)];
            if (which == 1 && (each.ret_flags & KEVENT_RET_COPY_FAILED) == 0) ++placed_;
            collected(which, each);
        }
    }

    void wait_and_commit(bytes& from) {
        const unsigned wanted = from.below(slot_count + 2);
        const int count =
            counted(kevent_wait, queues_[1], wanted, from.below(slot_count), no_wait, 0);
        check(wanted > slot_count ? count == -EINVAL
                                  : count >= 0 && count <= static_cast<int>(wanted),
              "not more than asked for");
        for (int i = 0; i < count; ++i)
            collected(1, ring_->event[(placed_ + static_cast<unsigned>(i)) % slot_count]);
        if (count > 0) placed_ += static_cast<unsigned>(count);
        check(ring_->ring_kidx == placed_ % slot_count, "the index says what was placed");
        check(placed_ - committed_ <= slot_count, "no slot is filled twice");

        const int freed =
            counted(kevent_commit, queues_[1], from.below(slot_count + 1),
                    from.below(4) == 0 ? from.next() : ring_->ring_over + from.below(2));
        check(freed <= static_cast<int>(placed_ - committed_), "not more is freed than was filled");
        if (freed > 0) committed_ += static_cast<unsigned>(freed);
        check(ring_->ring_over == committed_ / slot_count, "the lap is that of the index");
    }

    void activity(bytes& from) {
        const std::size_t which = from.below(3);
        pair& ends = pairs_[which];
        std::array<char, 64> some{};
        switch (from.below(4)) {
            case 0: static_cast<void>(!::write(ends[from.below(2)], some.data(), 1)); break;
            case 1:
                static_cast<void>(!::read(ends[from.below(2)], some.data(), some.size()));
                break;
            case 2: ::shutdown(ends[from.below(2)], static_cast<int>(from.below(3))); break;
            case 3:  // the numbers refer to other sockets afterwards
                close(ends);
                open(which);
                break;
        }
    }

    void timer(unsigned which, bytes& from) {
        const itimerspec when{{0, from.next() * 100}, {0, from.next() * 100}};
        const long id = counted(kevent_timer_create, queues_[which], clockid_t{CLOCK_MONOTONIC},
                                &when, from.below(2) == 0 ? 0 : int{TFD_TIMER_ABSTIME}, nullptr);
        check(when.it_value.tv_nsec == 0 ? id == -EINVAL : id > 0, "a timer has a number");
        if (id > 0) registered_[which].insert({static_cast<std::uint64_t>(id), KEVENT_POSIX_TIMER});
    }

    void transfer(unsigned which, bytes& from) {
        static std::array<char, 100> bytes{};
        static const iovec part{bytes.data(), bytes.size()};
        const int socket = pairs_[1 + from.below(2)][from.below(2)];
        const off_t offset = from.next() * 200;
        const std::size_t count = from.next() * 100u;
        long cookie = 0;
        switch (from.below(4)) {
            case 0:
            case 1:
                cookie = counted(aio_sendfile, queues_[which], socket, file(), offset, count);
                break;
            case 2:
                cookie = counted(aio_sendfilev, queues_[which], socket, &part, from.below(2),
                                 file(), offset, count, &part, from.below(2), nullptr);
                break;
            case 3:
                switch (from.below(4)) {
                    case 0:
                        cookie =
                            counted(aio_sendfile, queues_[which], socket, file(), off_t{-1}, count);
                        break;
                    case 1:
                        cookie =
                            counted(aio_sendfile, queues_[which], file(), file(), offset, count);
                        break;
                    case 2:
                        cookie = counted(aio_sendfile, queues_[which], socket, -1, offset, count);
                        break;
                    case 3:
                        cookie = counted(aio_sendfile_path, queues_[which], socket, nullptr, offset,
                                         count);
                        break;
                }
                check(cookie < 0, "what cannot be sent is refused");
                return;
        }
        check(cookie > 0, "a transfer has a number");
        registered_[which].insert({static_cast<std::uint64_t>(cookie), KEVENT_AIO});
    }

    void whole_buffer(unsigned which, bytes& from) {
        static std::array<char, 200> buffer{};
        const int socket = pairs_[from.below(3)][from.below(2)];
        const std::size_t size = from.below(201);
        const bool is_pipe = socket == pairs_[0][0] || socket == pairs_[0][1];
        const long id = from.below(2) == 0
                            ? counted(aio_recv, queues_[which], socket, buffer.data(), size, 0)
                            : counted(aio_send, queues_[which], socket, buffer.data(), size, 0);
        if (size == 0) {
            check(id == -EINVAL, "there is something to move");
        } else if (is_pipe) {
            check(id == -ENOTSOCK, "a pipe is no socket");
        } else {
            check(id > 0, "a whole buffer has a number");
            whole_buffers_[from.below(4)] = static_cast<std::uint64_t>(id);
            registered_[which].insert({static_cast<std::uint64_t>(id), KEVENT_NAIO});
        }
    }

    void names(unsigned which, bytes& from) {
        const ukevent asked = record(from);
        std::array<kevent_change, 4> got;
        const unsigned max = from.below(5);
        const int count = counted(kevent_inode_changes, queues_[which], asked.id, max, got.data());
        const bool there = registered_[which].count({asked.id.raw_u64, KEVENT_INODE}) != 0;
        check(there ? count == -EINVAL || (count >= 0 && count <= static_cast<int>(max))
                    : count == -ENOENT,
              "changes are those of a registration");
    }

    // A rejected call changes nothing.
    void wild(unsigned which, bytes& from) {
        ukevent some = record(from);
        switch (from.below(7)) {
            case 0:
                check(counted(kevent_ctl, -1, from.next(), 1, &some) == -EBADF, "no descriptor");
                break;
            case 1:
                check(counted(kevent_ctl, pairs_[0][0], 0, 1, &some) == -EINVAL, "no queue");
                break;
            case 2:
                check(counted(kevent_ctl, queues_[which], 4u + from.next(), 1, &some) == -EINVAL,
                      "no command");
                break;
            case 3:
                check(counted(kevent_ctl, queues_[which], from.below(4), 1 + from.next(),
                              nullptr) == -EFAULT,
                      "no array");
                break;
            case 4:
                check(
                    counted(kevent_get_events, queues_[which], 1, 1, bad_time, &some, 0) == -EINVAL,
                    "no timeout");
                break;
            case 5:
                check(counted(kevent_get_events, queues_[which], 1, 1, no_wait, &some,
                              2u + from.next() * 2u) == -EINVAL,
                      "no flags");
                break;
            case 6:
                check(counted(kevent_ctl, queues_[which], KEVENT_CTL_READY, 0, nullptr) == 0,
                      "wakes");
        }
    }

    std::array<int, 2> queues_{};
    std::vector<std::uint64_t> memory_;
    kevent_ring* ring_;
    std::array<pair, 3> pairs_{};
    std::array<std::set<key>, 2> registered_;
    std::array<std::uint64_t, 4> whole_buffers_{};
    unsigned placed_ = 0;
    unsigned committed_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    std::signal(SIGPIPE, SIG_IGN);
    std::atexit([] { std::fprintf(stderr, "%" PRIu64 " calls\n", call_count); });
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    bytes from(data, size);
    calls sequence;
    while (!from.empty()) sequence.one(from);
    return 0;
}
