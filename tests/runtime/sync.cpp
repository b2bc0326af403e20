// Primitives by which coroutines wait for each other: order, stops, deadlines, destruction.
#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"

#include <kevring/runtime/channel.hpp>
#include <kevring/runtime/condition.hpp>
#include <kevring/runtime/latch.hpp>
#include <kevring/runtime/mutex.hpp>
#include <kevring/runtime/once.hpp>
#include <kevring/runtime/reset_event.hpp>
#include <kevring/runtime/semaphore.hpp>
#include <kevring/runtime/when.hpp>

#include <atomic>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

using kevring::result;
using kevring::ring;
using kevring::stop_cause;
using kevring::task;
using kevring::task_scope;
using kevring::yield;
using namespace std::chrono_literals;

namespace {

// Each primitive behind one interface: a wait that `release` ends for the waiter that has waited
// longest, or for all.
struct one_mutex {
    static constexpr bool releases_all = false;
    kevring::mutex m;
    std::vector<kevring::mutex::guard> held;
    one_mutex() { held.push_back(std::move(*m.try_lock())); }
    ~one_mutex() { held.clear(); }
    auto wait() { return m.lock(); }
    template <class T>
    void keep(T& acquired) {
        held.push_back(std::move(*acquired));
    }
    void release() { held.erase(held.begin()); }
};
struct cross_mutex {
    static constexpr bool releases_all = false;
    kevring::cross_loop::mutex m;
    std::vector<kevring::cross_loop::mutex::guard> held;
    cross_mutex() { held.push_back(std::move(*m.try_lock())); }
    ~cross_mutex() { held.clear(); }
    auto wait() { return m.lock(); }
    template <class T>
    void keep(T& acquired) {
        held.push_back(std::move(*acquired));
    }
    void release() { held.erase(held.begin()); }
};
template <class Semaphore>
struct with_semaphore {
    static constexpr bool releases_all = false;
    Semaphore s{0};
    auto wait() { return s.acquire(); }
    template <class T>
    void keep(T&) {}
    void release() { s.release(); }
};
template <class Event>
struct with_auto_event {
    static constexpr bool releases_all = false;
    Event e;
    auto wait() { return e.wait(); }
    template <class T>
    void keep(T&) {}
    void release() { e.set(); }
};
template <class Event>
struct with_manual_event {
    static constexpr bool releases_all = true;
    Event e;
    auto wait() { return e.wait(); }
    template <class T>
    void keep(T&) {}
    void release() { e.set(); }
};
template <class Latch>
struct with_latch {
    static constexpr bool releases_all = true;
    Latch l{1};
    auto wait() { return l.wait(); }
    template <class T>
    void keep(T&) {}
    void release() { l.count_down(); }
};
// Of two, one of which does not arrive.
template <class Barrier>
struct with_barrier {
    Barrier b{2};
    auto wait() { return b.arrive_and_wait(); }
    template <class T>
    void keep(T&) {}
};
template <class Condition>
struct with_condition {
    static constexpr bool releases_all = false;
    using mutex = std::conditional_t<std::is_same_v<Condition, kevring::condition>, kevring::mutex,
                                     kevring::cross_loop::mutex>;
    mutex m;
    Condition c;
    task<result<void>> wait() {
        auto guard = co_await m.lock();
        if (!guard) co_return tl::unexpected<std::error_code>(guard.error());
        co_return co_await c.wait(*guard);
    }
    template <class T>
    void keep(T&) {}
    void release() { c.notify_one(); }
};

// One side of a shared_mutex, of which a writer holds the other.
template <class Mutex, bool shared>
struct with_shared_mutex {
    static constexpr bool releases_all = shared;
    Mutex m;
    std::vector<typename Mutex::guard> held;
    with_shared_mutex() { held.push_back(std::move(*m.try_lock())); }
    ~with_shared_mutex() { held.clear(); }
    auto wait() {
        if constexpr (shared)
            return m.lock_shared();
        else
            return m.lock();
    }
    template <class T>
    void keep(T& acquired) {
        held.push_back(std::move(*acquired));
    }
    void release() { held.erase(held.begin()); }
};
template <class Mutex>
struct with_writers : with_shared_mutex<Mutex, false> {};
template <class Mutex>
struct with_readers : with_shared_mutex<Mutex, true> {};
template <class Channel>
struct with_receivers {
    static constexpr bool releases_all = false;
    Channel c{1};
    auto wait() { return c.receive(); }
    template <class T>
    void keep(T&) {}
    void release() { CHECK(c.try_send(1)); }
};
template <class Channel>
struct with_senders {
    static constexpr bool releases_all = false;
    Channel c{0};
    auto wait() { return c.send(1); }
    template <class T>
    void keep(T&) {}
    void release() { CHECK(c.try_receive().has_value()); }
};
// The first call runs a body that waits; its end releases the others.
template <class Once>
struct with_once {
    static constexpr bool releases_all = true;
    Once o;
    kevring::auto_reset_event end_of_body;
    task<result<void>> wait() {
        auto body = [this]() -> task<result<void>> { co_return co_await end_of_body.wait(); };
        co_return co_await o.call(body);
    }
    template <class T>
    void keep(T&) {}
    void release() { end_of_body.set(); }
};

template <class Primitive>
task<void> wait_and_note(Primitive& primitive, int number, std::vector<int>& order) {
    auto outcome = co_await primitive.wait();
    if (!outcome) {
        order.push_back(-number);
        co_return;
    }
    primitive.keep(outcome);
    order.push_back(number);
}

}  // namespace

