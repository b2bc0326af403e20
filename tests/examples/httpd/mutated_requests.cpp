// mutated_requests.cpp: sends a server what no client should, over many connections at once.
//
// Each connection has a number, and all that it does follows from that and the seed: requests made
// from seeds by changes at random, sent in pieces that are cut at random, and ended by a half-close
// that waits for all answers, by a close, or by a reset. Each response begins with HTTP/1.1, the
// server ends what it should end, and between all that it answers a good request rightly.
//
//   mutated_requests --port PORT --seeds FOLDER --dictionary FILE
//                    [--connections COUNT] [--seed NUMBER] [--first NUMBER] [--threads COUNT]
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

constexpr int answer_timeout_ms = 60'000;
constexpr std::size_t message_bytes_max = 60'000;
constexpr std::size_t answer_bytes_max = 64 << 20;
constexpr std::uint64_t probe_interval = 50;  // connections of a thread
// Each client address has ports of its own, and those rest for a while after use.
constexpr unsigned source_count = 100;

struct options {
    std::uint16_t port = 0;
    std::uint64_t seed = 1;
    std::uint64_t first = 0;
    std::uint64_t connections = 2'000;
    unsigned threads = 8;
    std::vector<std::string> seeds;
    std::vector<std::string> dictionary;
};

/// Numbers at random (splitmix64): the same for the same start.
class random_source {
public:
    explicit random_source(std::uint64_t start) noexcept : state_(start) {}
    std::uint64_t next() noexcept {
        std::uint64_t mixed = (state_ += 0x9e3779b97f4a7c15);
        mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
        mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
        return mixed ^ (mixed >> 31);
    }
    std::size_t below(std::size_t bound) noexcept {
        return bound == 0 ? 0 : static_cast<std::size_t>(next() % bound);
    }
    bool once_in(std::size_t count) noexcept { return below(count) == 0; }
    template <typename Container>
    const auto& one_of(const Container& container) noexcept {
        return container[below(container.size())];
    }

private:
    std::uint64_t state_;
};

class finding : public std::runtime_error {
    using runtime_error::runtime_error;
};

