// Text to token ids and back, exactly as the published tokenizer does it and in time near linear in the text whatever
// it holds. Immutable after load(): any number of threads may use one Tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/byte_pairs.h"
#include "runtime/text/piece.h"
#include "runtime/text/vocabulary.h"

namespace zoetrope {

class Tokenizer {
 public:
  // From tokenizer.json, else from vocab.json + merges.txt + tokenizer_config.json. Throws Error(kStartup).
  static Tokenizer load(const std::filesystem::path& folder);

  explicit Tokenizer(const Vocabulary& vocabulary);

  // The encoders throw Error(kRequest) when the text is not valid UTF-8.
  std::vector<TokenId> encode_text(std::string_view text) const;           // no added token is ever recognised
  std::vector<TokenId> encode_with_controls(std::string_view text) const;  // added tokens recognised: trusted text only
  // Adjacent text pieces are one text; a control piece becomes its id. Media pieces must have been expanded before.
  // Nothing where there are more than `tokens_max`: neither time nor memory grows with what lies beyond.
  std::optional<std::vector<TokenId>> encode(std::span<const Piece> pieces, std::size_t tokens_max) const;
  std::vector<TokenId> encode(std::span<const Piece> pieces) const;

  std::optional<TokenId> added_token(std::string_view surface) const;  // "<|im_end|>" -> id
  std::string_view token_bytes(TokenId id) const;  // raw bytes; the surface of added tokens; empty for unused ids
  bool is_special(TokenId id) const;               // dropped when an answer is decoded
  TokenId size() const { return static_cast<TokenId>(special_.size()); }  // one past the largest id

  // Invalid UTF-8 becomes U+FFFD as Python's errors="replace" writes it; unused ids stand for nothing.
  std::string decode(std::span<const TokenId> ids, bool skip_special) const;

 private:
  struct Found {
    std::size_t at, end;
    TokenId id;
  };

  // NFC, words, bytes, merges. False, and `out` is unfinished, where it would have more than `tokens_max`.
  bool append_words(std::string_view text, std::vector<TokenId>& out, std::size_t tokens_max) const;
  bool surely_exceeds(std::size_t bytes, std::size_t tokens) const { return bytes / longest_bytes_ > tokens; }
  std::optional<Found> next_added(std::string_view text, std::size_t from) const;

  BytePairs pairs_;
  std::vector<AddedToken> added_;     // longest surface first
  std::string bytes_;                 // of all tokens, end to end
  std::vector<std::size_t> offsets_;  // token i is bytes_[offsets_[i], offsets_[i + 1])
  std::vector<bool> special_;
  std::size_t longest_bytes_ = 1;  // of the tokens that stand for text
};

}  // namespace zoetrope
