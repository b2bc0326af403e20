// curl_fetch.cpp: libcurl on a ring: the multi interface names descriptors and a timeout, and tasks wait for
// them. Fetches all addresses at the same time. Try: build/examples/curl_fetch http://127.0.0.1:8080/
#include <kevring/kevring.hpp>

#include <curl/curl.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <poll.h>

namespace {

/// Transfers of libcurl whose descriptors and timeout a ring waits for.
///
/// Lifetime   `tasks` are joined before it is destroyed; no fetch() is pending then.
/// Thread     The loop's thread.
class curl_transfers {
public:
    curl_transfers(kevring::ring& loop, kevring::task_scope& tasks)
        : loop_(loop), tasks_(tasks), multi_(::curl_multi_init()) {
        if (multi_ == nullptr) throw std::runtime_error("curl_multi_init() failed");
        ::curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, socket_changed);
        ::curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
        ::curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, timeout_changed);
        ::curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
        tasks_.spawn(wait_for_timeouts());
    }
    curl_transfers(const curl_transfers&) = delete;
    curl_transfers& operator=(const curl_transfers&) = delete;
    ~curl_transfers() {
        // The tasks are joined, and libcurl may close connections now.
        ::curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, nullptr);
        ::curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, nullptr);
        ::curl_multi_cleanup(multi_);
    }

    /// Performs the transfer of `easy`. A stop or deadline of the caller removes it.
    kevring::task<CURLcode> fetch(CURL* easy) {
        transfer running;
        ::curl_easy_setopt(easy, CURLOPT_PRIVATE, &running);
        ::curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
        if (::curl_multi_add_handle(multi_, easy) != CURLM_OK) co_return CURLE_FAILED_INIT;
        const auto ended = co_await running.ended.wait();
        ::curl_multi_remove_handle(multi_, easy);
        co_return ended ? running.code : CURLE_ABORTED_BY_CALLBACK;
    }

private:
    struct transfer {
        kevring::manual_reset_event ended;
        CURLcode code = CURLE_OK;
    };
    // A descriptor of libcurl. Its task ends when `wanted` is CURL_POLL_REMOVE.
    struct watch {
        int wanted = CURL_POLL_NONE;
        kevring::auto_reset_event changed;
    };

    // libcurl calls these from within its functions: they note what it wants, and wake tasks.

    static int socket_changed(CURL*, curl_socket_t descriptor, int wanted, void* self,
                              void*) noexcept {
        auto& transfers = *static_cast<curl_transfers*>(self);
        if (wanted == CURL_POLL_REMOVE && !transfers.watches_.contains(descriptor)) return 0;
        std::shared_ptr<watch>& known = transfers.watches_[descriptor];
        const bool is_new = known == nullptr;
        if (is_new) known = std::make_shared<watch>();
        known->wanted = wanted;
        if (is_new)
            transfers.tasks_.spawn(transfers.follow(descriptor, known));
        else
            known->changed.set();
        if (wanted == CURL_POLL_REMOVE) transfers.watches_.erase(descriptor);
        return 0;
    }
    static int timeout_changed(CURLM*, long timeout_ms, void* self) noexcept {
        auto& transfers = *static_cast<curl_transfers*>(self);
        transfers.deadline_ = timeout_ms < 0 ? kevring::steady_time::max()
                                             : std::chrono::steady_clock::now() +
                                                   std::chrono::milliseconds(timeout_ms);
        transfers.timeout_changed_.set();
        return 0;
    }
    // A request for the descriptor that the kernel has not seen must not name its successor.
    static int close_socket(void*, curl_socket_t descriptor) noexcept {
        const kevring::fd closed(descriptor);
        return 0;
    }

    kevring::task<void> follow(curl_socket_t descriptor, std::shared_ptr<watch> state) {
        while (state->wanted != CURL_POLL_REMOVE) {
            const int wanted = state->wanted;
            std::uint32_t events = 0;
            if ((wanted & CURL_POLL_IN) != 0) events |= POLLIN;
            if ((wanted & CURL_POLL_OUT) != 0) events |= POLLOUT;
            if (events == 0) {
                const auto changed = co_await state->changed.wait();
                if (!changed) co_return;
                continue;
            }
            kevring::poll_operation poll(loop_, kevring::fd_ref(descriptor), events);
            const auto first = co_await kevring::when_any(std::move(poll), state->changed.wait());
            if (tasks_.stop_requested()) co_return;
            if (first.index == 1 || state->wanted == CURL_POLL_REMOVE) continue;
            const kevring::result<std::uint32_t>& ready = *std::get<0>(first.values);
            int action = CURL_CSELECT_ERR;
            if (ready) {
                action = (*ready & POLLERR) != 0 ? CURL_CSELECT_ERR : 0;
                if ((*ready & (POLLIN | POLLHUP)) != 0) action |= CURL_CSELECT_IN;
                if ((*ready & POLLOUT) != 0) action |= CURL_CSELECT_OUT;
            }
            act(descriptor, action);
        }
    }
    kevring::task<void> wait_for_timeouts() {
        while (true) {
            const auto first = co_await kevring::when_any(kevring::sleep_until(deadline_),
                                                          timeout_changed_.wait());
            if (tasks_.stop_requested()) co_return;
            if (first.index == 1 || std::chrono::steady_clock::now() < deadline_) continue;
            deadline_ = kevring::steady_time::max();  // first: libcurl may set another one
            act(CURL_SOCKET_TIMEOUT, 0);
        }
    }
    void act(curl_socket_t descriptor, int action) {
        int running_count = 0;
        ::curl_multi_socket_action(multi_, descriptor, action, &running_count);
        int message_count = 0;
        while (const CURLMsg* message = ::curl_multi_info_read(multi_, &message_count)) {
            if (message->msg != CURLMSG_DONE) continue;
            transfer* ended = nullptr;
            ::curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &ended);
            ended->code = message->data.result;
            ended->ended.set();
        }
    }

    kevring::ring& loop_;
    kevring::task_scope& tasks_;
    CURLM* const multi_;
    std::map<curl_socket_t, std::shared_ptr<watch>> watches_;
    kevring::steady_time deadline_ = kevring::steady_time::max();
    kevring::auto_reset_event timeout_changed_;
};

