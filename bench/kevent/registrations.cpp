// bench/kevent/registrations.cpp: memory of a registration.
//
// A million user events and a million timers on one queue each. The baseline is the record of 40
// bytes itself; the aim is at most 200 bytes above it, of heap and of resident memory; the program
// fails where it is more. With any argument the counts are small.
#include <kevring/kevent/kevent.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <new>
#include <vector>

#include <malloc.h>
#include <unistd.h>

namespace {

// Bytes from the allocator, with the word that it keeps for itself before each block.
std::size_t heap_bytes = 0;

std::size_t cost_of(void* block) { return ::malloc_usable_size(block) + sizeof(std::size_t); }

}  // namespace

// The queue's other threads allocate nothing in that time.
void* operator new(std::size_t bytes) {
    void* const block = std::malloc(std::max<std::size_t>(bytes, 1));
    if (block == nullptr) throw std::bad_alloc();
    heap_bytes += cost_of(block);
    return block;
}
void operator delete(void* block) noexcept {
    if (block != nullptr) heap_bytes -= cost_of(block);
    std::free(block);
}
void operator delete(void* block, std::size_t) noexcept { operator delete(block); }

namespace {

constexpr unsigned batch = 1000;
constexpr double above_record_max = 200;

std::size_t resident_bytes() {
    std::size_t all = 0;
    std::size_t resident = 0;
    std::ifstream("/proc/self/statm") >> all >> resident;
    return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

ukevent user_event(unsigned index) {
    ukevent made{};
    made.type = KEVENT_UNOTIFY;
    made.event = KEVENT_MASK_ALL;
    made.id.raw_u64 = index;
    return made;
}

// The period is its name; none of them ends during the measurement.
ukevent timer(unsigned index) {
    ukevent made{};
    made.type = KEVENT_TIMER;
    made.event = KEVENT_TIMER_FIRED;
    made.id.raw[0] = 3600 + index;
    return made;
}

void add(int queue, std::vector<ukevent>& records) {
    const auto count = static_cast<unsigned>(records.size());
    if (kevent_ctl(queue, KEVENT_CTL_ADD, count, records.data()) == 0) return;
    std::fprintf(stderr, "not all were registered\n");
    std::exit(1);
}

// False if it costs more than it may. The queue stays open: what it gives back would be counted in
// the next measurement.
bool measure(const char* name, ukevent (*make)(unsigned), unsigned count) {
    std::vector<ukevent> records;
    records.reserve(batch);
    const int queue = kevent_init(nullptr, 0, 0);
    records.push_back(make(0));
    add(queue, records);  // what the first needs, no other does

    ::malloc_trim(0);
    const std::size_t heap_before = heap_bytes;
    const std::size_t resident_before = resident_bytes();
    for (unsigned made = 0; made < count; made += batch) {
        records.clear();
        for (unsigned i = 1; i <= batch; ++i) records.push_back(make(made + i));
        add(queue, records);
    }
    const auto each = [count](std::size_t before, std::size_t after) {
        return (static_cast<double>(after) - static_cast<double>(before)) / count;
    };
    const double heap = each(heap_before, heap_bytes);
    const double resident = each(resident_before, resident_bytes());

    constexpr auto record = static_cast<double>(sizeof(ukevent));
    std::printf(
        "%8u %-7s bytes each: heap %4.0f (record + %3.0f), resident %4.0f (record + %3.0f)\n",
        count, name, heap, heap - record, resident, resident - record);
    return std::max(heap, resident) - record <= above_record_max;
}

}  // namespace

int main(int argc, char**) {
    const unsigned count = argc > 1 ? 20'000 : 1'000'000;
    const bool notes_fit = measure("notes", user_event, count);
    const bool timers_fit = measure("timers", timer, count);
    return notes_fit && timers_fit ? 0 : 1;
}