#define KEVRING_PRIMITIVES                                                                      \
    one_mutex, cross_mutex, with_semaphore<kevring::semaphore>,                                 \
        with_semaphore<kevring::cross_loop::semaphore>,                                         \
        with_auto_event<kevring::auto_reset_event>,                                             \
        with_auto_event<kevring::cross_loop::auto_reset_event>,                                 \
        with_manual_event<kevring::manual_reset_event>,                                         \
        with_manual_event<kevring::cross_loop::manual_reset_event>, with_latch<kevring::latch>, \
        with_latch<kevring::cross_loop::latch>, with_condition<kevring::condition>,             \
        with_condition<kevring::cross_loop::condition>, with_writers<kevring::shared_mutex>,    \
        with_readers<kevring::shared_mutex>, with_writers<kevring::cross_loop::shared_mutex>,   \
        with_readers<kevring::cross_loop::shared_mutex>, with_receivers<kevring::channel<int>>, \
        with_receivers<kevring::cross_loop::channel<int>>, with_senders<kevring::channel<int>>, \
        with_senders<kevring::cross_loop::channel<int>>, with_once<kevring::once>,              \
        with_once<kevring::cross_loop::once>

TEMPLATE_TEST_CASE("waiters are released in the order in which they came", "[runtime][sync]",
                   KEVRING_PRIMITIVES) {
    ring loop;
    auto body = [&]() -> task<void> {
        TestType primitive;
        std::vector<int> order;
        task_scope scope(loop);
        for (int i = 1; i <= 5; ++i) scope.spawn(wait_and_note(primitive, i, order));
        co_await yield();
        CHECK(order.empty());
        for (int i = 0; i < (TestType::releases_all ? 1 : 5); ++i) {
            primitive.release();
            CHECK(order.size() == static_cast<std::size_t>(i));  // resumed by the loop
            co_await yield();
            co_await yield();
        }
        co_await scope.join();
        CHECK(order == std::vector<int>{1, 2, 3, 4, 5});
    };
    run_on(loop, body);
}

TEMPLATE_TEST_CASE("a stop ends a wait, and the others keep their places", "[runtime][sync]",
                   KEVRING_PRIMITIVES) {
    ring loop;
    auto body = [&]() -> task<void> {
        TestType primitive;
        std::vector<int> order;
        task_scope scope(loop);
        std::vector<std::unique_ptr<task_scope>> stopped;
        for (int i = 1; i <= 6; ++i) {
            if (i % 2 == 0) {
                scope.spawn(wait_and_note(primitive, i, order));
            } else {
                stopped.push_back(std::make_unique<task_scope>(loop));
                stopped.back()->spawn(wait_and_note(primitive, i, order));
            }
        }
        co_await yield();
        for (auto& each : stopped) each->request_stop();
        for (auto& each : stopped) co_await each->join();
        CHECK(order == std::vector<int>{-1, -3, -5});
        for (int i = 0; i < (TestType::releases_all ? 1 : 3); ++i) {
            primitive.release();
            co_await yield();
            co_await yield();
        }
        co_await scope.join();
        CHECK(order == std::vector<int>{-1, -3, -5, 2, 4, 6});
    };
    run_on(loop, body);
}

