// bench/support/httpd_liburing.cpp: a minimal file server on liburing.
//
// The baseline for the HTTP server: the cost of a file without any further checks. A table holds
// open files by path; each request reads its file again, by pread(2) directly after the head in the
// connection's buffer, and one ring SEND without a completion sends head and body. pread(2) and a
// ring READ cost the same here (4.84 and 4.86 us for 1 KiB in total), and pread is less code. A file
// above 32 KiB is sent by sendfile(2) after its head; a poll request waits for a full socket.
//
// Deliberate omissions: files that change size or name while it runs, files that are not in the page
// cache, conditions, ranges, types, timeouts, fairness, and clients that pipeline without reading
// (see hello_liburing.cpp).
#include "bench/support/baseline.hpp"
#include "bench/support/bench_ring.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <ctime>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

using namespace kevring::bench;

constexpr unsigned response_bytes_max = 64 * 1024;
constexpr unsigned head_bytes_max = 4096;
constexpr std::size_t small_bytes_max = 32 * 1024;

enum class tag : std::uint64_t { accept, receive, send, last_send, writable };

constexpr std::uint64_t label(tag what, int fd) {
    return static_cast<std::uint64_t>(what) << 32 | static_cast<std::uint32_t>(fd);
}

struct open_file {
    int fd = -1;
    std::size_t bytes = 0;
    std::string head;  // complete except for the date, which is at date_offset
};

constexpr std::string_view head_start = "HTTP/1.1 200 OK\r\nDate: ";
constexpr std::size_t date_offset = head_start.size();
constexpr std::size_t date_bytes = sizeof "Tue, 07 Nov 2006 12:00:00 GMT" - 1;

std::string http_date(std::time_t seconds) {
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    std::string text(date_bytes + 1, '\0');
    text.resize(std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts));
    return text;
}

struct by_text {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept {
        return std::hash<std::string_view>{}(text);
    }
};

class file_table {
public:
    explicit file_table(const std::string& root)
        : root_(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)) {
        if (root_ < 0) baseline_failed(root.c_str());
    }

    // Null when there is no such regular file below the root.
    const open_file* find(std::string_view path) {
        const auto known = files_.find(path);
        return known != files_.end() ? &known->second : add(path);
    }

private:
    [[gnu::cold]] const open_file* add(std::string_view path) {
        const std::string name(path.substr(
            path.find_first_not_of('/') == path.npos ? path.size() : path.find_first_not_of('/')));
        open_how how{};
        how.flags = O_RDONLY | O_CLOEXEC;
        how.resolve = RESOLVE_BENEATH;
        const int fd =
            static_cast<int>(syscall(SYS_openat2, root_, name.c_str(), &how, sizeof how));
        if (fd < 0) return nullptr;
        struct stat status{};
        if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
            close(fd);
            return nullptr;
        }
        open_file file;
        file.fd = fd;
        file.bytes = static_cast<std::size_t>(status.st_size);
        file.head = std::string(head_start) + std::string(date_bytes, ' ') +
                    "\r\nContent-Type: application/octet-stream\r\nContent-Length: " +
                    std::to_string(file.bytes) +
                    "\r\nLast-Modified: " + http_date(status.st_mtime) + "\r\nETag: \"" +
                    std::to_string(status.st_mtime) + "-" + std::to_string(file.bytes) +
                    "\"\r\n\r\n";
        return &files_.emplace(path, std::move(file)).first->second;
    }

    int root_;
    std::unordered_map<std::string, open_file, by_text, std::equal_to<>> files_;
};

struct connection {
    std::string partial;             // of a request that came in pieces
    std::unique_ptr<char[]> output;  // response_bytes_max
    std::size_t output_begin = 0;    // of what no send was queued for yet
    std::size_t output_end = 0;
    std::uint64_t turn = 0;            // in which the output was begun
    bool last = false;                 // close once the output has left
    const open_file* large = nullptr;  // being sent; later requests wait in `partial`
    off_t large_sent = 0;
};

class file_server {
public:
    file_server(int listener, const std::string& root) : listener_(listener), files_(root) {
        connections_.resize(baseline_fd_count_max);
        accept();
    }

