// transfers.cpp: whole receives and sends, the type NAIO.
#include "tests/kevent/model/model.hpp"

#include <deque>

namespace kevent_model {
namespace {

/// What stands in a line: a request, or what is left of one that was removed or ended early, which
/// has moved some of its bytes or none.
struct place {
    std::uint64_t size;
    bool waits = true;
    std::uint64_t arrived = 0;  // of a send: bytes that the far end has got
    char tag = 0;               // of a send: its bytes
};

/// Two sockets. One line receives what the far end sends, the other one sends.
struct pair_of_sockets {
    pair_of_sockets() {
        const int small = 4096;  // so that a send can be held up
        ::setsockopt(peers.local(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    }

    /// How many bytes there are from the first of the receiving line to the end of `until`, at
    /// most.
    std::uint64_t bytes_until(const place& until) const {
        std::uint64_t total = 0;
        for (const auto& each : receiving) {
            total += each->size;
            if (each.get() == &until) break;
        }
        return total;
    }

    connected_pair peers = connected_pair::sockets();
    bool far_open = true;
    std::uint64_t written = 0;   // byte n of what the far end sends is n modulo 256
    std::uint64_t received = 0;  // where the first of the line begins, if all before it are full
    std::deque<std::shared_ptr<place>> receiving;
    std::deque<std::shared_ptr<place>> sending;
};

class transfer final : public registration_model {
public:
    transfer(run& in, const ukevent& request, std::shared_ptr<pair_of_sockets> of,
             std::shared_ptr<place> in_line, std::vector<char> buffer)
        : registration_model(in, request),
          of_(std::move(of)),
          place_(std::move(in_line)),
          buffer_(std::move(buffer)) {
        event = expected::may;
    }

    bool receives() const { return request.event == KEVENT_SOCKET_RECV; }
    bool is_due() const override {
        if (event == expected::must || !of_->far_open) return true;
        return receives() && of_->written - of_->received >= of_->bytes_until(*place_);
    }
    std::uint32_t forced_flags() const override { return KEVENT_REQ_ONESHOT; }

    // A mask that is empty would take it out of its line, and so may a last check.
    void choose(ukevent& to) override {
        to.event = request.event;
        to.req_flags &= ~std::uint32_t{KEVENT_REQ_LAST_CHECK};
    }
    void modified(const ukevent&) override {}
    void marked() override {
        list();
        place_->waits = false;
    }
    void removed() override { place_->waits = false; }

    void check_record(const ukevent& got) override {
        const bool is_broken = (got.ret_flags & KEVENT_RET_BROKEN) != 0;
        const std::uint32_t moved = got.ret_data[0];
        if (is_broken) {
            KEVRING_MODEL_CHECK(in_, !of_->far_open && moved < place_->size);
            KEVRING_MODEL_CHECK(in_, error_of(got) == -EPIPE || error_of(got) == -ECONNRESET);
        } else {
            KEVRING_MODEL_CHECK(in_, moved == got.ret_data[1]);
            KEVRING_MODEL_CHECK(in_, listed ? moved <= place_->size : moved == place_->size);
        }
        receives() ? check_received(moved, is_broken) : check_sent(moved);
        place_->waits = false;
    }
    void delivered(const ukevent&) override { KEVRING_MODEL_CHECK(in_, false); }  // a one-shot
    void nothing_left() override {}

private:
    // Its bytes are a piece of what was sent, and the piece that its place in the line says.
    void check_received(std::uint32_t moved, bool is_broken) {
        const std::vector<char> bytes(buffer_.begin(), buffer_.begin() + moved);
        for (std::size_t i = 1; i < moved; ++i)
            KEVRING_MODEL_CHECK(in_, static_cast<char>(bytes[i - 1] + 1) == bytes[i]);
        KEVRING_MODEL_CHECK(in_, buffer_.back() == guard);
        if (!place_->waits) return;  // ended by the program: those behind it go by what they find
        std::uint64_t leeway = 0;
        while (of_->receiving.front() != place_) {
            // Nobody is passed by.
            if (!KEVRING_MODEL_CHECK(in_, !of_->receiving.front()->waits)) return;
            leeway += of_->receiving.front()->size;
            of_->receiving.pop_front();
        }
        of_->receiving.pop_front();
        if (is_broken) {
            of_->received = of_->written;
        } else {
            const auto first = static_cast<unsigned char>(bytes.front());
            std::uint64_t begin = of_->received;
            while (static_cast<unsigned char>(begin) != first && leeway-- != 0) ++begin;
            KEVRING_MODEL_CHECK(in_, static_cast<unsigned char>(begin) == first);
            of_->received = begin + moved;
            KEVRING_MODEL_CHECK(in_, of_->received <= of_->written);
        }
    }
    void check_sent(std::uint32_t moved);

public:
    static constexpr char guard = 'g';

private:
    const std::shared_ptr<pair_of_sockets> of_;
    const std::shared_ptr<place> place_;
    const std::vector<char> buffer_;  // one byte more than the request has
};

// Takes all that the far end has got, and says of whom it is.
bool far_reads(run& in, pair_of_sockets& of) {
    bool any = false;
    std::array<char, 4096> bytes;
    while (of.far_open) {
        const ssize_t count = ::read(of.peers.peer(), bytes.data(), bytes.size());
        if (count <= 0) break;
        any = true;
        for (const char each : std::string_view(bytes.data(), static_cast<std::size_t>(count))) {
            // Of one that the program has ended early, any part may have been sent.
            while (!of.sending.empty() && of.sending.front()->tag != each) {
                const place& done = *of.sending.front();
                if (!KEVRING_MODEL_CHECK(in, !done.waits || done.arrived == done.size)) return any;
                of.sending.pop_front();
            }
            if (!KEVRING_MODEL_CHECK(in, !of.sending.empty())) return any;
            const bool fits = ++of.sending.front()->arrived <= of.sending.front()->size;
            if (!KEVRING_MODEL_CHECK(in, fits)) return any;
        }
    }
    return any;
}

void transfer::check_sent(std::uint32_t moved) {
    if (!of_->far_open) return;
    far_reads(in_, *of_);
    KEVRING_MODEL_CHECK(in_, place_->arrived == moved);
}

class transfers final : public origins {
public:
    explicit transfers(run& in) : origins(in) {
        for (auto& each : all_) each = std::make_shared<pair_of_sockets>();
    }

    bool has_type(std::uint32_t type) const override { return type == KEVENT_NAIO; }
    std::uint32_t random_event(std::uint32_t) override { return KEVENT_SOCKET_RECV; }

    void act() override {
        auto& of = all_[in_.below(all_.size())];
        switch (in_.below(12)) {
            case 0:
            case 1:
            case 2: start(of, true, 1 + in_.below(20)); break;
            case 3:
            case 4: start(of, false, 1 + in_.below(6000)); break;
            case 5:
            case 6: far_reads(in_, *of); break;
            case 7:
                if (in_.below(4) != 0) break;
                if (of->far_open) {
                    in_.log("the far end goes of ", of->peers.local());
                    of->far_open = false;
                    of->peers.close_peer();
                } else {
                    of = std::make_shared<pair_of_sockets>();
                }
                break;
            default: far_writes(*of, 1 + in_.below(15)); break;
        }
    }

    // Sends that are held up go on as the far end reads.
    bool finish() override {
        bool more = false;
        for (auto& each : all_) more = far_reads(in_, *each) || more;
        if (more) return true;
        in_.each<transfer>(
            [&](transfer& one) { KEVRING_MODEL_CHECK(in_, one.receives() && !one.is_due()); });
        return false;
    }

private:
    void start(const std::shared_ptr<pair_of_sockets>& of, bool receives, std::uint64_t size) {
        auto in_line = std::make_shared<place>();
        in_line->size = size;
        in_line->tag = static_cast<char>(last_tag_++);
        std::vector<char> buffer(size + 1, in_line->tag);
        buffer.back() = transfer::guard;
        const int socket = of->peers.local();
        const long id = receives ? aio_recv(in_.door->number(), socket, buffer.data(), size, 0)
                                 : aio_send(in_.door->number(), socket, buffer.data(), size, 0);
        in_.log(receives ? "receive of " : "send of ", size, " on ", socket, ": ", id);
        if (!KEVRING_MODEL_CHECK(in_, id > 0)) return;
        (receives ? of->receiving : of->sending).push_back(in_line);
        ukevent request = record(KEVENT_NAIO, 0, receives ? KEVENT_SOCKET_RECV : KEVENT_SOCKET_SEND,
                                 KEVENT_REQ_ONESHOT | KEVENT_REQ_ALWAYS_QUEUE, buffer.data());
        request.id.raw_u64 = static_cast<std::uint64_t>(id);
        KEVRING_MODEL_CHECK(in_, in_.all.count(run::key_of(request)) == 0);
        keep(std::make_unique<transfer>(in_, request, of, in_line, std::move(buffer)));
    }
    void far_writes(pair_of_sockets& of, std::uint64_t count) {
        if (!of.far_open || of.written - of.received > 4000) return;
        std::vector<char> bytes(count);
        for (char& each : bytes) each = static_cast<char>(of.written++);
        in_.log(count, " bytes for ", of.peers.local());
        KEVRING_MODEL_CHECK(
            in_, ::write(of.peers.peer(), bytes.data(), count) == static_cast<ssize_t>(count));
    }

    std::array<std::shared_ptr<pair_of_sockets>, 2> all_;
    unsigned char last_tag_ = 0;
};

}  // namespace

std::unique_ptr<origins> make_transfers(run& in) { return std::make_unique<transfers>(in); }

}  // namespace kevent_model
