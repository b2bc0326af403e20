// openssl.cpp: TLS by OpenSSL 3 over memory (docs/design/0090-tls.md). No other file of the library
// includes it.
#include <kevring/net/detail/tls_engine.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <utility>

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

namespace kevring::detail {
namespace {

template <auto Free>
struct freed {
    template <class T>
    void operator()(T* object) const noexcept {
        Free(object);
    }
};
using unique_context = std::unique_ptr<SSL_CTX, freed<SSL_CTX_free>>;
using unique_connection = std::unique_ptr<SSL, freed<SSL_free>>;
using unique_session = std::unique_ptr<SSL_SESSION, freed<SSL_SESSION_free>>;

// The error of the calls since ERR_clear_error(), which concern a file.
std::error_code file_error(tls_errc condition) noexcept {
    std::error_code error = tls_error(condition);
    while (const unsigned long code = ERR_get_error()) {
        if (ERR_SYSTEM_ERROR(code)) error.assign(ERR_GET_REASON(code), std::system_category());
        if (ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE && !ERR_SYSTEM_ERROR(code))
            error = std::make_error_code(std::errc::not_enough_memory);
    }
    return error;
}

std::error_code verification_error(long code) noexcept {
    const int reason = static_cast<int>(code);
    switch (code) {
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH: return tls_error(tls_errc::host_mismatch, reason);
        case X509_V_ERR_CERT_HAS_EXPIRED:
        case X509_V_ERR_CERT_NOT_YET_VALID: return tls_error(tls_errc::certificate_expired, reason);
        default: return tls_error(tls_errc::certificate_untrusted, reason);
    }
}

std::error_code connection_error(const SSL* connection) noexcept {
    // The last one names the step that failed; those before it are its causes.
    const unsigned long code = ERR_peek_last_error();
    const int reason = ERR_GET_REASON(code);
    if (reason == ERR_R_MALLOC_FAILURE) return std::make_error_code(std::errc::not_enough_memory);
    if (ERR_GET_LIB(code) != ERR_LIB_SSL) return tls_error(tls_errc::protocol_error);
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
        return verification_error(SSL_get_verify_result(connection));
    if (reason == SSL_R_NO_APPLICATION_PROTOCOL ||
        reason == SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL)
        return tls_error(tls_errc::no_protocol, reason);
    if (reason >= SSL_AD_REASON_OFFSET) return tls_error(tls_errc::rejected_by_peer, reason);
    return tls_error(tls_errc::protocol_error, reason);
}

// The form of ALPN: a length before each name. Nothing for a name that has no such form.
result<std::vector<unsigned char>> protocol_list(const std::vector<std::string>& protocols) {
    std::vector<unsigned char> list;
    for (const std::string& each : protocols) {
        if (each.empty() || each.size() > 255) return error_from(std::errc::invalid_argument);
        list.push_back(static_cast<unsigned char>(each.size()));
        list.insert(list.end(), each.begin(), each.end());
    }
    return list;
}

// A terminal would be asked for it, and the thread would wait.
int no_pass_phrase(char*, int, int, void*) { return 0; }

// Options of clients and servers.
result<unique_context> new_context(const SSL_METHOD* method) {
    unique_context context(SSL_CTX_new(method));
    if (!context) return error_from(std::errc::not_enough_memory);
    SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
    SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                           SSL_OP_CIPHER_SERVER_PREFERENCE);
    // An idle connection holds no record buffers, which are 34 KiB.
    SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_default_passwd_cb(context.get(), no_pass_phrase);
    return context;
}

std::error_code use_certificate(SSL_CTX& context, const std::string& certificate_file,
                                const std::string& key_file) {
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(&context, certificate_file.c_str()) != 1)
        return file_error(tls_errc::bad_certificate_file);
    if (SSL_CTX_use_PrivateKey_file(&context, key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
        const bool mismatch = ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH ||
                              ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_TYPE_MISMATCH;
        return mismatch && ERR_GET_LIB(ERR_peek_last_error()) == ERR_LIB_X509
                   ? tls_error(tls_errc::key_mismatch)
                   : file_error(tls_errc::bad_key_file);
    }
    if (SSL_CTX_check_private_key(&context) != 1) return tls_error(tls_errc::key_mismatch);
    return {};
}

// Reads and writes the memory of an engine instead of a socket.
int read_input(BIO* bio, char* target, std::size_t capacity, std::size_t* byte_count);
int write_output(BIO* bio, const char* bytes, std::size_t byte_count, std::size_t* written);
long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

BIO_METHOD* memory_method() {
    static BIO_METHOD* const method = [] {
        BIO_METHOD* const made =
            BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "kevring");
        if (made == nullptr) return made;
        BIO_meth_set_read_ex(made, read_input);
        BIO_meth_set_write_ex(made, write_output);
        BIO_meth_set_ctrl(made, control);
        return made;
    }();
    return method;
}

