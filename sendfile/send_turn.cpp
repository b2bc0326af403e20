#include <kevring/sendfile/send_turn.hpp>

#include <kevring/runtime/work.hpp>
#include <kevring/sendfile/detail/transfer.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace kevring {

// What the transfers of one ring have moved in this turn of its loop, and those that wait for a
// turn in which something is left to move, in the order in which they came.
class line_of_turns final : public ring_service, private work {
public:
    // Some 250 us of sendfile(2), so that nobody waits for long.
    static constexpr std::size_t turn_bytes_max = 2 * 1024 * 1024;

    explicit line_of_turns(ring& on) noexcept : work(turn_has_come), on_(on) {}

    bool is_free() noexcept { return (first_ == nullptr || called_) && left(); }

    void use(std::size_t byte_count) noexcept {
        left();
        byte_count_ += byte_count;
        called_ = false;
    }

    void enter(send_turn& one) noexcept {
        one.next_ = nullptr;  // who awaits its turn again is the last again
        *last_ = &one;
        last_ = &one.next_;
        schedule();
    }

private:
    bool left() noexcept {
        if (const std::uint64_t turn = on_.counters().turns; turn != turn_) {
            turn_ = turn;
            byte_count_ = 0;
        }
        return byte_count_ < turn_bytes_max;
    }
    void schedule() noexcept {
        if (!std::exchange(scheduled_, true)) on_.schedule(*this);
    }
    static void turn_has_come(work& item) noexcept {
        auto& self = static_cast<line_of_turns&>(item);
        self.scheduled_ = false;
        send_turn** const last = self.last_;  // whoever comes back has to wait for the next turn
        while (self.first_ != nullptr && self.left()) {
            send_turn& one = *self.first_;
            const bool ends = &one.next_ == last;
            self.first_ = one.next_;
            if (self.first_ == nullptr) self.last_ = &self.first_;
            self.called_ = true;
            one.waiter_.resume();  // last: the place may be gone
            self.called_ = false;
            if (ends) break;
        }
        if (self.first_ != nullptr) self.schedule();
    }

    ring& on_;
    std::uint64_t turn_ = 0;
    std::size_t byte_count_ = 0;
    send_turn* first_ = nullptr;
    send_turn** last_ = &first_;
    bool called_ = false;  // who was first in line runs, and has moved nothing yet
    bool scheduled_ = false;
};

bool send_turn::is_free(ring& on) noexcept {
    line_of_turns* const line = on.find_service<line_of_turns>();
    return line == nullptr || line->is_free();
}

send_turn::send_turn(ring& on) : line_(on.service<line_of_turns>()) {}

void send_turn::await_suspend(std::coroutine_handle<> waiter) noexcept {
    waiter_ = waiter;
    line_.enter(*this);
}

namespace detail {

void count_in_turn(ring& on, std::size_t byte_count) {
    on.service<line_of_turns>().use(byte_count);
}

}  // namespace detail
}  // namespace kevring
