// unotify.cpp: events of the program's own, fired by KEVENT_CTL_READY.
#include <kevring/kevent/detail/source.hpp>

namespace kevring::detail {
namespace {

// There is no origin. Silent when added, unless ALWAYS_QUEUE asks otherwise; MODIFY fires it.
class unotify_source final : public source {
public:
    using source::source;

    int arm() override { return 0; }
    readiness test() override { return readiness::ready; }
    readiness test_added() override {
        return of_.has(KEVENT_REQ_ALWAYS_QUEUE) ? readiness::ready : readiness::not_ready;
    }
    void disarm() noexcept override {}
};

}  // namespace

result<std::unique_ptr<source>> make_unotify_source(source_host& host, registration& of) {
    return std::make_unique<unotify_source>(host, of);
}

}  // namespace kevring::detail
