// file_transfers.cpp: transfers of files to sockets, the type AIO.
//
// The peer cannot tell where the bytes of one transfer end and those of the next begin. So the
// model keeps every possible position in the stream, and drops those that the next byte
// contradicts.
#include "tests/kevent/model/model.hpp"

#include <set>
#include <string_view>

#include <sys/mman.h>
#include <sys/uio.h>

namespace kevent_model {
namespace {

constexpr std::size_t file_bytes_max = 64 * 1024;  // more than one send transfers

/// The bytes of all files, headers and trailers; valid until the end of the process.
const std::string& any_bytes() {
    static const std::string made = [] {
        std::mt19937_64 random(1);
        std::string bytes(file_bytes_max, '\0');
        for (char& each : bytes) each = static_cast<char>(random());
        return bytes;
    }();
    return made;
}

struct file {
    file() : number(::memfd_create("kevent-model", MFD_CLOEXEC)), size(any_bytes().size()) {
        static_cast<void>(!::write(number.number(), any_bytes().data(), size));
    }
    const kevring::fd number;
    std::size_t size;
};

/// The bytes that one transfer writes to the stream.
struct expected_bytes {
    std::string_view header;
    std::string_view body;  // the contents of the file at the call
    std::string_view trailer;
    std::shared_ptr<file> source;
    std::size_t body_min;   // less than the body after the file was truncated
    bool removed = false;   // may end anywhere
    bool may_fail = false;  // its file was truncated, perhaps during a read
    bool may_cancel =
        false;          // follows one that was removed or failed: may end before its first byte
    bool over = false;  // for certain
    std::optional<std::uint64_t> sent = {};  // as reported by its event

