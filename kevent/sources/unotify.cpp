// unotify.cpp: events of the program's own, fired by KEVENT_CTL_READY.
#include <kevring/kevent/detail/source.hpp>

#include <limits>
#include <utility>

namespace kevring::detail {
namespace {

// There is no origin. Silent when added, unless ALWAYS_QUEUE asks otherwise; MODIFY fires it.
//
// ret_data[1]   READY commands since the last record; 0 where something else has fired it
class unotify_source final : public source {
public:
    using source::source;

    int arm() override { return 0; }
    readiness test() override { return readiness::ready; }
    readiness test_on_add() override {
        return registration_.has(KEVENT_REQ_ALWAYS_QUEUE) ? readiness::ready : readiness::not_ready;
    }
    void disarm() noexcept override {}
    void on_marked_ready() noexcept override {
        if (marked_count_ != std::numeric_limits<std::uint32_t>::max()) ++marked_count_;
    }
    bool before_collect() noexcept override {
        set_results(0, std::exchange(marked_count_, 0));
        return true;
    }

private:
    std::uint32_t marked_count_ = 0;
};

}  // namespace

result<std::unique_ptr<source>> make_unotify_source(source_host& host, registration& target) {
    return std::make_unique<unotify_source>(host, target);
}

}  // namespace kevring::detail