std::string printable(std::string_view bytes) {
    std::string text;
    for (const char each : bytes.substr(0, 4'000)) {
        const auto byte = static_cast<unsigned char>(each);
        if (each == '\n') {
            text += "\\n\n";
        } else if (byte >= 32 && byte < 127 && each != '\\') {
            text += each;
        } else {
            std::array<char, 5> code{};
            std::snprintf(code.data(), code.size(), "\\x%02x", byte);
            text += code.data();
        }
    }
    return text;
}

// --- What is sent.

void mutate(std::string& text, random_source& random, const options& given) {
    static constexpr std::array numbers{"0",
                                        "-1",
                                        "1",
                                        "00",
                                        "18446744073709551615",
                                        "18446744073709551616",
                                        "9223372036854775807",
                                        "1e9",
                                        "0x10",
                                        "4294967296"};
    const std::size_t index = random.below(text.size() + 1);
    const std::size_t count = 1 + random.below(random.once_in(4) ? 64 : 4);
    switch (random.below(11)) {
        case 0:
            if (index < text.size()) text[index] ^= static_cast<char>(1 << random.below(8));
            break;
        case 1:
            if (index < text.size()) text[index] = static_cast<char>(random.next());
            break;
        case 2: text.insert(index, 1, static_cast<char>(random.next())); break;
        case 3: text.erase(index, count); break;
        case 4: text.insert(index, std::string(text.substr(index, count))); break;
        case 5: text.insert(index, random.one_of(given.dictionary)); break;
        case 6: text.replace(index, count, random.one_of(given.dictionary)); break;
        case 7: {
            const std::string& other = random.one_of(given.seeds);
            text = text.substr(0, index) + other.substr(random.below(other.size()));
            break;
        }
        case 8: {  // long, up to and beyond every limit
            std::string piece = text.substr(index, 1 + random.below(40));
            const std::size_t times = 1 + random.below(random.once_in(8) ? 2'000 : 40);
            std::string long_piece;
            for (std::size_t i = 0; i < times; ++i) long_piece += piece;
            text.insert(index, long_piece);
            break;
        }
        case 9: text.insert(index, random.one_of(numbers)); break;
        default: {  // another number in the place of one
            const std::size_t digit = text.find_first_of("0123456789", index);
            if (digit == std::string::npos) break;
            const std::size_t end = text.find_first_not_of("0123456789", digit);
            text.replace(digit, std::min(end, text.size()) - digit, random.one_of(numbers));
        }
    }
    if (text.size() > message_bytes_max) text.resize(message_bytes_max);
}

std::string make_message(random_source& random, const options& given) {
    std::string message;
    const std::size_t request_count = random.once_in(3) ? 1 + random.below(8) : 1;
    for (std::size_t i = 0; i < request_count; ++i) {
        std::string request = random.one_of(given.seeds);
        const std::size_t mutation_count =
            random.once_in(3) ? 0 : 1 + random.below(1 + random.below(6));
        for (std::size_t j = 0; j < mutation_count; ++j) mutate(request, random, given);
        message += request;
    }
    if (message.size() > message_bytes_max) message.resize(message_bytes_max);
    return message;
}

// --- How.

class client {
public:
    client(std::uint16_t port, std::uint64_t number)
        : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        if (fd_ < 0) throw std::runtime_error("socket");
        const int enabled = 1;
        ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &enabled, sizeof enabled);
        ::setsockopt(fd_, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &enabled, sizeof enabled);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number % source_count);
        ::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(port);
        if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
            const int code = errno;
            ::close(fd_);
            throw finding(std::string("cannot connect: ") + std::strerror(code));
        }
    }
    client(const client&) = delete;
    client& operator=(const client&) = delete;
    ~client() { ::close(fd_); }

    /// Reads the bytes that have arrived, or both sides could wait for the other. False: the server
    /// has ended the connection.
    bool send(std::string_view bytes, std::string& received) {
        while (!bytes.empty()) {
            const ssize_t count =
                ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
            if (count >= 0) {
                bytes.remove_prefix(static_cast<std::size_t>(count));
            } else if (errno == EAGAIN) {
                if ((wait_for(POLLIN | POLLOUT) & POLLIN) != 0 && !receive(received)) return false;
            } else if (errno != EINTR) {
                return false;
            }
        }
        return true;
    }
    void end_sending() { ::shutdown(fd_, SHUT_WR); }
    void reset_on_close() {
        const linger fast_path_result{.l_onoff = 1, .l_linger = 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &fast_path_result, sizeof fast_path_result);
    }
    /// Adds what comes next; false at the end, however the server made it.
    bool receive(std::string& received) {
        wait_for(POLLIN);
        std::array<char, 1 << 16> buffer;
        const ssize_t count = ::recv(fd_, buffer.data(), buffer.size(), 0);
        if (count <= 0) return false;
        if (received.size() > answer_bytes_max) throw finding("an answer without an end");
        received.append(buffer.data(), static_cast<std::size_t>(count));
        return true;
    }

private:
    short wait_for(short events) {
        pollfd one{.fd = fd_, .events = events, .revents = 0};
        const int ready = ::poll(&one, 1, answer_timeout_ms);
        if (ready == 0) throw finding("the server neither answers nor ends the connection");
        return one.revents;
    }

    int fd_;
};

void check_beginning(std::string_view received) {
    constexpr std::string_view beginning = "HTTP/1.1 ";
    if (received.substr(0, beginning.size()) != beginning.substr(0, received.size()))
        throw finding("the received bytes are no answer: " + printable(received.substr(0, 300)));
}

void converse(const options& given, std::uint64_t number, std::string& message) {
    random_source random(given.seed * 0x2545f4914f6cdd1d + number);
    message = make_message(random, given);
    std::string_view left = message;
    enum class ending { wait, close, reset, listen_then_reset };
    const auto end = static_cast<ending>(random.once_in(2) ? 0 : random.below(4));
    if (end != ending::wait && random.once_in(2)) left = left.substr(0, random.below(left.size()));

    client peer(given.port, number);
    std::string received;
    const std::size_t piece_count = random.once_in(2) ? 1 : 1 + random.below(6);
    bool open = true;
    for (std::size_t piece = 1; open && !left.empty(); ++piece) {
        const std::size_t count =
            piece >= piece_count ? left.size() : 1 + random.below(left.size());
        open = peer.send(left.substr(0, count), received);
        left.remove_prefix(count);
        if (random.once_in(8)) std::this_thread::yield();
    }
    switch (end) {
        case ending::wait:
            peer.end_sending();
            while (peer.receive(received)) {}
            break;
        case ending::close: break;
        case ending::reset: peer.reset_on_close(); break;
        case ending::listen_then_reset:
            // Whether anything comes is not known: the message may be no request yet.
            peer.end_sending();
            peer.receive(received);
            peer.reset_on_close();
            break;
    }
    check_beginning(received);
}

