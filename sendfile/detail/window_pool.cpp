#include <kevring/sendfile/detail/window_pool.hpp>

#include <array>
#include <new>

namespace kevring::detail {
namespace {

constexpr std::align_val_t page{4096};

struct free_list {
    struct link {
        link* next;
    };
    link* first = nullptr;
    unsigned count = 0;
};

// Further buffers are returned to the system, so that a burst does not keep memory.
constexpr std::array<unsigned, 2> kept_max{64, 16};

struct pool {
    std::array<free_list, 2> lists;
    std::size_t in_use_count = 0;
    bool alive = true;
    ~pool() {
        alive = false;
        for (free_list& list : lists)
            while (list.first != nullptr) {
                free_list::link* const buffer = list.first;
                list.first = buffer->next;
                ::operator delete(buffer, page);
            }
    }
};

thread_local pool buffers;

}  // namespace

window_buffer::window_buffer(size_class size) : size_(size) {
    free_list& list = buffers.lists[static_cast<std::size_t>(size)];
    if (list.first != nullptr) {
        data_ = reinterpret_cast<std::byte*>(list.first);
        list.first = list.first->next;
        --list.count;
    } else {
        data_ = static_cast<std::byte*>(::operator new(bytes_of(size), page));
    }
    ++buffers.in_use_count;
}

window_buffer::~window_buffer() {
    if (data_ == nullptr) return;
    pool& home = buffers;
    --home.in_use_count;
    free_list& list = home.lists[static_cast<std::size_t>(size_)];
    // A frame can outlive the thread's statics, when the program ends.
    if (!home.alive || list.count == kept_max[static_cast<std::size_t>(size_)]) {
        ::operator delete(data_, page);
        return;
    }
    list.first = new (data_) free_list::link{list.first};
    ++list.count;
}

std::size_t window_buffer::in_use_count() noexcept { return buffers.in_use_count; }

}  // namespace kevring::detail
