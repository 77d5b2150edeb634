#include "runtime/text/template_edition.h"

#include <fmt/format.h>
#include <openssl/sha.h>

#include <array>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include "monitoring/error.h"
#include "runtime/json/json.h"

namespace zoetrope {
namespace {

constexpr std::size_t kTemplateBytesMax = std::size_t{1} << 20;

struct KnownTemplate {
  std::string_view sha256;  // of the normalised text
  Edition edition;
};
constexpr KnownTemplate kKnown[] = {
    {"9d879ef91075acbfb2df7e441fd79d60bacfca989cf6d511d2af45c681e94f10", Edition::kInstruct},
    {"84ed326ccec340f3c775d5a31c0aada290d59819c18e43650aabe14f1d42c839", Edition::kThinking},
};

// Line feeds only, nothing blank at the end: what editors and downloads change without changing the template.
std::string normalised(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r') {
      out += text[i];
    } else if (i + 1 == text.size() || text[i + 1] != '\n') {
      out += '\n';
    }
  }
  out.erase(out.find_last_not_of(" \t\n") + 1);
  return out;
}

std::string sha256_of(std::string_view text) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  std::string hex;
  for (const unsigned char byte : digest) {
    hex += fmt::format("{:02x}", byte);
  }
  return hex;
}

std::string read_text(const std::filesystem::path& file) {
  std::error_code ec;
  const auto size = std::filesystem::file_size(file, ec);
  if (ec || size > kTemplateBytesMax) {
    refuse(Radius::kStartup, {file.string(), ec ? "no readable file" : fmt::format("{} bytes", size),
                              fmt::format("a chat template of at most {} bytes", kTemplateBytesMax),
                              "copy the file from the published checkpoint"});
  }
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) {
    refuse(Radius::kStartup,
           {file.string(), "a file that cannot be read or is empty", "a chat template", "check its permissions"});
  }
  json::refuse_lfs_pointer(text.str(), {file.string(), Radius::kStartup}, "a chat template");
  return text.str();
}

// The field "chat_template" of a JSON file, if the file and the field exist.
std::optional<std::string> template_in_json(const std::filesystem::path& file) {
  std::error_code ec;
  if (!std::filesystem::exists(file, ec)) {
    return std::nullopt;
  }
  const json::Value parsed = json::parse_file(file, Radius::kStartup);
  const json::Fields fields(parsed, {file.string(), Radius::kStartup});
  return fields.has("chat_template") ? std::optional(fields.text("chat_template")) : std::nullopt;
}

}  // namespace

Edition edition_of(std::string_view template_text, std::string_view source) {
  const std::string digest = sha256_of(normalised(template_text));
  for (const KnownTemplate& known : kKnown) {
    if (digest == known.sha256) {
      return known.edition;
    }
  }
  refuse(Radius::kStartup,
         {fmt::format("{}: unknown chat template", source),
          fmt::format("a template of {} bytes with SHA-256 {}", template_text.size(), digest),
          "the published template of Qwen3-VL Instruct or Thinking",
          "copy chat_template.json from the published checkpoint; templates are recognised, never executed"});
}

Edition load_edition(const std::filesystem::path& folder) {
  std::error_code ec;
  if (const auto file = folder / "chat_template.jinja"; std::filesystem::exists(file, ec)) {
    return edition_of(read_text(file), file.string());
  }
  for (const char* name : {"chat_template.json", "tokenizer_config.json"}) {
    if (const auto text = template_in_json(folder / name)) {
      return edition_of(*text, (folder / name).string());
    }
  }
  refuse(Radius::kStartup,
         {folder.string(), "no chat template",
          "chat_template.jinja, chat_template.json or the field chat_template of tokenizer_config.json",
          "copy chat_template.json from the published checkpoint"});
}

}  // namespace zoetrope