void observe_message(int sent, int version, int content_type, const void* bytes,
                     std::size_t byte_count, SSL* connection, void* argument);

class openssl_engine final : public tls_engine {
public:
    openssl_engine(std::shared_ptr<tls_context_state> context, unique_connection connection,
                   std::string host_name)
        : context_(std::move(context)),
          host_name_(std::move(host_name)),
          connection_(std::move(connection)) {
        BIO* const memory = memory_method() ? BIO_new(memory_method()) : nullptr;
        if (memory == nullptr) throw std::bad_alloc();
        BIO_set_data(memory, this);
        BIO_set_init(memory, 1);
        SSL_set_bio(connection_.get(), memory, memory);
        SSL_set_app_data(connection_.get(), this);
        SSL_set_msg_callback(connection_.get(), observe_message);
        SSL_set_msg_callback_arg(connection_.get(), this);
    }

    // OpenSSL discards the session of a connection that had no close_notify. That was needed before
    // TLS 1.1 only; a session of a failed connection is not used again.
    ~openssl_engine() override {
        if (!failure)
            SSL_set_shutdown(connection_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }

    tls_progress handshake() noexcept override {
        if (failure) return tls_progress::failed;
        ERR_clear_error();
        return progress_after(SSL_do_handshake(connection_.get()));
    }

    tls_progress decrypt(std::span<std::byte> target, std::size_t& byte_count) noexcept override {
        byte_count = 0;
        if (failure) return tls_progress::failed;
        ERR_clear_error();
        const tls_progress progress = progress_after(
            SSL_read_ex(connection_.get(), target.data(), target.size(), &byte_count));
        if (progress != tls_progress::done) byte_count = 0;
        if (progress == tls_progress::done) partial_bytes_ = 0;
        return progress;
    }

    std::size_t decryptable_bytes_max() const noexcept override {
        const auto decrypted = static_cast<std::size_t>(SSL_pending(connection_.get()));
        // One record at most is incomplete; other bytes were messages without data.
        constexpr std::size_t record_bytes_max =
            SSL3_RT_HEADER_LENGTH + SSL3_RT_MAX_ENCRYPTED_LENGTH;
        if (!input.empty())
            return decrypted + std::min(partial_bytes_, record_bytes_max) + input.size();
        return SSL_has_pending(connection_.get()) == 0
                   ? 0
                   : std::max<std::size_t>(decrypted, SSL3_RT_MAX_PLAIN_LENGTH);
    }

    bool encrypt(std::span<const std::byte> bytes) noexcept override {
        if (failure) return false;
        if (bytes.empty()) return true;
        constexpr std::size_t record_extra_bytes = 64;
        const std::size_t record_count = bytes.size() / SSL3_RT_MAX_PLAIN_LENGTH + 1;
        try {
            output.reserve(output.size() + bytes.size() + record_count * record_extra_bytes);
        } catch (const std::bad_alloc&) {
            failure = std::make_error_code(std::errc::not_enough_memory);
            return false;
        }
        ERR_clear_error();
        std::size_t written = 0;
        const int answer = SSL_write_ex(connection_.get(), bytes.data(), bytes.size(), &written);
        if (progress_after(answer) == tls_progress::done) return true;
        if (!failure) failure = tls_error(tls_errc::protocol_error);  // it needs no input otherwise
        return false;
    }

    void end_sending() noexcept override {
        if (failure) return;
        ERR_clear_error();
        SSL_shutdown(connection_.get());
        ERR_clear_error();
    }

    std::string_view protocol() const noexcept override {
        const unsigned char* name = nullptr;
        unsigned byte_count = 0;
        SSL_get0_alpn_selected(connection_.get(), &name, &byte_count);
        return {reinterpret_cast<const char*>(name), byte_count};
    }
    std::string_view version() const noexcept override {
        return SSL_get_version(connection_.get());
    }
    std::string_view cipher() const noexcept override {
        return SSL_get_cipher_name(connection_.get());
    }
    std::string_view server_name() const noexcept override {
        const char* const name = SSL_get_servername(connection_.get(), TLSEXT_NAMETYPE_host_name);
        return name == nullptr ? std::string_view() : name;
    }
    bool resumed() const noexcept override { return SSL_session_reused(connection_.get()) == 1; }

    // Calls of OpenSSL.
    std::size_t take_input(char* target, std::size_t capacity) noexcept {
        const std::size_t count = std::min(capacity, input.size());
        std::memcpy(target, input.data(), count);
        input.remove_prefix(count);
        if (input.empty()) input.reset();  // the pool's buffer is free for others
        partial_bytes_ += count;
        return count;
    }
    void add_output(const char* bytes, std::size_t byte_count) {
        const auto* const first = reinterpret_cast<const std::byte*>(bytes);
        output.insert(output.end(), first, first + byte_count);
    }
    void refuse_key_update() noexcept { key_update_ = true; }
    const std::string& host_name() const noexcept { return host_name_; }
    tls_context_state& context() const noexcept { return *context_; }

private:
    tls_progress progress_after(int answer) noexcept {
        if (key_update_) {
            failure = tls_error(tls_errc::key_update_refused);
            return tls_progress::failed;
        }
        if (answer == 1) return tls_progress::done;
        switch (SSL_get_error(connection_.get(), answer)) {
            case SSL_ERROR_WANT_READ: return tls_progress::needs_input;
            case SSL_ERROR_ZERO_RETURN: return tls_progress::ended;
            case SSL_ERROR_SYSCALL:  // add_output() has thrown
                failure = std::make_error_code(std::errc::not_enough_memory);
                break;
            default: failure = connection_error(connection_.get());
        }
        ERR_clear_error();
        return tls_progress::failed;
    }

    const std::shared_ptr<tls_context_state> context_;
    const std::string host_name_;
    std::size_t partial_bytes_ = 0;  // taken from `input` since the last record was complete
    bool key_update_ = false;
    unique_connection connection_;  // last: it refers to the others
};

int read_input(BIO* bio, char* target, std::size_t capacity, std::size_t* byte_count) {
    auto& engine = *static_cast<openssl_engine*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    *byte_count = engine.input.empty() ? 0 : engine.take_input(target, capacity);
    if (*byte_count > 0) return 1;
    BIO_set_retry_read(bio);
    return -1;
}

int write_output(BIO* bio, const char* bytes, std::size_t byte_count, std::size_t* written) {
    BIO_clear_retry_flags(bio);
    try {
        static_cast<openssl_engine*>(BIO_get_data(bio))->add_output(bytes, byte_count);
    } catch (const std::bad_alloc&) {
        *written = 0;
        return -1;
    }
    *written = byte_count;
    return 1;
}

// A key update makes the reading side send. Refused, as renegotiation is: it would let a peer cause
// work without sending data.
void observe_message(int sent, int, int content_type, const void* bytes, std::size_t byte_count,
                     SSL*, void* argument) {
    if (sent == 0 && content_type == SSL3_RT_HANDSHAKE && byte_count > 0 &&
        *static_cast<const unsigned char*>(bytes) == SSL3_MT_KEY_UPDATE)
        static_cast<openssl_engine*>(argument)->refuse_key_update();
}

class openssl_state : public tls_context_state {
public:
    using tls_context_state::tls_context_state;