void probe(const options& given, std::uint64_t number) {
    client peer(given.port, number);
    std::string received;
    peer.send("GET /probe.txt HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n", received);
    while (peer.receive(received)) {}
    check_beginning(received);
    if (!std::string_view(received).starts_with("HTTP/1.1 200 OK\r\n") ||
        !std::string_view(received).ends_with("\r\n\r\nstill here\n"))
        throw finding("a good request was answered by " + printable(received.substr(0, 600)));
}

// --- What is given.

std::string read_file(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path.string());
    return {std::istreambuf_iterator<char>(file), {}};
}

/// The lines of a libFuzzer dictionary: "text", with \xNN, \\ and \".
std::vector<std::string> read_dictionary(const std::filesystem::path& path) {
    std::vector<std::string> words;
    const std::string text = read_file(path);
    for (std::size_t index = 0; index < text.size();) {
        const std::size_t line_end = std::min(text.find('\n', index), text.size());
        const std::string_view line = std::string_view(text).substr(index, line_end - index);
        index = line_end + 1;
        if (line.size() < 3 || line.front() != '"') continue;
        std::string& word = words.emplace_back();
        for (std::size_t i = 1; i + 1 < line.size(); ++i) {
            if (line[i] == '\\' && line[i + 1] == 'x') {
                unsigned code = 0;
                std::from_chars(line.data() + i + 2, line.data() + i + 4, code, 16);
                word += static_cast<char>(code);
                i += 3;
            } else {
                if (line[i] == '\\') ++i;
                word += line[i];
            }
        }
    }
    return words;
}

std::uint64_t number_of(std::string_view text) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size())
        throw std::runtime_error("no number: " + std::string(text));
    return number;
}

options read_options(int argc, char** argv) {
    options given;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string_view name = argv[i];
        const std::string_view value = argv[i + 1];
        if (name == "--seeds") {
            std::vector<std::filesystem::path> paths;  // in the same order each time
            for (const auto& each : std::filesystem::directory_iterator(value))
                paths.push_back(each.path());
            std::sort(paths.begin(), paths.end());
            for (const auto& path : paths) given.seeds.push_back(read_file(path));
        } else if (name == "--dictionary") {
            given.dictionary = read_dictionary(value);
        } else if (name == "--port") {
            given.port = static_cast<std::uint16_t>(number_of(value));
        } else if (name == "--connections") {
            given.connections = number_of(value);
        } else if (name == "--seed") {
            given.seed = number_of(value);
        } else if (name == "--first") {
            given.first = number_of(value);
        } else if (name == "--threads") {
            given.threads = static_cast<unsigned>(number_of(value));
        } else {
            throw std::runtime_error("unknown option " + std::string(name));
        }
    }
    if (given.port == 0 || given.seeds.empty() || given.dictionary.empty())
        throw std::runtime_error("--port, --seeds and --dictionary are needed");
    return given;
}

}  // namespace

int main(int argc, char** argv) try {
    const options given = read_options(argc, argv);
    std::printf("seed %llu, %llu connections from number %llu on\n",
                static_cast<unsigned long long>(given.seed),
                static_cast<unsigned long long>(given.connections),
                static_cast<unsigned long long>(given.first));
    std::fflush(stdout);
    std::atomic<std::uint64_t> next{given.first};
    const std::uint64_t end = given.first + given.connections;
    std::atomic<int> finding_count{0};
    std::mutex printing;
    const auto work = [&] {
        std::uint64_t done = 0;
        while (finding_count.load(std::memory_order_relaxed) == 0) {
            const std::uint64_t number = next.fetch_add(1, std::memory_order_relaxed);
            if (number >= end) break;
            std::string message;
            try {
                converse(given, number, message);
                if (++done % probe_interval == 0 || number + 1 == end) probe(given, number);
            } catch (const std::exception& failure) {
                ++finding_count;
                const std::lock_guard lock(printing);
                std::printf("connection %llu: %s\nthe last message: %s\n",
                            static_cast<unsigned long long>(number), failure.what(),
                            printable(message).c_str());
            }
        }
    };
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < given.threads; ++i) threads.emplace_back(work);
    for (std::thread& each : threads) each.join();
    return finding_count == 0 ? 0 : 1;
} catch (const std::exception& failure) {
    std::fprintf(stderr, "mutated_requests: %s\n", failure.what());
    return 2;
}