TEMPLATE_TEST_CASE("a stop before the wait ends it at once, one after the release not at all",
                   "[runtime][sync]", KEVRING_PRIMITIVES) {
    ring loop;
    auto body = [&]() -> task<void> {
        TestType primitive;
        std::vector<int> order;
        task_scope before(loop);
        before.request_stop();
        before.spawn(wait_and_note(primitive, 1, order));
        co_await before.join();
        CHECK(order == std::vector<int>{-1});

        task_scope after(loop);
        after.spawn(wait_and_note(primitive, 2, order));
        co_await yield();
        primitive.release();
        after.request_stop();  // it has been released, and runs in the next iteration
        co_await after.join();
        CHECK(order == std::vector<int>{-1, 2});
    };
    run_on(loop, body);
}

TEMPLATE_TEST_CASE("a deadline ends a wait with timed_out", "[runtime][sync]", KEVRING_PRIMITIVES) {
    scripted_kernel script;
    script.clock_ns = 1'000'000'000;
    ring loop({}, script);
    auto body = [&]() -> task<void> {
        TestType primitive;
        auto outcome = co_await kevring::with_timeout(primitive.wait(), 5ms);
        REQUIRE(!outcome.has_value());
        CHECK(outcome.error() == std::errc::timed_out);
        const auto limit = co_await kevring::within(5ms);
        auto second = co_await primitive.wait();
        REQUIRE(!second.has_value());
        CHECK(second.error() == std::errc::timed_out);
    };
    run_on(loop, body);
}

TEMPLATE_TEST_CASE("a wait that loses a race passes on what it was given", "[runtime][sync]",
                   one_mutex, cross_mutex, with_semaphore<kevring::semaphore>,
                   with_semaphore<kevring::cross_loop::semaphore>,
                   with_auto_event<kevring::auto_reset_event>,
                   with_auto_event<kevring::cross_loop::auto_reset_event>) {
    ring loop;
    auto body = [&]() -> task<void> {
        TestType primitive;
        std::vector<int> order;
        task_scope scope(loop);
        auto release_then_win = [&]() -> task<int> {
            co_await yield();
            primitive.release();  // the wait is released, and has not run
            co_return 1;
        };
        auto contest = [&]() -> task<void> {
            const auto outcome = co_await kevring::when_any(primitive.wait(), release_then_win());
            CHECK(outcome.index == 1);
            CHECK(!std::get<0>(outcome.values).has_value());
        };
        scope.spawn(contest());
        scope.spawn(wait_and_note(primitive, 7, order));
        co_await scope.join();
        CHECK(order == std::vector<int>{7});
    };
    run_on(loop, body);
}

TEST_CASE("a wait allocates nothing", "[runtime][sync]") {
    if (!allocations_are_counted()) return;
    ring loop;
    auto body = [&]() -> task<void> {
        kevring::semaphore one(0);
        kevring::cross_loop::semaphore other(0);
        auto waiter = [&]() -> task<void> {
            for (int i = 0; i < 1000; ++i) {
                const auto first = co_await one.acquire();
                const auto second = co_await other.acquire();
                REQUIRE((first.has_value() && second.has_value()));
            }
        };
        task_scope scope(loop);
        scope.spawn(waiter());
        const std::uint64_t before = allocation_count();
        for (int i = 0; i < 1000; ++i) {
            one.release();
            co_await yield();
            other.release();
            co_await yield();
        }
        const std::uint64_t allocated = allocation_count() - before;
        co_await scope.join();
        CHECK(allocated == 0);
    };
    run_on(loop, body);
}

TEST_CASE("unlock passes a mutex to the waiter, and no other coroutine takes it",
          "[runtime][sync][mutex]") {
    ring loop;
    auto body = [&]() -> task<void> {
        kevring::mutex m;
        auto first = m.try_lock();
        REQUIRE(first.has_value());
        CHECK(!m.try_lock().has_value());
        bool waiter_holds = false;
        auto waiter = [&]() -> task<void> {
            auto guard = co_await m.lock();
            waiter_holds = guard.has_value();
            co_await yield();
        };
        task_scope scope(loop);
        scope.spawn(waiter());
        first->unlock();
        CHECK(!m.try_lock().has_value());  // it is the waiter's, which has not run yet
        auto mine = co_await m.lock();
        CHECK(waiter_holds);
        REQUIRE(mine.has_value());
        mine->unlock();
        mine->unlock();
        CHECK(!mine->owns_lock());
        co_await scope.join();
    };
    run_on(loop, body);
}

