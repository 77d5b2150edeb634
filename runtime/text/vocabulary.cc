#include "runtime/text/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <unordered_set>

#include "monitoring/error.h"
#include "runtime/json/json.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/utf8.h"

namespace zoetrope {
namespace {

constexpr TokenId kIdsMax = 1 << 22;           // Qwen3-VL has 151669
constexpr std::size_t kSurfaceBytesMax = 256;  // of an added token

// GPT-2's alphabet writes every byte as one printable character: itself where it is printable, else U+0100 and up.
std::array<char32_t, 256> byte_alphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t next = 0x100;
  for (char32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    alphabet[b] = printable ? b : next++;
  }
  return alphabet;
}

// The bytes that a token's spelling in that alphabet stands for; refuses other characters.
std::string spelled_bytes(std::string_view spelling, const std::string& file) {
  static const auto byte_of = [] {
    std::array<int, 0x144> table;
    table.fill(-1);
    const auto alphabet = byte_alphabet();
    for (int b = 0; b < 256; ++b) {
      table[alphabet[b]] = b;
    }
    return table;
  }();
  std::string bytes;
  for (std::size_t at = 0; at < spelling.size();) {
    const CodePoint c = code_point_at(spelling, at);
    at += c.bytes;
    if (c.value >= byte_of.size() || byte_of[c.value] < 0) {
      refuse(Radius::kStartup,
             {file + ": vocabulary", fmt::format("the token {}", zoetrope::quoted(spelling)),
              "tokens spelled in the byte-level alphabet", "use the tokenizer files of the checkpoint"});
    }
    bytes += static_cast<char>(byte_of[c.value]);
  }
  return bytes;
}

void read_tokens(const json::Object& vocab, const std::string& file, Vocabulary& out) {
  for (const auto& [spelling, id] : vocab) {
    if (!id.is_int64() || id.get_int64() < 0 || id.get_int64() >= kIdsMax) {
      refuse(Radius::kStartup,
             {fmt::format("{}: id of the token {}", file, zoetrope::quoted(spelling)), json::described(id),
              fmt::format("a whole number from 0 to {}", kIdsMax - 1), "use the checkpoint's own file"});
    }
    const auto at = static_cast<std::size_t>(id.get_int64());
    if (at >= out.bytes.size()) {
      out.bytes.resize(at + 1);
    }
    if (spelling.empty() || !out.bytes[at].empty()) {
      refuse(Radius::kStartup,
             {fmt::format("{}: token {}", file, at), spelling.empty() ? "an empty token" : "two tokens with this id",
              "one token with one id", "use the checkpoint's own file"});
    }
    out.bytes[at] = spelled_bytes(spelling, file);
  }
  std::string spelling;
  const auto alphabet = byte_alphabet();
  for (std::size_t b = 0; b < 256; ++b) {
    spelling.clear();
    append_utf8(spelling, alphabet[b]);
    const json::Value* id = vocab.if_contains(spelling);
    if (id == nullptr) {
      refuse(Radius::kStartup, {file + ": vocabulary", fmt::format("no token for the byte 0x{:02x}", b),
                                "a token for each of the 256 bytes", "use the checkpoint's own file"});
    }
    out.byte_tokens[b] = static_cast<TokenId>(id->get_int64());
  }
}

// Resolves "left right" spellings to ids, in order.
class MergeReader {
 public:
  MergeReader(const json::Object& vocab, std::string file, Vocabulary& out)
      : vocab_(vocab), file_(std::move(file)), out_(out) {}

  void add(std::string_view left, std::string_view right) {
    const BytePairs::Merge merge = {id(left), id(right), id(std::string(left) + std::string(right))};
    const auto key = static_cast<std::uint64_t>(merge.left) << 32 | static_cast<std::uint32_t>(merge.right);
    if (!seen_.insert(key).second) {
      complain(fmt::format("the pair {} {} a second time", zoetrope::quoted(left), zoetrope::quoted(right)),
               "every pair once");
    }
    out_.merges.push_back(merge);
  }

  void add_line(std::string_view line) {
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      complain(zoetrope::quoted(line), "two tokens with one space between them");
    }
    add(line.substr(0, space), line.substr(space + 1));
  }

  [[noreturn]] void complain(std::string found, std::string expected) const {
    refuse(Radius::kStartup, {fmt::format("{}: merge {}", file_, out_.merges.size()), std::move(found),
                              std::move(expected), "use the checkpoint's own file"});
  }

 private:
  TokenId id(std::string_view spelling) const {
    const json::Value* found = vocab_.if_contains(spelling);
    if (found == nullptr) {
      complain(zoetrope::quoted(spelling), "tokens of the vocabulary");
    }
    return static_cast<TokenId>(found->get_int64());
  }

  const json::Object& vocab_;
  std::string file_;
  Vocabulary& out_;
  std::unordered_set<std::uint64_t> seen_;
};