    void run() {
        for (;;) {
            ring_.run_once([this](const io_uring_cqe& cqe) { complete(cqe); });
            ++turn_;
        }
    }

private:
    // The ring waits on a socket with SOCK_NONBLOCK too; sendfile(2) does not.
    void accept() { ring_.accept_all(listener_, label(tag::accept, listener_), SOCK_NONBLOCK); }

    void receive(int fd) { ring_.receive_all(fd, label(tag::receive, fd)); }

    void complete(const io_uring_cqe& cqe) {
        const int fd = static_cast<int>(static_cast<std::uint32_t>(cqe.user_data));
        switch (static_cast<tag>(cqe.user_data >> 32)) {
            case tag::receive: return received(fd, cqe);
            case tag::send: shutdown(fd, SHUT_RDWR); return;  // only failures get here
            case tag::last_send: shutdown(fd, SHUT_WR); return;
            case tag::writable: return go_on(fd, connections_[static_cast<unsigned>(fd)]);
            case tag::accept: break;
        }
        if (cqe.res >= 0) {
            connection& fresh = connections_[static_cast<unsigned>(cqe.res)];
            fresh.partial.clear();
            fresh.turn = 0;
            fresh.last = false;
            fresh.large = nullptr;
            receive(cqe.res);
        }
        if (!(cqe.flags & IORING_CQE_F_MORE)) accept();
    }

    void received(int fd, const io_uring_cqe& cqe) {
        if (cqe.res > 0) {
            const auto id = static_cast<std::uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
            answer(fd, {ring_.buffer(id), static_cast<std::size_t>(cqe.res)});
            ring_.recycle(id);
        }
        if (cqe.flags & IORING_CQE_F_MORE) return;
        if (cqe.res > 0 || cqe.res == -ENOBUFS) return receive(fd);  // all buffers were recycled
        ::close(fd);
    }

    void answer(int fd, std::string_view bytes) {
        connection& to = connections_[static_cast<unsigned>(fd)];
        if (to.last) return;
        if (!to.partial.empty()) {
            to.partial += bytes;
            bytes = to.partial;
        }
        for (;;) {
            if (to.large != nullptr) break;
            const auto end = bytes.find("\r\n\r\n");
            if (end == bytes.npos) break;
            respond(fd, to, bytes.substr(0, end + 2));
            bytes.remove_prefix(end + 4);
            if (to.last) return flush(fd, to);
        }
        flush(fd, to);
        if (bytes.size() > head_bytes_max) {
            shutdown(fd, SHUT_RDWR);
        } else if (to.partial.empty()) {
            to.partial = bytes;
        } else {
            to.partial.erase(0, to.partial.size() - bytes.size());
        }
    }

    void respond(int fd, connection& to, std::string_view head) {
        const bool head_only = head.starts_with("HEAD /");  // by which kevring-load learns lengths
        if (!head_only && !head.starts_with("GET /"))
            return refuse(fd, to, "HTTP/1.1 400 Bad Request\r\n");
        const std::size_t path_begin = head.find('/');
        const std::size_t path_end = head.find(' ', path_begin);
        const std::string_view path = head.substr(path_begin, path_end - path_begin);
        const open_file* file = files_.find(path);
        if (file == nullptr) return refuse(fd, to, "HTTP/1.1 404 Not Found\r\n");
        const bool is_last = head.find("\r\nConnection: close\r\n") != head.npos ||
                             head.substr(path_begin + path.size() + 1).starts_with("HTTP/1.0");
        if (file->bytes > small_bytes_max && !head_only) return begin_large(fd, to, *file, is_last);

        const std::size_t body_bytes = head_only ? 0 : file->bytes;
        const std::size_t bytes = file->head.size() + body_bytes;
        char* target = room(fd, to, bytes);
        std::memcpy(target, file->head.data(), file->head.size());
        std::memcpy(target + date_offset, date().data(), date_bytes);
        const ssize_t count = pread(file->fd, target + file->head.size(), body_bytes, 0);
        if (count != static_cast<ssize_t>(body_bytes)) {
            to.last = true;  // shrunk: no bytes are better than wrong ones
            return;
        }
        to.output_end += bytes;
        to.last = is_last;
    }

