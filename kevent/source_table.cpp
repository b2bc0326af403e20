// source_table.cpp: one row for each type of event, in the order of their numbers.
#include <kevring/kevent/detail/source.hpp>

namespace kevring::detail {
namespace {

constexpr std::array source_table{
    source_row{event_type::socket, "socket", make_socket_source},
    source_row{event_type::inode, "inode", make_inode_source},
    source_row{event_type::timer, "timer", make_timer_source},
    source_row{event_type::poll, "poll", make_poll_source},
    source_row{event_type::naio, "naio", nullptr},
    source_row{event_type::aio, "aio", nullptr},
    source_row{event_type::pipe, "pipe", make_pipe_source},
    source_row{event_type::signal, "signal", make_signal_source},
    source_row{event_type::posix_timer, "posix_timer", nullptr},
    source_row{event_type::unotify, "unotify", make_unotify_source},
    source_row{event_type::process, "process", make_process_source},
};

constexpr bool rows_follow_the_enum() noexcept {
    for (std::size_t i = 0; i < source_table.size(); ++i)
        if (source_table[i].type != static_cast<event_type>(i)) return false;
    return source_table.size() == event_type_count;
}
static_assert(rows_follow_the_enum());  // a lookup is source_table[index]: no search, no gap
static_assert(event_type_count == KEVENT_MAX);

}  // namespace

const source_row* find_source_row(std::uint32_t type) noexcept {
    return type < source_table.size() ? &source_table[type] : nullptr;
}

}  // namespace kevring::detail