TEMPLATE_TEST_CASE("readers share a mutex, and a writer that waits is not overtaken",
                   "[runtime][sync][mutex]", kevring::shared_mutex,
                   kevring::cross_loop::shared_mutex) {
    ring loop;
    auto body = [&]() -> task<void> {
        TestType m;
        std::string trace;
        auto reader = [&](char name, int yields) -> task<void> {
            auto guard = co_await m.lock_shared();
            if (!guard) {
                trace += '-';
                co_return;
            }
            trace += name;
            for (int i = 0; i < yields; ++i) co_await yield();
            trace += static_cast<char>(name - 'a' + 'A');
        };
        auto writer = [&](char name) -> task<void> {
            auto guard = co_await m.lock();
            if (!guard) {
                trace += '!';
                co_return;
            }
            trace += name;
            co_await yield();
            trace += static_cast<char>(name - 'a' + 'A');
        };
        task_scope scope(loop);
        scope.spawn(reader('a', 3));
        scope.spawn(reader('b', 3));
        scope.spawn(writer('w'));
        scope.spawn(reader('c', 1));
        scope.spawn(reader('d', 1));
        CHECK(!m.try_lock_shared().has_value());  // behind the writer
        co_await scope.join();
        CHECK(trace == "abABwWcdCD");

        // A writer that is stopped lets the readers behind it in.
        trace.clear();
        auto first = m.try_lock_shared();
        task_scope stopped(loop);
        stopped.spawn(writer('x'));
        scope.spawn(reader('e', 0));
        co_await yield();
        CHECK(trace.empty());
        stopped.request_stop();
        co_await stopped.join();
        co_await scope.join();
        CHECK(trace.find("eE") != std::string::npos);
        first.reset();
        CHECK(m.try_lock().has_value());
    };
    run_on(loop, body);
}

TEMPLATE_TEST_CASE("a large request for permits is not overtaken by smaller ones",
                   "[runtime][sync][semaphore]", kevring::semaphore,
                   kevring::cross_loop::semaphore) {
    ring loop;
    auto body = [&]() -> task<void> {
        TestType permits(2);
        std::vector<int> order;
        auto acquire = [&](std::size_t count) -> task<void> {
            const auto acquired = co_await permits.acquire(count);
            order.push_back(acquired ? static_cast<int>(count) : -static_cast<int>(count));
        };
        task_scope scope(loop);
        task_scope stopped(loop);
        stopped.spawn(acquire(5));
        scope.spawn(acquire(1));
        scope.spawn(acquire(3));
        co_await yield();
        CHECK(order.empty());
        CHECK(!permits.try_acquire());
        stopped.request_stop();  // the next ones ask for less
        co_await stopped.join();
        co_await yield();
        CHECK(order == std::vector<int>{-5, 1});
        permits.release(2);
        co_await scope.join();
        CHECK(order == std::vector<int>{-5, 1, 3});
        CHECK(permits.available() == 0);
    };
    run_on(loop, body);
}

TEMPLATE_TEST_CASE("a barrier lets all continue together, phase by phase",
                   "[runtime][sync][barrier]", kevring::barrier, kevring::cross_loop::barrier) {
    ring loop;
    auto body = [&]() -> task<void> {
        TestType phases(3);
        std::vector<int> reached(3, 0);
        int last_count = 0;
        auto worker = [&](int number) -> task<void> {
            for (int phase = 0; phase < 10; ++phase) {
                for (int i = 0; i < number; ++i) co_await yield();
                ++reached[static_cast<std::size_t>(number)];
                const auto last = co_await phases.arrive_and_wait();
                REQUIRE(last.has_value());
                last_count += *last ? 1 : 0;
                for (const int each : reached) CHECK(each >= phase + 1);
            }
        };
        task_scope scope(loop);
        for (int i = 0; i < 3; ++i) scope.spawn(worker(i));
        co_await scope.join();
        CHECK(last_count == 10);

        // A stop takes the arrival back; a drop makes do with fewer.
        const auto stopped = co_await kevring::with_timeout(phases.arrive_and_wait(), 1us);
        CHECK(stopped.error() == std::errc::timed_out);
        int passed = 0;
        auto once = [&]() -> task<void> {
            const auto last = co_await phases.arrive_and_wait();
            passed += last ? 1 : 0;
        };
        scope.spawn(once());
        scope.spawn(once());
        co_await yield();
        CHECK(passed == 0);
        phases.drop();
        co_await scope.join();
        CHECK(passed == 2);

        // A stop before the arrival is none, and one after the phase is complete changes nothing.
        task_scope before(loop);
        before.request_stop();
        before.spawn(once());
        co_await before.join();
        task_scope after(loop);
        after.spawn(once());
        co_await yield();
        CHECK(passed == 2);
        scope.spawn(once());
        after.request_stop();
        co_await after.join();
        co_await scope.join();
        CHECK(passed == 4);
    };
    run_on(loop, body);
}