void read_added(const json::Fields& token, std::int64_t id, Vocabulary& out) {
  for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"}) {
    if (token.boolean_or(flag, false)) {
      token.refuse(flag, "true", "false", "such added tokens change how text is split and are not supported");
    }
  }
  AddedToken added{static_cast<TokenId>(id), token.text("content"), token.boolean_or("special", false)};
  if (added.surface.empty() || added.surface.size() > kSurfaceBytesMax) {
    token.refuse("content", fmt::format("{} bytes", added.surface.size()),
                 fmt::format("1 to {} bytes", kSurfaceBytesMax), "use the checkpoint's own file");
  }
  const auto clash = [&](const AddedToken& other) { return other.id == added.id || other.surface == added.surface; };
  const bool used = static_cast<std::size_t>(id) < out.bytes.size() && !out.bytes[static_cast<std::size_t>(id)].empty();
  if (used || std::any_of(out.added.begin(), out.added.end(), clash)) {
    token.refuse("content",
                 fmt::format("{} with id {}, where id or text is taken", zoetrope::quoted(added.surface), id),
                 "an id and a text of its own for every token", "use the checkpoint's own file");
  }
  out.added.push_back(std::move(added));
}

// {"151645": {"content": "<|im_end|>", ...}, ...} of tokenizer_config.json.
void read_added_decoder(const json::Fields& config, Vocabulary& out) {
  const json::Fields decoder = config.child("added_tokens_decoder");
  for (const auto& [key, value] : decoder.object()) {
    const std::string_view digits = key;
    if (digits.empty() || digits.size() > 7 || digits.find_first_not_of("0123456789") != std::string_view::npos ||
        std::stol(std::string(digits)) >= kIdsMax) {
      decoder.refuse(digits, fmt::format("the key {}", zoetrope::quoted(digits)), "ids as keys",
                     "use the checkpoint's own file");
    }
    read_added(json::Fields(value, decoder.source(), "added_tokens_decoder." + std::string(digits)),
               std::stol(std::string(digits)), out);
  }
}

void expect_text(const json::Fields& fields, std::string_view key, std::string_view expected) {
  if (const std::string found = fields.text(key); found != expected) {
    fields.refuse(key, zoetrope::quoted(found, 200), zoetrope::quoted(expected, 200),
                  "only the tokenizer of Qwen3-VL is supported");
  }
}

void expect_flag(const json::Fields& fields, std::string_view key, bool expected) {
  if (fields.boolean(key) != expected) {
    fields.refuse(key, expected ? "false" : "true", expected ? "true" : "false",
                  "only the tokenizer of Qwen3-VL is supported");
  }
}

// NFC, the pattern, bytes: the pipeline that Tokenizer is. Truncation, padding and offsets do not touch ids.
void expect_pipeline(const json::Fields& file) {
  expect_text(file.child("normalizer"), "type", "NFC");
  const json::Fields before = file.child("pre_tokenizer");
  expect_text(before, "type", "Sequence");
  const json::Array& steps = before.array("pretokenizers");
  if (steps.size() != 2) {
    before.refuse("pretokenizers", fmt::format("{} steps", steps.size()), "2 steps: Split, ByteLevel",
                  "only the tokenizer of Qwen3-VL is supported");
  }
  const json::Fields split(steps[0], file.source(), "pre_tokenizer.pretokenizers[0]");
  expect_text(split, "type", "Split");
  expect_text(split.child("pattern"), "Regex", kPretokenizerPattern);
  expect_text(split, "behavior", "Isolated");
  expect_flag(split, "invert", false);
  const json::Fields bytes(steps[1], file.source(), "pre_tokenizer.pretokenizers[1]");
  expect_text(bytes, "type", "ByteLevel");
  expect_flag(bytes, "add_prefix_space", false);
  expect_flag(bytes, "use_regex", false);
  expect_text(file.child("decoder"), "type", "ByteLevel");
  if (file.has("post_processor")) {
    expect_text(file.child("post_processor"), "type", "ByteLevel");
  }
}

void expect_plain_model(const json::Fields& model) {
  expect_text(model, "type", "BPE");
  for (const char* key : {"dropout", "unk_token"}) {
    if (const json::Value* value = model.find(key)) {
      model.refuse(key, json::described(*value), "null", "only the tokenizer of Qwen3-VL is supported");
    }
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (model.text_or(key, "") != "") {
      model.refuse(key, zoetrope::quoted(model.text(key)), "nothing", "only the tokenizer of Qwen3-VL is supported");
    }
  }
  for (const char* key : {"byte_fallback", "ignore_merges"}) {
    if (model.boolean_or(key, false)) {
      model.refuse(key, "true", "false", "only the tokenizer of Qwen3-VL is supported");
    }
  }
}

