#include "runtime/checkpoint/digest.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <fstream>
#include <vector>

#include "monitoring/check.h"
#include "monitoring/error.h"

namespace zoetrope {

struct Digest::Context {
  EVP_MD_CTX* handle = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(handle); }
};

Digest::Digest() : context_(std::make_unique<Context>()) {
  check(context_->handle != nullptr && EVP_DigestInit_ex(context_->handle, EVP_sha256(), nullptr) == 1,
        "SHA-256 starts");
}

Digest::~Digest() = default;

void Digest::add(const void* data, std::size_t bytes) {
  check(EVP_DigestUpdate(context_->handle, data, bytes) == 1, "SHA-256 takes bytes");
}

void Digest::add_text(std::string_view text) {
  add_number(text.size());
  add(text.data(), text.size());
}

void Digest::add_number(std::uint64_t number) {
  std::array<unsigned char, 8> bytes{};  // little-endian, whatever the machine
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<unsigned char>(number >> (8 * i));
  }
  add(bytes.data(), bytes.size());
}

std::string Digest::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned int count = 0;
  check(EVP_DigestFinal_ex(context_->handle, bytes.data(), &count) == 1, "SHA-256 ends");
  std::string text;
  for (unsigned int i = 0; i < count; ++i) {
    text += fmt::format("{:02x}", bytes[i]);
  }
  return text;
}

std::string file_digest(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::vector<char> piece(std::size_t{1} << 20);
  Digest digest;
  while (in) {
    in.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    digest.add(piece.data(), static_cast<std::size_t>(in.gcount()));
  }
  if (!in.eof()) {
    refuse(Radius::kStartup, {file.string(), "a file that cannot be read", "a readable file", "check its permissions"});
  }
  return digest.finish();
}

}  // namespace zoetrope
