// errors.cpp: misuse that does not compile; see diagnostics.py for the marks.
#include <kevring/kevring.hpp>

using namespace kevring;

task<int> number();
task<void> nothing();

// A task is awaited once. An lvalue could be awaited again.
task<void> lvalue_value() {
    task<int> kept = number();
    const int first = co_await kept;  // error
    static_cast<void>(first);
}
task<void> lvalue_void() {
    task<void> kept = nothing();
    co_await kept;  // error
}
task<void> lvalue_const() {
    const task<void> kept = nothing();
    co_await kept;  // error
}
task<void> lvalue_parameter(task<void>& kept) {
    co_await kept;  // error
}
task<void> rvalue() {
    task<int> kept = number();
    static_cast<void>(co_await std::move(kept));
    co_await nothing();
}