    result<void> reload() final {
        auto next = load();
        if (!next) return tl::unexpected(next.error());
        const std::lock_guard alone(mutex_);
        if (current_) copy_ticket_keys(*current_, **next);
        current_ = std::move(*next);
        forget_sessions();
        return {};
    }

    void keep_ticket_keys(tls_context_state& previous) noexcept final {
        auto& other = static_cast<openssl_state&>(previous);
        const std::scoped_lock both(mutex_, other.mutex_);
        copy_ticket_keys(*other.current_, *current_);
    }

protected:
    virtual result<unique_context> load() = 0;
    /// Called by a reload. A resumed session is not verified again, so the sessions that the previous
    /// authorities verified are dropped.
    virtual void forget_sessions() noexcept {}

    /// No reload ends while the result lives.
    std::unique_lock<std::mutex> hold_context() { return std::unique_lock(mutex_); }
    /// True if connections are made from `context` now; hold_context() comes first.
    bool is_current(const SSL_CTX* context) const noexcept { return context == current_.get(); }

    unique_connection new_connection() {
        const std::lock_guard alone(mutex_);
        return unique_connection(SSL_new(current_.get()));
    }

private:
    // Tickets of sessions that began before a reload stay valid.
    static void copy_ticket_keys(SSL_CTX& previous, SSL_CTX& next) noexcept {
        std::array<unsigned char, 256> keys{};
        const long byte_count = SSL_CTX_get_tlsext_ticket_keys(&previous, nullptr, 0);
        if (byte_count <= 0 || byte_count > static_cast<long>(keys.size())) return;
        SSL_CTX_get_tlsext_ticket_keys(&previous, keys.data(), byte_count);
        SSL_CTX_set_tlsext_ticket_keys(&next, keys.data(), byte_count);
        OPENSSL_cleanse(keys.data(), keys.size());
    }

