// transfers.cpp: whole receives and sends, the type NAIO.
#include "tests/kevent/model/model.hpp"

#include <deque>

namespace kevent_model {
namespace {

/// An entry of a request queue: a request, or the rest of one that was removed or ended early,
/// which has moved some of its bytes or none.
struct pending_transfer {
    std::uint64_t size;
    bool waits = true;
    std::uint64_t arrived = 0;  // of a send: bytes that the peer has received
    char tag = 0;               // of a send: its bytes
};

/// Two connected sockets, with a queue of receives and a queue of sends on the local one.
struct pair_of_sockets {
    pair_of_sockets() {
        const int small = 4096;  // so that a send can block
        ::setsockopt(peers.local(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    }

    /// The maximum number of bytes from the first receive to the end of `until`.
    std::uint64_t bytes_until(const pending_transfer& until) const {
        std::uint64_t total = 0;
        for (const auto& each : receiving) {
            total += each->size;
            if (each.get() == &until) break;
        }
        return total;
    }

    connected_pair peers = connected_pair::sockets();
    bool peer_open = true;
    std::uint64_t written = 0;   // byte n from the peer is n modulo 256
    std::uint64_t received = 0;  // begin of the first receive, if all earlier ones were full
    std::deque<std::shared_ptr<pending_transfer>> receiving;
    std::deque<std::shared_ptr<pending_transfer>> sending;
};

class transfer final : public registration_model {
public:
    transfer(model_run& run, const ukevent& request, std::shared_ptr<pair_of_sockets> sockets,
             std::shared_ptr<pending_transfer> pending, std::vector<char> buffer)
        : registration_model(run, request),
          sockets_(std::move(sockets)),
          pending_(std::move(pending)),
          buffer_(std::move(buffer)) {
        event = expected::may;
    }

    bool receives() const { return request.event == KEVENT_SOCKET_RECV; }
    bool is_due() const override {
        if (event == expected::must || !sockets_->peer_open) return true;
        return receives() &&
               sockets_->written - sockets_->received >= sockets_->bytes_until(*pending_);
    }
    std::uint32_t forced_flags() const override { return KEVENT_REQ_ONESHOT; }

    // An empty mask would take it out of its queue, and so may a last check.
    void choose(ukevent& to) override {
        to.event = request.event;
        to.req_flags &= ~std::uint32_t{KEVENT_REQ_LAST_CHECK};
    }
    void modified(const ukevent&) override {}
    void marked() override {
        list();
        pending_->waits = false;
    }
    void removed() override { pending_->waits = false; }

    void check_record(const ukevent& got) override {
        const bool is_broken = (got.ret_flags & KEVENT_RET_BROKEN) != 0;
        const std::uint32_t moved = got.ret_data[0];
        if (is_broken) {
            KEVRING_MODEL_CHECK(run_, !sockets_->peer_open && moved < pending_->size);
            KEVRING_MODEL_CHECK(run_, error_of(got) == -EPIPE || error_of(got) == -ECONNRESET);
        } else {
            KEVRING_MODEL_CHECK(run_, moved == got.ret_data[1]);
            KEVRING_MODEL_CHECK(run_, listed ? moved <= pending_->size : moved == pending_->size);
        }
        receives() ? check_received(moved, is_broken) : check_sent(moved);
        pending_->waits = false;
    }
    void delivered(const ukevent&) override { KEVRING_MODEL_CHECK(run_, false); }  // a one-shot
    void nothing_left() override {}

private:
    // Its bytes are a part of those sent: the part at its position in the queue.
    void check_received(std::uint32_t moved, bool is_broken) {
        const std::vector<char> bytes(buffer_.begin(), buffer_.begin() + moved);
        for (std::size_t i = 1; i < moved; ++i)
            KEVRING_MODEL_CHECK(run_, static_cast<char>(bytes[i - 1] + 1) == bytes[i]);
        KEVRING_MODEL_CHECK(run_, buffer_.back() == guard);
        if (!pending_->waits) return;  // ended by the program: later ones take the next bytes
        std::uint64_t leeway = 0;
        while (sockets_->receiving.front() != pending_) {
            // No waiting request is skipped.
            if (!KEVRING_MODEL_CHECK(run_, !sockets_->receiving.front()->waits)) return;
            leeway += sockets_->receiving.front()->size;
            sockets_->receiving.pop_front();
        }
        sockets_->receiving.pop_front();
        if (is_broken) {
            sockets_->received = sockets_->written;
        } else {
            const auto first = static_cast<unsigned char>(bytes.front());
            std::uint64_t begin = sockets_->received;
            while (static_cast<unsigned char>(begin) != first && leeway-- != 0) ++begin;
            KEVRING_MODEL_CHECK(run_, static_cast<unsigned char>(begin) == first);
            sockets_->received = begin + moved;
            KEVRING_MODEL_CHECK(run_, sockets_->received <= sockets_->written);
        }
    }
    void check_sent(std::uint32_t moved);

public:
    static constexpr char guard = 'g';

private:
    const std::shared_ptr<pair_of_sockets> sockets_;
    const std::shared_ptr<pending_transfer> pending_;
    const std::vector<char> buffer_;  // one byte longer than the request
};

// Reads all bytes at the peer, and checks from which send each is.
bool read_at_peer(model_run& run, pair_of_sockets& sockets) {
    bool any = false;
    std::array<char, 4096> bytes;
    while (sockets.peer_open) {
        const ssize_t count = ::read(sockets.peers.peer(), bytes.data(), bytes.size());
        if (count <= 0) break;
        any = true;
        for (const char each : std::string_view(bytes.data(), static_cast<std::size_t>(count))) {
            // Any part of a request that the program ended early may have been sent.
            while (!sockets.sending.empty() && sockets.sending.front()->tag != each) {
                const pending_transfer& done = *sockets.sending.front();
                if (!KEVRING_MODEL_CHECK(run, !done.waits || done.arrived == done.size)) return any;
                sockets.sending.pop_front();
            }
            if (!KEVRING_MODEL_CHECK(run, !sockets.sending.empty())) return any;
            const bool fits = ++sockets.sending.front()->arrived <= sockets.sending.front()->size;
            if (!KEVRING_MODEL_CHECK(run, fits)) return any;
        }
    }
    return any;
}

void transfer::check_sent(std::uint32_t moved) {
    if (!sockets_->peer_open) return;
    read_at_peer(run_, *sockets_);
    KEVRING_MODEL_CHECK(run_, pending_->arrived == moved);
}

class transfers final : public origin_model {
public:
    explicit transfers(model_run& run) : origin_model(run) {
        for (auto& each : all_) each = std::make_shared<pair_of_sockets>();
    }

    bool has_type(std::uint32_t type) const override { return type == KEVENT_NAIO; }
    std::uint32_t random_event(std::uint32_t) override { return KEVENT_SOCKET_RECV; }

    void act() override {
        auto& sockets = all_[run_.below(all_.size())];
        switch (run_.below(12)) {
            case 0:
            case 1:
            case 2: start(sockets, true, 1 + run_.below(20)); break;
            case 3:
            case 4: start(sockets, false, 1 + run_.below(6000)); break;
            case 5:
            case 6: read_at_peer(run_, *sockets); break;
            case 7:
                if (run_.below(4) != 0) break;
                if (sockets->peer_open) {
                    run_.log("the peer closes, of ", sockets->peers.local());
                    sockets->peer_open = false;
                    sockets->peers.close_peer();
                } else {
                    sockets = std::make_shared<pair_of_sockets>();
                }
                break;
            default: send_from_peer(*sockets, 1 + run_.below(15)); break;
        }
    }

    // Blocked sends continue as the peer reads.
    bool finish() override {
        bool more = false;
        for (auto& each : all_) more = read_at_peer(run_, *each) || more;
        if (more) return true;
        run_.each<transfer>(
            [&](transfer& one) { KEVRING_MODEL_CHECK(run_, one.receives() && !one.is_due()); });
        return false;
    }

private:
    void start(const std::shared_ptr<pair_of_sockets>& sockets, bool receives, std::uint64_t size) {
        auto pending = std::make_shared<pending_transfer>();
        pending->size = size;
        pending->tag = static_cast<char>(last_tag_++);
        std::vector<char> buffer(size + 1, pending->tag);
        buffer.back() = transfer::guard;
        const int socket = sockets->peers.local();
        const long id = receives
                            ? aio_recv(run_.tested_queue->number(), socket, buffer.data(), size, 0)
                            : aio_send(run_.tested_queue->number(), socket, buffer.data(), size, 0);
        run_.log(receives ? "receive of " : "send of ", size, " on ", socket, ": ", id);
        if (!KEVRING_MODEL_CHECK(run_, id > 0)) return;
        (receives ? sockets->receiving : sockets->sending).push_back(pending);
        ukevent request = record(KEVENT_NAIO, 0, receives ? KEVENT_SOCKET_RECV : KEVENT_SOCKET_SEND,
                                 KEVENT_REQ_ONESHOT | KEVENT_REQ_ALWAYS_QUEUE, buffer.data());
        request.id.raw_u64 = static_cast<std::uint64_t>(id);
        KEVRING_MODEL_CHECK(run_, run_.all.count(model_run::key_of(request)) == 0);
        keep(std::make_unique<transfer>(run_, request, sockets, pending, std::move(buffer)));
    }
    void send_from_peer(pair_of_sockets& sockets, std::uint64_t count) {
        if (!sockets.peer_open || sockets.written - sockets.received > 4000) return;
        std::vector<char> bytes(count);
        for (char& each : bytes) each = static_cast<char>(sockets.written++);
        run_.log(count, " bytes for ", sockets.peers.local());
        KEVRING_MODEL_CHECK(run_, ::write(sockets.peers.peer(), bytes.data(), count) ==
                                      static_cast<ssize_t>(count));
    }

    std::array<std::shared_ptr<pair_of_sockets>, 2> all_;
    unsigned char last_tag_ = 0;
};

}  // namespace

std::unique_ptr<origin_model> make_transfers(model_run& run) {
    return std::make_unique<transfers>(run);
}

}  // namespace kevent_model
