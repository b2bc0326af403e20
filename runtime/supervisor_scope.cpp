#include <kevring/runtime/supervisor_scope.hpp>

#include <cstdio>

namespace kevring {

std::string task_failure::message() const {
    try {
        std::rethrow_exception(exception);
    } catch (const std::exception& failure) {
        return failure.what();
    } catch (...) {
        return "an exception that is no std::exception";
    }
}

void print_task_failure(const task_failure& failure) noexcept {
    try {
        std::fprintf(stderr, "kevring: %.*s of %.*s failed: %s; the others continue\n",
                     static_cast<int>(failure.task_name.size()), failure.task_name.data(),
                     static_cast<int>(failure.scope_name.size()), failure.scope_name.data(),
                     failure.message().c_str());
    } catch (...) {
        std::fputs("kevring: a task failed, and there is no memory to describe it\n", stderr);
    }
}

task<void> supervisor_scope::run(task<void> child, std::string_view name) {
    // As a task of task_scope::spawn() with a name, without a frame for it.
    const task_scope::named_task entry(tasks_.named_, name);
    std::exception_ptr failure;
    try {
        co_await std::move(child);
    } catch (...) {
        failure = std::current_exception();
    }
    if (!failure || detail::is_stop(failure, tasks_.scope().cause())) co_return;
    ++failure_count_;
    report_(task_failure{name, tasks_.name(), failure});
}

}  // namespace kevring