    std::mutex mutex_;
    unique_context current_;  // guarded by mutex_
};

class server_state final : public openssl_state {
public:
    server_state(const tls_server_options& options, std::vector<unsigned char> protocols)
        : openssl_state(options.handshake_count_max, options.handshake_timeout),
          options_(options),
          protocols_(std::move(protocols)) {}

    bool sends_first() const noexcept override { return false; }
    result<std::unique_ptr<tls_engine>> make_engine(std::shared_ptr<tls_context_state> self,
                                                    const std::string&) override {
        unique_connection connection = new_connection();
        if (!connection) return error_from(std::errc::not_enough_memory);
        SSL_set_accept_state(connection.get());
        return std::make_unique<openssl_engine>(std::move(self), std::move(connection),
                                                std::string());
    }

protected:
    result<unique_context> load() override {
        auto made = new_context(TLS_server_method());
        if (!made) return made;
        SSL_CTX& context = **made;
        if (const auto error =
                use_certificate(context, options_.certificate_file, options_.key_file))
            return tl::unexpected(error);
        // Tickets hold the sessions: the server needs no memory for them.
        SSL_CTX_set_session_cache_mode(&context, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_session_id_context(&context, reinterpret_cast<const unsigned char*>("kevring"),
                                       7);
        if (!options_.session_tickets) {
            SSL_CTX_set_options(&context, SSL_OP_NO_TICKET);
            SSL_CTX_set_num_tickets(&context, 0);
        }
        if (!protocols_.empty()) SSL_CTX_set_alpn_select_cb(&context, select_protocol, this);
        return made;
    }

private:
    static int select_protocol(SSL*, const unsigned char** selected, unsigned char* byte_count,
                               const unsigned char* offered, unsigned offered_bytes,
                               void* argument) {
        const auto& own = static_cast<const server_state*>(argument)->protocols_;
        unsigned char* name = nullptr;
        if (SSL_select_next_proto(&name, byte_count, own.data(), static_cast<unsigned>(own.size()),
                                  offered, offered_bytes) != OPENSSL_NPN_NEGOTIATED)
            return SSL_TLSEXT_ERR_ALERT_FATAL;
        *selected = name;
        return SSL_TLSEXT_ERR_OK;
    }

    const tls_server_options options_;
    const std::vector<unsigned char> protocols_;
};

class client_state final : public openssl_state {
public:
    client_state(const tls_client_options& options, std::vector<unsigned char> protocols)
        : openssl_state(options.handshake_count_max, options.handshake_timeout),
          options_(options),
          protocols_(std::move(protocols)) {}

    bool sends_first() const noexcept override { return true; }
    result<std::unique_ptr<tls_engine>> make_engine(std::shared_ptr<tls_context_state> self,
                                                    const std::string& host_name) override {
        std::string name = host_name;
        if (!name.empty() && name.back() == '.') name.pop_back();  // of a fully qualified name
        if (name.empty() && options_.verify_peer) return error_from(std::errc::invalid_argument);
        // OpenSSL ends a name at a zero byte, and a leading dot stands for all names below it.
        if (name.find('\0') != std::string::npos || name.starts_with('.'))
            return error_from(std::errc::invalid_argument);
        unique_connection connection = new_connection();
        if (!connection) return error_from(std::errc::not_enough_memory);
        SSL_set_connect_state(connection.get());
        if (!name.empty() && !set_host(*connection, name))
            return error_from(std::errc::invalid_argument);
        if (const unique_session session = name.empty() ? nullptr : take_session(name))
            SSL_set_session(connection.get(), session.get());
        return std::make_unique<openssl_engine>(std::move(self), std::move(connection),
                                                std::move(name));
    }

    // A session of TLS 1.3 is for one connection: its ticket would link several of them.
    unique_session take_session(const std::string& host_name) {
        const std::lock_guard alone(sessions_mutex_);
        const auto found = sessions_.find(host_name);
        if (found == sessions_.end()) return nullptr;
        unique_session session;
        if (SSL_SESSION_get_protocol_version(found->second.get()) < TLS1_3_VERSION) {
            SSL_SESSION_up_ref(found->second.get());
            session.reset(found->second.get());
        } else {
            session = std::move(found->second);
            sessions_.erase(found);
        }
        if (SSL_SESSION_is_resumable(session.get()) != 1) session.reset();
        return session;
    }

