// checked_queue.hpp: a queue and its model, which get the same random commands.
#pragma once

#include "tests/kevent/model/model.hpp"

namespace kevent_model {

class checked_queue {
public:
    explicit checked_queue(std::uint64_t seed);

    /// Ends at the first difference from the model.
    void go();

    /// File and line of the assertion that failed; empty if none did.
    const std::string& failed_at() const { return run_.failed_at; }
    std::size_t delivered_count() const { return delivered_count_; }
    /// The last steps, and the registrations after them.
    std::string trace() const;

private:
    void take_step();
    origin_model& model_of_type(std::uint32_t type);
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
    void check_control();

    std::size_t due_count() const;

    model_run run_;
    unsigned slot_count_ = 0;
    std::vector<std::unique_ptr<origin_model>> origins_;
    std::uint64_t published_ = 0;
    std::uint64_t committed_ = 0;
    bool released_ = false;
    std::size_t delivered_count_ = 0;
};

}  // namespace kevent_model
