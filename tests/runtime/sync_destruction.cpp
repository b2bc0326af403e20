// A primitive that is destroyed while a task waits for it ends the program with a message.
#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"

#include <kevring/runtime/channel.hpp>
#include <kevring/runtime/condition.hpp>
#include <kevring/runtime/latch.hpp>
#include <kevring/runtime/mutex.hpp>
#include <kevring/runtime/once.hpp>
#include <kevring/runtime/reset_event.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/semaphore.hpp>
#include <kevring/runtime/sleep.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <type_traits>

using kevring::ring;
using kevring::task;
using kevring::task_scope;
using namespace std::chrono_literals;

namespace {

// The child destroys a primitive while a task waits for it.
template <class Primitive, class... Arguments>
child_outcome destroy_under_waiter(Arguments... arguments) {
    return run_in_child([=] {
        ring loop;
        auto body = [&]() -> task<void> {
            auto primitive = std::make_unique<Primitive>(arguments...);
            std::conditional_t<std::is_same_v<Primitive, kevring::cross_loop::condition>,
                               kevring::cross_loop::mutex, kevring::mutex>
                mutex;
            auto wait = [&]() -> task<void> {
                if constexpr (requires { primitive->acquire(); })
                    static_cast<void>(co_await primitive->acquire());
                else if constexpr (requires { primitive->receive(); })
                    static_cast<void>(co_await primitive->receive());
                else if constexpr (requires { primitive->lock(); })
                    static_cast<void>(co_await primitive->lock());
                else if constexpr (requires {
                                       primitive->arrive_and_wait();
                                       primitive->drop();
                                   })
                    static_cast<void>(co_await primitive->arrive_and_wait());
                else if constexpr (requires { primitive->is_done(); }) {
                    auto endless = []() -> task<void> {
                        static_cast<void>(co_await kevring::sleep_for(1h));
                    };
                    static_cast<void>(co_await primitive->call(endless));
                } else if constexpr (requires { primitive->notify_one(); }) {
                    auto guard = co_await mutex.lock();
                    static_cast<void>(co_await primitive->wait(*guard));
                } else {
                    static_cast<void>(co_await primitive->wait());
                }
            };
            [[maybe_unused]] const auto held = [&] {
                if constexpr (requires { primitive->try_lock(); })
                    return primitive->try_lock();
                else
                    return 0;
            }();
            task_scope scope(loop);
            scope.spawn(wait());
            primitive.reset();
            co_await scope.join();
        };
        kevring::run(loop, body());
    });
}

}  // namespace

TEST_CASE("a primitive destroyed while a task waits for it is refused",
          "[runtime][sync][assertions]") {
    const auto refusal = [](const std::string& name, const std::string& remedy) {
        return name + " destroyed while a task waits for it; " + remedy;
    };
    const std::string users = "end its users first";
    const std::string event = refusal("event", users);
    const std::string channel = refusal("channel", "close() it and join its users first");
    const std::string once = "once destroyed while a call runs; end its users first";
    const std::string locked = "mutex destroyed while it is locked; end its users first";
    namespace cross = kevring::cross_loop;
    CHECK(destroy_under_waiter<kevring::semaphore>(0u).asserted(refusal("semaphore", users)));
    CHECK(destroy_under_waiter<cross::semaphore>(0u).asserted(refusal("semaphore", users)));
    CHECK(destroy_under_waiter<kevring::manual_reset_event>().asserted(event));
    CHECK(destroy_under_waiter<cross::manual_reset_event>().asserted(event));
    CHECK(destroy_under_waiter<kevring::auto_reset_event>().asserted(event));
    CHECK(destroy_under_waiter<cross::auto_reset_event>().asserted(event));
    CHECK(destroy_under_waiter<kevring::latch>(1u).asserted(refusal("latch", users)));
    CHECK(destroy_under_waiter<cross::latch>(1u).asserted(refusal("latch", users)));
    CHECK(destroy_under_waiter<kevring::barrier>(2u).asserted(refusal("barrier", users)));
    CHECK(destroy_under_waiter<cross::barrier>(2u).asserted(refusal("barrier", users)));
    CHECK(destroy_under_waiter<kevring::channel<int>>(1u).asserted(channel));
    CHECK(destroy_under_waiter<cross::channel<int>>(1u).asserted(channel));
    CHECK(destroy_under_waiter<kevring::condition>().asserted(refusal("condition", users)));
    CHECK(destroy_under_waiter<cross::condition>().asserted(refusal("condition", users)));
    CHECK(destroy_under_waiter<kevring::once>().asserted(once));
    CHECK(destroy_under_waiter<cross::once>().asserted(once));
    CHECK(destroy_under_waiter<kevring::mutex>().asserted(locked));
    CHECK(destroy_under_waiter<cross::mutex>().asserted(locked));
    CHECK(destroy_under_waiter<kevring::shared_mutex>().asserted(locked));
    CHECK(destroy_under_waiter<cross::shared_mutex>().asserted(locked));
}