std::size_t count_bytes(char*, std::size_t size, std::size_t count, void* total) {
    *static_cast<std::size_t*>(total) += size * count;
    return size * count;
}

kevring::task<void> report(curl_transfers& transfers, std::string address, bool& failed) {
    const std::unique_ptr<CURL, void (*)(CURL*)> easy(::curl_easy_init(), ::curl_easy_cleanup);
    if (easy == nullptr) throw std::runtime_error("curl_easy_init() failed");
    std::size_t byte_count = 0;
    ::curl_easy_setopt(easy.get(), CURLOPT_URL, address.c_str());
    ::curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, count_bytes);
    ::curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &byte_count);
    ::curl_easy_setopt(easy.get(), CURLOPT_NOSIGNAL, 1L);
    const CURLcode code = co_await transfers.fetch(easy.get());
    if (code != CURLE_OK) {
        failed = true;
        std::printf("%s: %s\n", address.c_str(), ::curl_easy_strerror(code));
        co_return;
    }
    long status = 0;
    ::curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
    std::printf("%s: status %ld, %zu bytes\n", address.c_str(), status, byte_count);
}

kevring::task<int> fetch_all(std::vector<std::string> addresses) {
    kevring::ring& loop = *kevring::ring::current();
    bool failed = false;
    std::exception_ptr failure;
    kevring::task_scope watches(loop);
    {
        curl_transfers transfers(loop, watches);
        const auto report_all = [&](kevring::task_scope& fetches) -> kevring::task<void> {
            for (const std::string& address : addresses)
                fetches.spawn(report(transfers, address, failed));
            co_return;
        };
        try {
            co_await kevring::in_scope(report_all);
        } catch (...) {
            failure = std::current_exception();  // the watches are joined first
        }
        watches.request_stop();
        co_await watches.join();
    }
    if (failure) std::rethrow_exception(failure);
    co_return failed ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) try {
    ::curl_global_init(CURL_GLOBAL_DEFAULT);
    const int status = kevring::run(fetch_all(std::vector<std::string>(argv + 1, argv + argc)));
    ::curl_global_cleanup();
    return status;
} catch (const std::exception& failure) {
    std::fprintf(stderr, "curl_fetch: %s\n", failure.what());
    return 1;
}
