#!/usr/bin/env python3
"""Tests the annotations of runtime/thread_mutex.hpp: clang accepts each access with the lock held, and
rejects each one without it.

  thread_safety.py ROOT CLANG

Exits with 77 (skipped) where CLANG is missing.
"""
import shutil
import subprocess
import sys

SOURCE = '''
#include <kevring/runtime/thread_mutex.hpp>
class account {{
public:
    void test(account& other);
private:
    void change() KEVRING_REQUIRES(mutex_) {{ ++balance_; }}
    void lock_and_change() KEVRING_EXCLUDES(mutex_) {{ kevring::thread_lock lock(mutex_); change(); }}
    kevring::thread_mutex mutex_;
    kevring::thread_condition changed_;
    int balance_ KEVRING_GUARDED_BY(mutex_) = 0;
    int* history_ KEVRING_PT_GUARDED_BY(mutex_) = nullptr;
}};
void account::test([[maybe_unused]] account& other) {{ {body} }}
'''

ACCEPTED = [
    'kevring::thread_lock lock(mutex_); ++balance_; *history_ = 1; change();',
    'kevring::thread_lock lock(mutex_); while (balance_ == 0) changed_.wait(lock); ++balance_;',
    'kevring::thread_lock lock(mutex_); lock.unlock(); lock.lock(); ++balance_;',
    'mutex_.lock(); ++balance_; mutex_.unlock();',
    'if (mutex_.try_lock()) { ++balance_; mutex_.unlock(); }',
    'mutex_.assert_held(); ++balance_;',
    'lock_and_change(); kevring::thread_lock lock(mutex_);',
]
REJECTED = [
    '++balance_;',
    '*history_ = 1;',
    'change();',
    'kevring::thread_lock lock(other.mutex_); ++balance_;',
    'kevring::thread_lock lock(mutex_); lock.unlock(); ++balance_;',
    '{ kevring::thread_lock lock(mutex_); } ++balance_;',
    'kevring::thread_lock lock(mutex_); lock_and_change();',
    'kevring::thread_lock lock(mutex_); kevring::thread_lock again(mutex_);',
    'kevring::thread_lock lock(mutex_); lock.lock();',
    'mutex_.lock();',
    'mutex_.unlock();',
    'mutex_.try_lock(); ++balance_;',
    'kevring::thread_lock lock(mutex_); [this] { ++balance_; }();',
]


def message_of(root, compiler, body):
    """The text of clang's errors for a function body; empty where it accepts it."""
    return subprocess.run(
        [compiler, '-x', 'c++', '-std=c++20', '-fsyntax-only', '-Wthread-safety',
         '-Werror=thread-safety', f'-I{root}/include', '-'],
        input=SOURCE.format(body=body), capture_output=True, text=True, check=False).stderr


def main(root, compiler):
    if not shutil.which(compiler):
        print(f'{compiler} is not installed')
        return 77
    failures = 0
    for body in ACCEPTED:
        if message := message_of(root, compiler, body):
            failures += 1
            print(f'rejected, although the lock is held: {body}\n{message}')
    for body in REJECTED:
        if '-Wthread-safety' not in message_of(root, compiler, body):
            failures += 1
            print(f'accepted, although the lock is not held: {body}')
    print(f'{len(ACCEPTED) + len(REJECTED)} bodies, {failures} failures')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