    /// Keeps a session that `verified_by` has verified. Tickets come after the handshake, and so
    /// maybe after a reload, which drops what the previous authorities verified.
    void keep_session(const std::string& host_name, unique_session session,
                      const SSL_CTX* verified_by) {
        const std::unique_lock<std::mutex> no_reload = hold_context();
        if (!is_current(verified_by)) return;
        const std::lock_guard alone(sessions_mutex_);
        if (!sessions_.contains(host_name) && sessions_.size() >= options_.session_count_max)
            sessions_.erase(sessions_.begin());
        sessions_.insert_or_assign(host_name, std::move(session));
    }

protected:
    void forget_sessions() noexcept override {
        const std::lock_guard alone(sessions_mutex_);
        sessions_.clear();
    }
    result<unique_context> load() override {
        auto made = new_context(TLS_client_method());
        if (!made) return made;
        SSL_CTX& context = **made;
        ERR_clear_error();
        if (options_.verify_peer) {
            SSL_CTX_set_verify(&context, SSL_VERIFY_PEER, nullptr);
            const bool loaded =
                options_.authority_file.empty()
                    ? SSL_CTX_set_default_verify_paths(&context) == 1
                    : SSL_CTX_load_verify_file(&context, options_.authority_file.c_str()) == 1;
            if (!loaded) return tl::unexpected(file_error(tls_errc::bad_authority_file));
        }
        if (!options_.certificate_file.empty())
            if (const auto error =
                    use_certificate(context, options_.certificate_file, options_.key_file))
                return tl::unexpected(error);
        // 0 is the success of this call.
        if (!protocols_.empty() &&
            SSL_CTX_set_alpn_protos(&context, protocols_.data(),
                                    static_cast<unsigned>(protocols_.size())) != 0)
            return error_from(std::errc::not_enough_memory);
        if (options_.session_count_max > 0) {
            SSL_CTX_set_session_cache_mode(
                &context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
            SSL_CTX_sess_set_new_cb(&context, session_received);
        }
        return made;
    }

private:
    // The name that the server is asked for, and that its certificate must have.
    static bool set_host(SSL& connection, const std::string& name) noexcept {
        std::array<unsigned char, sizeof(in6_addr)> address{};
        const bool is_address = ::inet_pton(AF_INET, name.c_str(), address.data()) == 1 ||
                                ::inet_pton(AF_INET6, name.c_str(), address.data()) == 1;
        if (is_address)
            return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(&connection), name.c_str()) == 1;
        SSL_set_hostflags(&connection, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                           X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
        return SSL_set1_host(&connection, name.c_str()) == 1 &&
               SSL_set_tlsext_host_name(&connection, name.c_str()) == 1;
    }

    // Result     1: this function has taken `session`.
    static int session_received(SSL* connection, SSL_SESSION* session) {
        const auto& engine = *static_cast<openssl_engine*>(SSL_get_app_data(connection));
        if (engine.host_name().empty()) return 0;
        try {
            static_cast<client_state&>(engine.context())
                .keep_session(engine.host_name(), unique_session(session),
                              SSL_get_SSL_CTX(connection));
        } catch (const std::bad_alloc&) {
            // The session is not resumed; unique_session has freed it.
        }
        return 1;
    }

    const tls_client_options options_;
    const std::vector<unsigned char> protocols_;
    std::mutex sessions_mutex_;
    std::map<std::string, unique_session> sessions_;  // guarded by sessions_mutex_
};

template <class State, class Options>
result<std::shared_ptr<tls_context_state>> make_state(const Options& options) {
    auto protocols = protocol_list(options.protocols);
    if (!protocols) return tl::unexpected(protocols.error());
    auto state = std::make_shared<State>(options, std::move(*protocols));
    const result<void> loaded = state->reload();
    if (!loaded) return tl::unexpected(loaded.error());
    return std::shared_ptr<tls_context_state>(std::move(state));
}

}  // namespace

bool tls_available() noexcept { return true; }

result<std::shared_ptr<tls_context_state>> make_tls_client(const tls_client_options& options) {
    return make_state<client_state>(options);
}

result<std::shared_ptr<tls_context_state>> make_tls_server(const tls_server_options& options) {
    return make_state<server_state>(options);
}

std::string tls_reason_text(tls_errc condition, int reason) {
    if (reason == 0) return {};
    const bool is_verification = condition == tls_errc::certificate_untrusted ||
                                 condition == tls_errc::certificate_expired ||
                                 condition == tls_errc::host_mismatch;
    if (is_verification) return X509_verify_cert_error_string(reason);
    const char* const text = ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0, reason));
    return text == nullptr ? std::string() : text;
}

}  // namespace kevring::detail
