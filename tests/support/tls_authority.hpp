// tls_authority.hpp: a certificate authority of the test, and certificates from it, in files.
#pragma once

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

/// Files in a folder of its own, which the destructor removes.
class tls_authority {
public:
    struct certificate {
        std::string chain_file;
        std::string key_file;
    };

    tls_authority() {
        std::string name = (std::filesystem::temp_directory_path() / "kevring-tls-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
        folder_ = name;
        key_.reset(EVP_EC_gen("P-256"));
        certificate_ = make("the test's authority", key_.get(), "CA:TRUE", "", -3600, 3600);
        write_certificate(authority_file(), *certificate_);
    }
    tls_authority(const tls_authority&) = delete;
    tls_authority& operator=(const tls_authority&) = delete;
    ~tls_authority() {
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }

    std::string authority_file() const { return folder_ + "/authority.pem"; }
    std::string path(const std::string& name) const { return folder_ + "/" + name; }

    /// A certificate for `names`, such as "DNS:localhost,IP:127.0.0.1", in files called `file_name`.
    certificate issue(const std::string& file_name, const std::string& names,
                      long begin_seconds = -3600, long end_seconds = 3600) {
        const key_pointer key(EVP_EC_gen("P-256"));
        const x509_pointer made =
            make(file_name, key.get(), "CA:FALSE", names, begin_seconds, end_seconds);
        const certificate files{path(file_name + ".pem"), path(file_name + ".key")};
        write_certificate(files.chain_file, *made);
        const file_pointer file(std::fopen(files.key_file.c_str(), "w"));
        if (!file ||
            PEM_write_PrivateKey(file.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1)
            throw std::runtime_error("PEM_write_PrivateKey");
        return files;
    }

private:
    template <auto Free>
    struct freed {
        template <class T>
        void operator()(T* object) const {
            Free(object);
        }
    };
    using key_pointer = std::unique_ptr<EVP_PKEY, freed<EVP_PKEY_free>>;
    using x509_pointer = std::unique_ptr<X509, freed<X509_free>>;
    using file_pointer = std::unique_ptr<std::FILE, freed<std::fclose>>;

    x509_pointer make(const std::string& name, EVP_PKEY* key, const char* constraints,
                      const std::string& names, long begin_seconds, long end_seconds) {
        x509_pointer made(X509_new());
        X509_set_version(made.get(), 2);
        ASN1_INTEGER_set(X509_get_serialNumber(made.get()), ++serial_);
        X509_gmtime_adj(X509_getm_notBefore(made.get()), begin_seconds);
        X509_gmtime_adj(X509_getm_notAfter(made.get()), end_seconds);
        X509_set_pubkey(made.get(), key);
        X509_NAME_add_entry_by_txt(X509_get_subject_name(made.get()), "CN", MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
        X509* const issuer = certificate_ ? certificate_.get() : made.get();
        X509_set_issuer_name(made.get(), X509_get_subject_name(issuer));
        add(*made, *issuer, NID_basic_constraints, constraints);
        if (!names.empty()) add(*made, *issuer, NID_subject_alt_name, names.c_str());
        if (X509_sign(made.get(), key_.get(), EVP_sha256()) == 0)
            throw std::runtime_error("X509_sign");
        return made;
    }
    static void add(X509& target, X509& issuer, int kind, const char* value) {
        X509V3_CTX context;
        X509V3_set_ctx_nodb(&context);
        X509V3_set_ctx(&context, &issuer, &target, nullptr, nullptr, 0);
        const std::unique_ptr<X509_EXTENSION, freed<X509_EXTENSION_free>> made(
            X509V3_EXT_conf_nid(nullptr, &context, kind, value));
        if (!made || X509_add_ext(&target, made.get(), -1) != 1)
            throw std::runtime_error("X509_add_ext");
    }
    static void write_certificate(const std::string& path, X509& certificate) {
        const file_pointer file(std::fopen(path.c_str(), "w"));
        if (!file || PEM_write_X509(file.get(), &certificate) != 1)
            throw std::runtime_error("PEM_write_X509");
    }

    std::string folder_;
    key_pointer key_;
    x509_pointer certificate_;
    long serial_ = 0;
};
