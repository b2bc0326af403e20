#include <kevring/runtime/task_scope.hpp>

#include <kevring/runtime/result.hpp>

namespace kevring::detail {

[[gnu::cold]] bool is_stop(const std::exception_ptr& failure, stop_cause cause) noexcept {
    if (cause == stop_cause::none || !failure) return false;
    try {
        std::rethrow_exception(failure);
    } catch (const std::system_error& error) {
        return error.code() == errc_of(cause);
    } catch (const tl::bad_expected_access<std::error_code>& access) {
        return access.error() == errc_of(cause);
    } catch (...) {
        return false;
    }
}

}  // namespace kevring::detail