// tokenizer.json and tokenizer_config.json must agree, or ids would depend on which one a program reads.
void expect_same_added(const std::filesystem::path& config_file, const Vocabulary& vocabulary) {
  std::error_code ec;
  if (!std::filesystem::exists(config_file, ec)) {
    return;
  }
  const json::Value config = json::parse_file(config_file, Radius::kStartup);
  const json::Fields fields(config, {config_file.string(), Radius::kStartup});
  if (!fields.has("added_tokens_decoder")) {
    return;
  }
  Vocabulary listed;
  read_added_decoder(fields, listed);
  for (const AddedToken& token : listed.added) {
    const auto same = [&token](const AddedToken& other) {
      return other.id == token.id && other.surface == token.surface && other.special == token.special;
    };
    if (std::none_of(vocabulary.added.begin(), vocabulary.added.end(), same)) {
      fields.refuse("added_tokens_decoder", fmt::format("{} with id {}", zoetrope::quoted(token.surface), token.id),
                    "the added tokens of tokenizer.json", "use files that belong together");
    }
  }
}

Vocabulary from_tokenizer_json(const std::filesystem::path& file) {
  const json::Source source{file.string(), Radius::kStartup};
  const json::Value parsed = json::parse_file(file, Radius::kStartup);
  const json::Fields fields(parsed, source);
  expect_pipeline(fields);
  const json::Fields model = fields.child("model");
  expect_plain_model(model);
  Vocabulary out;
  const json::Fields vocab = model.child("vocab");
  read_tokens(vocab.object(), source.name, out);
  MergeReader merges(vocab.object(), source.name, out);
  for (const json::Value& merge : model.array("merges")) {
    if (merge.is_string()) {
      merges.add_line(merge.get_string());
    } else if (merge.is_array() && merge.get_array().size() == 2 && merge.get_array()[0].is_string() &&
               merge.get_array()[1].is_string()) {
      merges.add(merge.get_array()[0].get_string(), merge.get_array()[1].get_string());
    } else {
      merges.complain(json::described(merge), "\"left right\" or [\"left\", \"right\"]");
    }
  }
  const json::Array& added = fields.array("added_tokens");
  for (std::size_t i = 0; i < added.size(); ++i) {
    const json::Fields token(added[i], source, fmt::format("added_tokens[{}]", i));
    read_added(token, token.integer("id", 0, kIdsMax - 1), out);
  }
  expect_same_added(file.parent_path() / "tokenizer_config.json", out);
  return out;
}

// The older form names no pipeline; that of the class Qwen2Tokenizer is fixed.
Vocabulary from_vocab_and_merges(const std::filesystem::path& folder) {
  const std::string config_name = (folder / "tokenizer_config.json").string();
  const json::Value config = json::parse_file(config_name, Radius::kStartup);
  const json::Fields fields(config, {config_name, Radius::kStartup});
  if (const std::string name = fields.text("tokenizer_class");
      name != "Qwen2Tokenizer" && name != "Qwen2TokenizerFast") {
    fields.refuse("tokenizer_class", zoetrope::quoted(name), "'Qwen2Tokenizer'",
                  "only the tokenizer of Qwen3-VL is supported");
  }
  if (fields.boolean_or("add_prefix_space", false)) {
    fields.refuse("add_prefix_space", "true", "false", "only the tokenizer of Qwen3-VL is supported");
  }
  const std::string vocab_name = (folder / "vocab.json").string();
  const json::Value vocab_value = json::parse_file(vocab_name, Radius::kStartup);
  const json::Fields vocab(vocab_value, {vocab_name, Radius::kStartup});
  Vocabulary out;
  read_tokens(vocab.object(), vocab_name, out);
  const std::filesystem::path merges_file = folder / "merges.txt";
  std::ifstream in(merges_file, std::ios::binary);
  if (!in) {
    refuse(Radius::kStartup, {merges_file.string(), "no readable file", "the merges that belong to vocab.json",
                              "add merges.txt or tokenizer.json to the checkpoint"});
  }
  MergeReader merges(vocab.object(), merges_file.string(), out);
  std::string line;
  for (bool first = true; std::getline(in, line); first = false) {
    if (first) {
      json::refuse_lfs_pointer(line, {merges_file.string(), Radius::kStartup}, "the merges that belong to vocab.json");
    }
    if (!line.empty() && line.back() == '\r') {
      line.pop_back();
    }
    if (!line.empty() && !(first && line.starts_with("#version:"))) {
      merges.add_line(line);
    }
  }
  read_added_decoder(fields, out);
  return out;
}

}  // namespace

Vocabulary load_vocabulary(const std::filesystem::path& folder) {
  std::error_code ec;
  if (std::filesystem::exists(folder / "tokenizer.json", ec)) {
    return from_tokenizer_json(folder / "tokenizer.json");
  }
  if (std::filesystem::exists(folder / "vocab.json", ec)) {
    return from_vocab_and_merges(folder);
  }
  refuse(Radius::kStartup, {folder.string(), "no tokenizer", "tokenizer.json, or vocab.json with merges.txt",
                            "copy the tokenizer files into the checkpoint's folder"});
}

}  // namespace zoetrope
