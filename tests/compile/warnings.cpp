// warnings.cpp: dropped operations, tasks and results; see diagnostics.py for the marks.
#include <kevring/kevring.hpp>

#include <array>

using namespace kevring;
using namespace std::chrono_literals;

task<int> number();
task<result<int>> fallible();
task<void> nothing();

// Operations and tasks that are never awaited do nothing.
void not_awaited(ring& loop, kevring::socket& s, listener& l, event_queue& queue, task_scope& scope,
                 std::stop_token stop) {
    timer(1s);                          // warning
    sleep_for(1s);                      // warning
    sleep_until(steady_time::max());    // warning
    yield();                            // warning
    readable(s.native());               // warning
    writable(s.native());               // warning
    s.receive();                        // warning
    s.send(std::string_view("text"));   // warning
    s.close();                          // warning
    l.accept();                         // warning
    queue.next();                       // warning
    number();                           // warning
    nothing();                          // warning
    with_timeout(number(), 1s);         // warning
    with_timeout(s.receive(), 1s);      // warning
    with_stop(number(), stop);          // warning
    when_any(number(), sleep_for(1s));  // warning
    when_all(number(), nothing());      // warning
    within(1s);                         // warning
    scope.join();                       // warning
    current_scope();                    // warning
    nop_operation{loop};                // warning unless g++ 12
}

// A dropped result hides a failure, or a stop that the program then does not obey.
task<void> dropped(kevring::socket& s, listener& l, std::span<std::byte> buffer,
                   std::stop_token stop) {
    co_await s.send(std::string_view("text"));   // warning unless g++ 12
    co_await s.receive();                        // warning unless g++ 12
    co_await s.receive(buffer);                  // warning unless g++ 12
    co_await l.accept();                         // warning unless g++ 12
    co_await sleep_for(1s);                      // warning unless g++ 12
    co_await timer(1s);                          // warning unless g++ 12
    co_await readable(s.native());               // warning unless g++ 12
    co_await fallible();                         // warning unless g++ 12
    co_await number();                           // warning unless g++ 12
    co_await with_timeout(fallible(), 1s);       // warning unless g++ 12
    co_await with_timeout(s.receive(), 1s);      // warning unless g++ 12
    co_await with_stop(fallible(), stop);        // warning unless g++ 12
    co_await when_all(number(), nothing());      // warning unless g++ 12
    co_await when_any(number(), sleep_for(1s));  // warning unless g++ 12
    co_await within(1s);                         // warning unless g++ 12
}

// These carry no result.
task<void> without_result(task_scope& scope) {
    co_await nothing();
    co_await when_all(nothing(), nothing());
    co_await when_any(nothing(), nothing());
    co_await with_timeout(nothing(), 1s);
    co_await yield();
    co_await scope.join();
    static_cast<void>(co_await fallible());
    const auto received = co_await fallible();
    static_cast<void>(received);
}
