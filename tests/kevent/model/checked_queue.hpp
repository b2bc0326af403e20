// checked_queue.hpp: a queue and its model, which get the same random commands.
#pragma once

#include "tests/kevent/model/model.hpp"

namespace kevent_model {

class checked_queue {
public:
    explicit checked_queue(std::uint64_t seed);

    /// Ends at the first thing that is not as the model says.
    void go();

    /// Where the claim stands that did not hold; empty: all is well.
    const std::string& failed_at() const { return in_.failed_at; }
    std::size_t delivered_count() const { return delivered_count_; }
    /// The last steps, and what is registered after them.
    std::string trace() const;

private:
    void take_step();
    origins& of_type(std::uint32_t type);
    std::uint32_t random_flags();
    std::uint32_t random_event(std::uint32_t type);
    ukevent random_key();

    void add();
    void modify();
    void remove();
    void mark_ready();
    void release();

    int collect(unsigned min_count, unsigned max_count, timespec timeout);
    void compare_copy(ukevent& one);
    void commit();
    void deliver(const ukevent& got);
    void collect_some();
    void wait_for_due();
    void take_all();
    void look_at_control();

    std::size_t due_count() const;

    run in_;
    unsigned slot_count_ = 0;
    std::vector<std::unique_ptr<origins>> origins_;
    std::uint64_t published_ = 0;
    std::uint64_t committed_ = 0;
    bool released_ = false;
    std::size_t delivered_count_ = 0;
};

}  // namespace kevent_model
