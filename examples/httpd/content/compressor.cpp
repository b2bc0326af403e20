#include "compressor.hpp"

#include <array>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#ifdef HTTPD_ZLIB
#include <zlib.h>
#endif
#ifdef HTTPD_ZSTD
#include <zstd.h>
#endif

namespace httpd {
namespace {

constexpr std::size_t part_bytes = 64 * 1024;

bool write_all(int target, const std::byte* bytes, std::size_t byte_count) noexcept {
    while (byte_count > 0) {
        const ssize_t count = ::write(target, bytes, byte_count);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        bytes += count;
        byte_count -= static_cast<std::size_t>(count);
    }
    return true;
}

// Compresses one part after the other; `finish` is set for the last.
class stream {
public:
    virtual ~stream() = default;
    // True if all of the input was accepted and, at the end, all output was written.
    virtual bool add(std::span<const std::byte> part, bool finish) = 0;

    int target = -1;
    std::uint64_t written = 0;
    std::uint64_t written_max = 0;

protected:
    bool emit(const std::byte* bytes, std::size_t byte_count) noexcept {
        written += byte_count;
        return written <= written_max && write_all(target, bytes, byte_count);
    }
    std::vector<std::byte> output_ = std::vector<std::byte>(part_bytes);
};

#ifdef HTTPD_ZLIB
class gzip_stream final : public stream {
public:
    gzip_stream() {
        constexpr int level = 6;
        constexpr int window_bits_gzip = 15 + 16;
        constexpr int memory_level = 8;
        valid_ = ::deflateInit2(&state_, level, Z_DEFLATED, window_bits_gzip, memory_level,
                                Z_DEFAULT_STRATEGY) == Z_OK;
    }
    gzip_stream(const gzip_stream&) = delete;
    gzip_stream& operator=(const gzip_stream&) = delete;
    ~gzip_stream() override {
        if (valid_) ::deflateEnd(&state_);
    }
    bool add(std::span<const std::byte> part, bool finish) override {
        if (!valid_) return false;
        // zlib does not modify the input; its declaration lacks the const.
        state_.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(part.data()));
        state_.avail_in = static_cast<uInt>(part.size());
        int outcome = Z_OK;
        do {
            state_.next_out = reinterpret_cast<Bytef*>(output_.data());
            state_.avail_out = static_cast<uInt>(output_.size());
            outcome = ::deflate(&state_, finish ? Z_FINISH : Z_NO_FLUSH);
            if (outcome != Z_OK && outcome != Z_STREAM_END && outcome != Z_BUF_ERROR) return false;
            if (!emit(output_.data(), output_.size() - state_.avail_out)) return false;
        } while (state_.avail_out == 0);
        return finish ? outcome == Z_STREAM_END : state_.avail_in == 0;
    }

private:
    z_stream state_{};
    bool valid_ = false;
};
#endif

#ifdef HTTPD_ZSTD
class zstd_stream final : public stream {
public:
    explicit zstd_stream(std::uint64_t byte_count) : state_(::ZSTD_createCCtx()) {
        constexpr int level = 9;  // of a window below the 8 MiB that RFC 9659 allows
        if (state_ == nullptr) return;
        ::ZSTD_CCtx_setParameter(state_, ZSTD_c_compressionLevel, level);
        ::ZSTD_CCtx_setParameter(state_, ZSTD_c_windowLog, 22);
        ::ZSTD_CCtx_setParameter(state_, ZSTD_c_checksumFlag, 1);
        ::ZSTD_CCtx_setPledgedSrcSize(state_, byte_count);
    }
    zstd_stream(const zstd_stream&) = delete;
    zstd_stream& operator=(const zstd_stream&) = delete;
    ~zstd_stream() override { ::ZSTD_freeCCtx(state_); }
    bool add(std::span<const std::byte> part, bool finish) override {
        if (state_ == nullptr) return false;
        ZSTD_inBuffer input{part.data(), part.size(), 0};
        while (true) {
            ZSTD_outBuffer output{output_.data(), output_.size(), 0};
            const std::size_t left = ::ZSTD_compressStream2(state_, &output, &input,
                                                            finish ? ZSTD_e_end : ZSTD_e_continue);
            if (::ZSTD_isError(left) != 0 || !emit(output_.data(), output.pos)) return false;
            if (finish ? left == 0 : input.pos == input.size) return true;
        }
    }

private:
    ZSTD_CCtx* state_;
};
#endif

std::unique_ptr<stream> make_stream(content_coding coding,
                                    [[maybe_unused]] std::uint64_t byte_count) {
    switch (coding) {
#ifdef HTTPD_ZLIB
        case content_coding::gzip: return std::make_unique<gzip_stream>();
#endif
#ifdef HTTPD_ZSTD
        case content_coding::zstd: return std::make_unique<zstd_stream>(byte_count);
#endif
        default: return nullptr;
    }
}

}  // namespace

unsigned compressor_codings() noexcept {
    unsigned codings = 0;
#ifdef HTTPD_ZLIB
    codings |= accepted_codings::bit(content_coding::gzip);
#endif
#ifdef HTTPD_ZSTD
    codings |= accepted_codings::bit(content_coding::zstd);
#endif
    return codings;
}

std::string_view compressor_version(content_coding coding) noexcept {
#ifdef HTTPD_ZLIB
    if (coding == content_coding::gzip) return ::zlibVersion();
#endif
#ifdef HTTPD_ZSTD
    if (coding == content_coding::zstd) return ::ZSTD_versionString();
#endif
    static_cast<void>(coding);
    return {};
}

kevring::fd compress_file(kevring::fd_ref source, std::uint64_t byte_count, content_coding coding,
                          const std::function<bool()>& stopping) {
    const auto made = make_stream(coding, byte_count);
    kevring::fd target(::memfd_create("httpd-compressed", MFD_CLOEXEC));
    if (!made || !target) return {};
    made->target = target.number();
    made->written_max = byte_count - byte_count / 20;
    std::vector<std::byte> part(part_bytes);
    for (std::uint64_t offset = 0; offset < byte_count;) {
        if (stopping()) return {};
        const std::uint64_t left = byte_count - offset;
        const std::size_t wanted = left < part_bytes ? static_cast<std::size_t>(left) : part_bytes;
        const ssize_t count =
            ::pread(source.number(), part.data(), wanted, static_cast<off_t>(offset));
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return {};
        offset += static_cast<std::uint64_t>(count);
        const auto taken = std::span(part).first(static_cast<std::size_t>(count));
        if (!made->add(taken, offset == byte_count)) return {};
    }
    return target;
}

}  // namespace httpd
