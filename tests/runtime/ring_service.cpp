// Services of a ring: one object per type and ring, shared by its users, with the ring's lifetime.
#include "tests/support/catch.hpp"

#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/fixed_buffer_pool.hpp>
#include <kevring/runtime/kernel.hpp>
#include <kevring/runtime/ring.hpp>

#include <stdexcept>
#include <string>
#include <vector>

using kevring::ring;
using kevring::ring_service;

namespace {

std::vector<std::string> destroyed;

class first_service final : public ring_service {
public:
    explicit first_service(ring& loop) noexcept : loop_(loop) {}
    ~first_service() override {
        destroyed.push_back(loop_.find_service<first_service>() == nullptr ? "first" : "found");
    }
    ring& loop() const noexcept { return loop_; }

private:
    ring& loop_;
};

// Uses another service of its ring from its construction to its destruction.
class second_service final : public ring_service {
public:
    explicit second_service(ring& loop) : loop_(loop), first_(loop.service<first_service>()) {}
    ~second_service() override {
        destroyed.push_back(loop_.find_service<first_service>() == &first_ ? "second" : "alone");
    }

private:
    ring& loop_;
    first_service& first_;
};

class failing_service final : public ring_service {
public:
    explicit failing_service(ring&) {
        if (failure_count > 0) {
            --failure_count;
            throw std::runtime_error("failing_service");
        }
    }
    static inline unsigned failure_count = 0;
};

// Records when the kernel's ring is closed.
class recording_kernel final : public kevring::kernel {
public:
    void ring_exit(io_uring& uring) noexcept override {
        destroyed.push_back("ring");
        kernel::ring_exit(uring);
    }
};

}  // namespace

TEST_CASE("a ring creates a service at the first use and returns the same object later",
          "[runtime][ring_service]") {
    ring loop;
    CHECK(loop.find_service<first_service>() == nullptr);

    first_service& created = loop.service<first_service>();

    CHECK(&created.loop() == &loop);
    CHECK(&loop.service<first_service>() == &created);
    CHECK(loop.find_service<first_service>() == &created);
}

TEST_CASE("services of different types and of different rings are different objects",
          "[runtime][ring_service]") {
    ring loop;
    ring other;

    ring_service& first = loop.service<first_service>();
    ring_service& second = loop.service<second_service>();

    CHECK(&first != &second);
    CHECK(other.find_service<first_service>() == nullptr);
    CHECK(&other.service<first_service>() != &first);
}

TEST_CASE("services are destroyed newest first, before the kernel's ring is closed",
          "[runtime][ring_service]") {
    destroyed.clear();
    {
        recording_kernel system;
        ring loop({}, system);
        loop.service<second_service>();
    }
    CHECK(destroyed == std::vector<std::string>{"second", "first", "ring"});
}

TEST_CASE("a service whose constructor throws is created by the next call",
          "[runtime][ring_service]") {
    ring loop;
    failing_service::failure_count = 1;

    CHECK_THROWS_AS(loop.service<failing_service>(), std::runtime_error);
    CHECK(loop.find_service<failing_service>() == nullptr);
    CHECK(loop.find_service<first_service>() == nullptr);

    failing_service& created = loop.service<failing_service>();
    CHECK(loop.find_service<failing_service>() == &created);
}

TEST_CASE("the default pools of a ring are services, apart from pools that a program creates",
          "[runtime][ring_service]") {
    ring loop;
    kevring::buffer_pool own(loop);
    CHECK(loop.find_service<kevring::buffer_pool>() == nullptr);

    kevring::buffer_pool& shared = loop.service<kevring::buffer_pool>();
    kevring::fixed_buffer_pool& fixed = loop.service<kevring::fixed_buffer_pool>();

    CHECK(&shared != &own);
    CHECK(&loop.service<kevring::buffer_pool>() == &shared);
    CHECK(&loop.service<kevring::fixed_buffer_pool>() == &fixed);
}