    void begin_large(int fd, connection& to, const open_file& file, bool is_last) {
        if (to.output_begin != to.output_end) {
            flush_now(fd, to);
            ring_.submit();
        }
        to.last = is_last;
        char head[1024];
        std::memcpy(head, file.head.data(), file.head.size());
        std::memcpy(head + date_offset, date().data(), date_bytes);
        const ssize_t sent =
            ::send(fd, head, file.head.size(), MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent != static_cast<ssize_t>(file.head.size())) {  // a client that does not read
            shutdown(fd, SHUT_RDWR);
            return;
        }
        to.large = &file;
        to.large_sent = 0;
        send_large(fd, to);
    }

    // As much as the socket takes; the rest when it takes more.
    void send_large(int fd, connection& to) {
        const auto size = static_cast<off_t>(to.large->bytes);
        while (to.large_sent < size) {
            const ssize_t sent = ::sendfile(fd, to.large->fd, &to.large_sent,
                                            static_cast<std::size_t>(size - to.large_sent));
            if (sent > 0) continue;
            if (sent < 0 && errno == EAGAIN) {
                io_uring_sqe& sqe = ring_.next();
                io_uring_prep_poll_add(&sqe, fd, POLLOUT);
                sqe.user_data = label(tag::writable, fd);
                return;
            }
            shutdown(fd, SHUT_RDWR);  // the peer is gone, or the file has shrunk
            break;
        }
        to.large = nullptr;
        if (to.last) shutdown(fd, SHUT_WR);
    }

    void go_on(int fd, connection& to) {
        if (to.large == nullptr) return;
        send_large(fd, to);
        if (to.large != nullptr || to.partial.empty()) return;
        const std::string asked = std::move(to.partial);
        to.partial.clear();
        answer(fd, asked);
    }

    [[gnu::cold]] void refuse(int fd, connection& to, std::string_view status) {
        const std::string text =
            std::string(status) + "Content-Length: 0\r\nConnection: close\r\n\r\n";
        std::memcpy(room(fd, to, text.size()), text.data(), text.size());
        to.output_end += text.size();
        to.last = true;
    }

    // The memory for the next response. The kernel copies the bytes of a send when the entries of
    // this iteration are submitted; a later iteration starts at the begin of the block again.
    char* room(int fd, connection& to, std::size_t bytes) {
        if (!to.output) to.output.reset(new char[response_bytes_max]);  // not zeroed
        if (to.turn != turn_) {
            to.turn = turn_;
            to.output_begin = to.output_end = 0;
        }
        if (to.output_end + bytes > response_bytes_max) {
            flush(fd, to);
            ring_.submit();
            to.output_begin = to.output_end = 0;
        }
        return to.output.get() + to.output_end;
    }

    void flush(int fd, connection& to) {
        if (to.large != nullptr) return;
        if (to.output_begin == to.output_end) {
            if (to.last) shutdown(fd, SHUT_RDWR);
            return;
        }
        flush_now(fd, to);
    }

    void flush_now(int fd, connection& to) {
        io_uring_sqe& sqe = ring_.next();
        io_uring_prep_send(&sqe, fd, to.output.get() + to.output_begin,
                           to.output_end - to.output_begin, MSG_WAITALL | MSG_NOSIGNAL);
        if (!to.last) sqe.flags |= IOSQE_CQE_SKIP_SUCCESS;
        sqe.user_data = label(to.last ? tag::last_send : tag::send, fd);
        to.output_begin = to.output_end;
    }

    // Read from the clock page once for each request; made into text once a second.
    const std::string& date() {
        timespec now{};
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
        if (now.tv_sec != date_at_) {
            date_at_ = now.tv_sec;
            date_ = http_date(now.tv_sec);
        }
        return date_;
    }

    int listener_;
    file_table files_;
    bench_ring ring_{{.submission_count = 1024,
                      .completion_count = 8192,
                      .buffer_count = 1024,
                      .buffer_bytes = 4096}};
    std::vector<connection> connections_;  // by descriptor
    std::uint64_t turn_ = 1;
    std::time_t date_at_ = 0;
    std::string date_;
};

}  // namespace

int main(int argc, char** argv) {
    const auto options = parse_baseline_options(argc, argv);
    baseline_serve(options, [&](int listener) { file_server(listener, options.root).run(); });
}