    std::size_t body_end() const { return header.size() + body.size(); }
    std::size_t size() const { return body_end() + trailer.size(); }
    bool is_cut() const { return body_min < body.size(); }
    /// True if only the next byte of this transfer may follow.
    bool continues(std::size_t offset) const {
        const bool can_end = removed || may_fail || (sent && *sent != size());
        return !can_end && offset != 0 && offset < size() &&
               (offset < header.size() + body_min || !is_cut());
    }
    bool has_at(std::size_t offset, char byte) const {
        if (offset < header.size()) return header[offset] == byte;
        if (offset >= body_end()) return trailer[offset - body_end()] == byte;
        offset -= header.size();
        // Pages in transit belong to the file: truncated bytes may have become 0.
        return body[offset] == byte || (offset >= body_min && byte == 0);
    }
};

/// A possible position: before byte `offset` of a transfer, of which `skipped` bytes were omitted.
struct position {
    std::size_t index = 0;
    std::size_t offset = 0;
    std::size_t skipped = 0;
    auto operator<=>(const position&) const = default;
};

/// Two connected sockets; files are sent to the local one.
class stream_of_files {
public:
    explicit stream_of_files(bool is_blocking) {
        const int small = 4096;  // so that a transfer can block
        ::setsockopt(peers.local(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
        if (is_blocking) ::fcntl(peers.local(), F_SETFL, 0);
    }

    /// True if the stream may have passed a transfer, and true if it must have.
    bool may_be_past(std::size_t index) const { return last().index > index; }
    bool is_past(std::size_t index) const {
        return std::all_of(positions_.begin(), positions_.end(),
                           [&](const position& each) { return each.index > index; });
    }

    /// The peer reads up to `count` bytes. False if they differ from those sent.
    bool read_at_peer(std::size_t count) {
        std::array<char, 4096> bytes;
        while (peer_open && count != 0) {
            const ssize_t got = ::read(peers.peer(), bytes.data(), std::min(count, bytes.size()));
            if (got <= 0) break;
            count -= static_cast<std::size_t>(got);
            if (!follow({bytes.data(), static_cast<std::size_t>(got)})) return false;
        }
        close_over();
        return true;
    }
    /// Later transfers may be cancelled.
    void may_stop_at(std::size_t index) {
        was_stopped = true;
        for (std::size_t i = index + 1; i < line.size(); ++i) line[i]->may_cancel = true;
    }
    /// Recomputes the possible positions after the expectations have changed.
    void close_over() {
        begins_.assign(line.size() + 1, false);
        for (const position& each : positions_)
            if (each.offset == 0) begins_[each.index] = true;
        reached_.clear();
        reached_.insert(positions_.begin(), positions_.end());
        for (std::size_t i = 0; i < positions_.size(); ++i) {
            const position from = positions_[i];
            if (from.index == line.size()) continue;
            const expected_bytes& each = *line[from.index];
            const std::size_t body_done = from.offset - std::min(from.offset, each.header.size());
            if (each.is_cut() && from.offset >= each.header.size() &&
                from.offset < each.body_end() && body_done >= each.body_min &&
                (!each.sent || *each.sent == from.offset + each.trailer.size()))
                skip_to_trailer(from);
            const bool can_end = each.sent
                                     ? *each.sent == from.offset - from.skipped
                                     : from.offset == each.size() || each.removed ||
                                           each.may_fail || (each.may_cancel && from.offset == 0);
            if (!can_end || begins_[from.index + 1]) continue;
            begins_[from.index + 1] = true;
            positions_.push_back({from.index + 1, 0, 0});
        }
        // A position at the end of a complete transfer moves to the next one.
        positions_.erase(std::remove_if(positions_.begin(), positions_.end(),
                                        [&](const position& each) {
                                            return each.index < line.size() &&
                                                   each.offset == line[each.index]->size();
                                        }),
                         positions_.end());
    }

    connected_pair peers = connected_pair::sockets();
    bool peer_open = true;
    bool was_stopped = false;  // perhaps; later transfers would be cancelled
    std::vector<std::shared_ptr<expected_bytes>> line;

private:
    const position& last() const { return *std::max_element(positions_.begin(), positions_.end()); }
    void skip_to_trailer(const position& from) {
        const std::size_t to = line[from.index]->body_end();
        const position reached{from.index, to, to - from.offset};
        if (reached_.insert(reached).second) positions_.push_back(reached);
    }
    bool follow(std::string_view bytes) {
        for (const char each : bytes) {
            position& first = positions_.front();
            if (positions_.size() == 1 && first.index < line.size() &&
                line[first.index]->continues(first.offset)) {
                if (!line[first.index]->has_at(first.offset++, each)) return false;
                continue;
            }
            close_over();
            std::size_t kept = 0;
            for (const position& from : positions_) {
                if (from.index == line.size() || !line[from.index]->has_at(from.offset, each))
                    continue;
                positions_[kept++] = {from.index, from.offset + 1, from.skipped};
            }
            positions_.resize(kept);
            if (positions_.empty()) return false;
        }
        return true;
    }

    std::vector<position> positions_{position{}};
    std::set<position> reached_;  // those of positions_, which can be thousands after a cut
    std::vector<bool> begins_;    // by index: the stream may be before the first byte
};

class file_transfer final : public registration_model {
public:
    file_transfer(model_run& run, const ukevent& request, std::shared_ptr<stream_of_files> to,
                  std::size_t index)
        : registration_model(run, request), to_(std::move(to)), index_(index) {}

    bool is_due() const override { return event == expected::must && !has(KEVENT_REQ_LAST_CHECK); }
    bool fires_by_itself() const override { return request.event != 0; }
    bool is_overdue() const override { return is_over() && request.event != 0 && !is_due(); }
    std::uint32_t forced_flags() const override { return KEVENT_REQ_ONESHOT; }

    void modified(const ukevent&) override {}
    void removed() override {
        bytes().removed = true;
        if (!bytes().over) to_->may_stop_at(index_);
    }

    void check_record(const ukevent& got) override {
        const bool is_broken = (got.ret_flags & KEVENT_RET_BROKEN) != 0;
        const std::uint64_t sent =
            got.ret_data[0] | (is_broken ? 0 : std::uint64_t{got.ret_data[1]} << 32);
        // READY fired it: the transfer continues, and its end is not reported.
        if (listed && !is_broken && sent == 0) return;
        KEVRING_MODEL_CHECK(run_, sent <= bytes().size());
        if (is_broken) {
            const bool is_cancelled = error_of(got) == -ECANCELED || error_of(got) == -EIO;
            const bool is_closed = error_of(got) == -EPIPE || error_of(got) == -ECONNRESET;
            KEVRING_MODEL_CHECK(run_, is_closed
                                          ? !to_->peer_open
                                          : (is_cancelled && bytes().may_cancel && sent == 0) ||
                                                (error_of(got) == -EIO && bytes().may_fail));
        } else {
            KEVRING_MODEL_CHECK(run_,
                                sent + bytes().body.size() >= bytes().size() + bytes().body_min);
        }
        bytes().sent = sent;
        bytes().over = true;
        if (!to_->peer_open) return;
        // The peer has received every counted byte.
        KEVRING_MODEL_CHECK(run_, to_->read_at_peer(~std::size_t{0}));
        KEVRING_MODEL_CHECK(run_, to_->may_be_past(index_));
    }
    void delivered(const ukevent&) override { KEVRING_MODEL_CHECK(run_, false); }  // a one-shot

private:
    expected_bytes& bytes() const { return *to_->line[index_]; }
    bool is_over() const { return !to_->peer_open || bytes().over || to_->is_past(index_); }

    const std::shared_ptr<stream_of_files> to_;
    const std::size_t index_;
};

class file_transfers final : public origin_model {
public:
    explicit file_transfers(model_run& run) : origin_model(run), file_(std::make_shared<file>()) {
        for (auto& each : all_) each = std::make_shared<stream_of_files>(run_.below(2) == 0);
    }

    bool has_type(std::uint32_t type) const override { return type == KEVENT_AIO; }
    std::uint32_t random_event(std::uint32_t) override {
        return run_.below(2) == 0 ? 1 : KEVENT_MASK_ALL;
    }

    void act() override {
        auto& to = all_[run_.below(all_.size())];
        switch (run_.below(12)) {
            case 0:
            case 1:
            case 2:
            case 3: start_random(to); break;
            case 4: cut(); break;
            case 5:
                if (run_.below(4) == 0) close_peer(to);
                break;
            default: KEVRING_MODEL_CHECK(run_, to->read_at_peer(run_.below(12'000))); break;
        }
    }

    // Blocked transfers continue as the peer reads.
    bool finish() override {
        if (std::exchange(settled_, true)) return false;
        for (auto& each : all_) settle(*each);
        return true;
    }
    // Transfers whose events are not collected arrive as well.
    void before_close() override {
        for (auto& each : all_) start_random(each);
    }
    void after_close() override {
        for (auto& each : all_) settle(*each);
    }

private:
    std::string_view random_bytes(std::uint64_t count) {
        return std::string_view(any_bytes()).substr(run_.below(1000), count);
    }

    void start_random(const std::shared_ptr<stream_of_files>& to) {
        // A few are too long for one send, and some begin after the end of the file.
        const std::uint64_t count = run_.below(run_.below(6) == 0 ? file_bytes_max : 6000);
        const std::uint64_t offset = run_.below(file_->size + 1000);
        expected_bytes one{{}, {}, {}, file_, 0};
        if (offset < file_->size)
            one.body = std::string_view(any_bytes()).substr(0, file_->size).substr(offset, count);
        one.body_min = one.body.size();
        if (run_.below(3) == 0) one.header = random_bytes(1 + run_.below(20));
        if (run_.below(4) == 0) one.trailer = random_bytes(1 + run_.below(20));
        const std::uint64_t word = run_.below(2) == 0 ? 0 : run_.random() | 1;
        const long id = start(run_.tested_queue->number(), *to, one, offset, count, word);
        run_.log("transfer of ", one.header.size(), "+", one.body.size(), "+", one.trailer.size(),
                 " bytes from ", offset, " to ", to->peers.local(), ": ", id);
        if (!KEVRING_MODEL_CHECK(run_, id > 0)) return;
        ukevent request =
            record(KEVENT_AIO, 0, KEVENT_MASK_ALL, KEVENT_REQ_ONESHOT | KEVENT_REQ_ALWAYS_QUEUE);
        request.id.raw_u64 = static_cast<std::uint64_t>(id);
        request.user_u64 = word != 0 ? word : request.id.raw_u64;
        KEVRING_MODEL_CHECK(run_, run_.all.count(model_run::key_of(request)) == 0);
        keep(std::make_unique<file_transfer>(run_, request, to, to->line.size() - 1));
    }

    // Uses descriptors that are closed after the call, and sometimes a thread that ends after it.
    long start(int queue, stream_of_files& to, expected_bytes one, std::uint64_t offset,
               std::uint64_t count, std::uint64_t word) {
        one.may_cancel = to.was_stopped;
        to.line.push_back(std::make_shared<expected_bytes>(one));
        long id = 0;
        const auto begin = [&] {
            const kevring::fd socket(::dup(to.peers.local()));
            const kevring::fd from(::dup(one.source->number.number()));
            const auto part = [](std::string_view bytes) {
                return iovec{const_cast<char*>(bytes.data()), bytes.size()};
            };
            const iovec header = part(one.header);
            const iovec trailer = part(one.trailer);
            if (one.header.empty() && one.trailer.empty() && word == 0)
                id = aio_sendfile(queue, socket.number(), from.number(), static_cast<off_t>(offset),
                                  count);
            else
                id = aio_sendfilev(queue, socket.number(), &header, 1, from.number(),
                                   static_cast<off_t>(offset), count, &trailer, 1,
                                   reinterpret_cast<void*>(word));
        };
        if (run_.below(4) == 0 && !is_of_one_thread())
            std::thread(begin).join();
        else
            begin();
        to.close_over();
        return id;
    }

    void cut() {
        if (file_->size < file_bytes_max) {
            file_ = std::make_shared<file>();
            return;
        }
        file_->size = run_.below(file_bytes_max);
        run_.log("the file ends at ", file_->size);
        for (auto& to : all_) {
            for (std::size_t i = 0; i < to->line.size(); ++i) {
                expected_bytes& each = *to->line[i];
                if (each.source != file_ || each.over) continue;
                const auto offset = static_cast<std::size_t>(each.body.data() - any_bytes().data());
                const std::size_t left = file_->size - std::min(file_->size, offset);
                each.body_min = std::min(each.body_min, left);
                each.may_fail = true;
                to->may_stop_at(i);
            }
            to->close_over();
        }
        KEVRING_MODEL_CHECK(
            run_, ::ftruncate(file_->number.number(), static_cast<off_t>(file_->size)) == 0);
    }

    void close_peer(std::shared_ptr<stream_of_files>& stream) {
        if (stream->peer_open) {
            run_.log("the peer closes, of ", stream->peers.local());
            stream->peer_open = false;
            stream->peers.close_peer();
        } else {
            stream = std::make_shared<stream_of_files>(run_.below(2) == 0);
        }
    }

    // Waits for all transfers: one more, of another queue, follows them.
    void settle(stream_of_files& stream) {
        queue other;
        while (stream.peer_open && run_.failed_at.empty()) {
            const expected_bytes mark{random_bytes(16), {}, {}, file_, 0};
            KEVRING_MODEL_CHECK(run_, start(other.number(), stream, mark, 0, 0, 1) > 0);
            ukevent got{};
            do {
                std::array<pollfd, 2> either{pollfd{stream.peers.peer(), POLLIN, 0},
                                             pollfd{other.number(), POLLIN, 0}};
                KEVRING_MODEL_CHECK(run_, ::poll(either.data(), either.size(), 60'000) > 0);
                KEVRING_MODEL_CHECK(run_, stream.read_at_peer(~std::size_t{0}));
            } while (run_.failed_at.empty() &&
                     kevent_get_events(other.number(), 1, 1, no_wait, &got, 0) == 0);
            expected_bytes& end = *stream.line.back();
            end.sent = got.ret_data[0];
            KEVRING_MODEL_CHECK(run_, stream.read_at_peer(~std::size_t{0}));
            if (is_broken(got) && end.may_cancel) continue;
            KEVRING_MODEL_CHECK(run_, is_done(got) && stream.may_be_past(stream.line.size() - 1));
            for (auto& each : stream.line) each->over = true;
            stream.was_stopped = false;
            return;
        }
    }

    std::array<std::shared_ptr<stream_of_files>, 2> all_;
    std::shared_ptr<file> file_;
    bool settled_ = false;
};

}  // namespace

std::unique_ptr<origin_model> make_file_transfers(model_run& run) {
    return std::make_unique<file_transfers>(run);
}

}  // namespace kevent_model
