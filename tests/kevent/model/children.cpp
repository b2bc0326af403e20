// children.cpp: processes that end, the type PROCESS.
#include "tests/kevent/model/model.hpp"

#include <sys/wait.h>

namespace kevent_model {
namespace {

/// A process that ends on request. It is reaped at the end of the run, so that no other process
/// gets its number earlier.
struct child {
    child() : gate(connected_pair::sockets()), number(::fork()) {
        if (number != 0) {
            wait_for_a_byte(gate.peer());
            return;
        }
        // System calls only: other threads may have held a lock. The child keeps no descriptor
        // whose end the parent waits for.
        ::dup2(gate.local(), STDIN_FILENO);
        ::close_range(STDERR_FILENO + 1, ~0u, 0);
        static_cast<void>(!::write(STDIN_FILENO, "r", 1));
        ::_exit(wait_for_a_byte(STDIN_FILENO));
    }
    ~child() {
        ::kill(number, SIGKILL);
        ::waitpid(number, nullptr, 0);
    }
    /// Ends the process and waits for its end.
    void end(unsigned char wanted_code, bool is_killed) {
        if (is_killed)
            ::kill(number, SIGKILL);
        else
            static_cast<void>(!::write(gate.peer(), &wanted_code, 1));
        siginfo_t info{};
        ::waitid(P_PID, static_cast<id_t>(number), &info, WEXITED | WNOWAIT);
        ended = true;
        status = static_cast<std::uint32_t>(is_killed ? SIGKILL : int{wanted_code});
        how = static_cast<std::uint32_t>(is_killed ? CLD_KILLED : CLD_EXITED);
    }

    static unsigned char wait_for_a_byte(int from) {
        pollfd wait{from, POLLIN, 0};
        ::poll(&wait, 1, 60'000);
        unsigned char byte = 0;
        static_cast<void>(!::read(from, &byte, 1));
        return byte;
    }

    const connected_pair gate;
    const pid_t number;
    bool ended = false;
    std::uint32_t status = 0;
    std::uint32_t how = 0;
};

class waiter_for_end final : public registration_model {
public:
    waiter_for_end(model_run& run, const ukevent& request, std::shared_ptr<child> process)
        : registration_model(run, request), process(std::move(process)) {}

    bool holds() const { return process->ended && request.event != 0; }
    void check_process() {
        if (!holds() || has_fired()) return;
        event = expected::must;
        allow_one_more();
    }
    void marked() override {
        list();
        allow_one_more();  // the process may end between this and the collection
    }
    void allow_one_more() { edges_ = std::min(edges_ + 1, 2u); }
    bool is_due() const override {
        return event == expected::must && (!has(KEVENT_REQ_LAST_CHECK) || holds());
    }
    void modified(const ukevent&) override { check_process(); }
    void check_record(const ukevent& got) override {
        KEVRING_MODEL_CHECK(run_, event != expected::none);
        KEVRING_MODEL_CHECK(run_, (got.ret_flags & KEVENT_RET_BROKEN) == 0);
        const bool has_status =
            process->ended && got.ret_data[0] == process->status && got.ret_data[1] == process->how;
        const bool has_no_data = got.ret_data[0] == 0 && got.ret_data[1] == 0;
        KEVRING_MODEL_CHECK(run_, has_status || (listed && has_no_data));
    }
    void delivered(const ukevent&) override {
        listed = false;
        if (edges_ != 0) --edges_;
        event = edges_ != 0 ? expected::may : expected::none;
    }
    void nothing_left() override {
        registration_model::nothing_left();
        edges_ = 0;
    }

    const std::shared_ptr<child> process;

private:
    unsigned edges_ = 0;  // one on the ready list, one in the kernel
};

class children final : public origin_model {
public:
    explicit children(model_run& run) : origin_model(run) {
        for (auto& each : all_) each = std::make_shared<child>();
    }

    bool has_type(std::uint32_t type) const override { return type == KEVENT_PROCESS; }
    std::optional<ukevent> random_request() override {
        ukevent made = record(KEVENT_PROCESS, all_[run_.below(all_.size())]->number, 0);
        made.id.raw[1] = static_cast<std::uint32_t>(run_.below(2));
        return made;
    }
    std::uint32_t random_event(std::uint32_t) override { return KEVENT_PROCESS_EXIT; }
    std::optional<ukevent> add(const ukevent& request) override {
        const auto process = *std::find_if(all_.begin(), all_.end(), [&](const auto& each) {
            return each->number == static_cast<pid_t>(request.id.raw[0]);
        });
        auto one = std::make_unique<waiter_for_end>(run_, request, process);
        const bool forced = one->has(KEVENT_REQ_READY);
        if (!forced && one->holds() && !one->has(KEVENT_REQ_ALWAYS_QUEUE)) {
            ukevent answer = request;
            answer.ret_flags = KEVENT_RET_DONE;
            answer.ret_data[0] = process->status;
            answer.ret_data[1] = process->how;
            return answer;
        }
        waiter_for_end& kept = keep(std::move(one));
        kept.check_process();
        if (forced) kept.marked();
        return std::nullopt;
    }
    void act() override {
        child& one = *all_[run_.below(all_.size())];
        if (one.ended || run_.below(8) != 0) return;
        one.end(static_cast<unsigned char>(1 + run_.below(255)), run_.below(2) == 0);
        run_.log("process ", one.number, " ends: ", one.status);
        run_.each<waiter_for_end>([&](waiter_for_end& each) {
            if (each.process.get() == &one) each.check_process();
        });
    }

private:
    std::array<std::shared_ptr<child>, 2> all_;
};

}  // namespace

std::unique_ptr<origin_model> make_children(model_run& run) {
    return std::make_unique<children>(run);
}

}  // namespace kevent_model