TEMPLATE_TEST_CASE("a condition releases the mutex while it waits, and holds it afterwards",
                   "[runtime][sync][condition]", with_condition<kevring::condition>,
                   with_condition<kevring::cross_loop::condition>) {
    ring loop;
    auto body = [&]() -> task<void> {
        TestType pair;
        int value = 0;
        std::vector<int> seen;
        auto consumer = [&]() -> task<void> {
            auto guard = co_await pair.m.lock();
            while (value < 3) {
                const auto notified = co_await pair.c.wait(*guard);
                REQUIRE(notified.has_value());
                CHECK(guard->owns_lock());
                CHECK(!pair.m.try_lock().has_value());
                seen.push_back(value);
            }
        };
        task_scope scope(loop);
        scope.spawn(consumer());
        for (int i = 0; i < 3; ++i) {
            {
                auto guard = co_await pair.m.lock();
                ++value;
                pair.c.notify_all();
            }
            co_await yield();
            co_await yield();
        }
        co_await scope.join();
        CHECK(seen == std::vector<int>{1, 2, 3});

        // A stop does not apply to taking the mutex again.
        auto stopped = [&]() -> task<void> {
            auto guard = co_await pair.m.lock();
            const auto notified = co_await pair.c.wait(*guard);
            CHECK(notified.error() == std::errc::operation_canceled);
            CHECK(guard->owns_lock());
        };
        task_scope other(loop);
        other.spawn(stopped());
        auto held = co_await pair.m.lock();
        other.request_stop();
        co_await yield();
        CHECK(other.active_count() == 1);  // it waits for the mutex
        held->unlock();
        co_await other.join();
    };
    run_on(loop, body);
}

TEMPLATE_TEST_CASE("a body runs once, and again where it has failed", "[runtime][sync][once]",
                   kevring::once, kevring::cross_loop::once) {
    ring loop;
    auto body = [&]() -> task<void> {
        TestType done;
        int runs = 0;
        int succeeded = 0;
        int failed = 0;
        auto work = [&]() -> task<result<void>> {
            ++runs;
            co_await yield();
            if (runs == 1) throw std::runtime_error("first");
            if (runs == 2) co_return kevring::error_from(std::errc::io_error);
            co_return result<void>();
        };
        auto call = [&]() -> task<void> {
            try {
                const auto called = co_await done.call(work);
                (called ? succeeded : failed) += 1;
            } catch (const std::runtime_error&) {
                ++failed;
            }
        };
        task_scope scope(loop);
        for (int i = 0; i < 6; ++i) scope.spawn(call());
        co_await scope.join();
        CHECK(runs == 3);
        CHECK(failed == 2);
        CHECK(succeeded == 4);
        CHECK(done.is_done());
        co_await call();
        CHECK(runs == 3);

        auto nothing = [&]() -> task<void> { co_await yield(); };
        TestType second;
        const auto first = co_await second.call(nothing);
        CHECK(first.has_value());
    };
    run_on(loop, body);
}

// The waiter resumes in the next iteration, and does not touch the primitive then.
TEMPLATE_TEST_CASE(
    "a primitive may be destroyed once its waiters have been stopped", "[runtime][sync]", one_mutex,
    cross_mutex, with_semaphore<kevring::semaphore>, with_semaphore<kevring::cross_loop::semaphore>,
    with_auto_event<kevring::auto_reset_event>,
    with_auto_event<kevring::cross_loop::auto_reset_event>,
    with_manual_event<kevring::manual_reset_event>,
    with_manual_event<kevring::cross_loop::manual_reset_event>, with_latch<kevring::latch>,
    with_latch<kevring::cross_loop::latch>, with_barrier<kevring::barrier>,
    with_barrier<kevring::cross_loop::barrier>, with_writers<kevring::shared_mutex>,
    with_readers<kevring::shared_mutex>, with_writers<kevring::cross_loop::shared_mutex>,
    with_readers<kevring::cross_loop::shared_mutex>, with_receivers<kevring::channel<int>>,
    with_receivers<kevring::cross_loop::channel<int>>, with_senders<kevring::channel<int>>,
    with_senders<kevring::cross_loop::channel<int>>) {
    ring loop;
    auto body = [&]() -> task<void> {
        auto primitive = std::make_unique<TestType>();
        std::vector<int> order;
        task_scope scope(loop);
        scope.spawn(wait_and_note(*primitive, 1, order));
        co_await yield();
        scope.request_stop();
        primitive.reset();
        co_await scope.join();
        CHECK(order == std::vector<int>{-1});
    };
    run_on(loop, body);
}
