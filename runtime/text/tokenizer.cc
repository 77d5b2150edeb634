#include "runtime/text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "runtime/text/nfc.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/utf8.h"

namespace zoetrope {
namespace {

constexpr std::size_t kUnlimited = std::numeric_limits<std::size_t>::max();

}  // namespace

Tokenizer Tokenizer::load(const std::filesystem::path& folder) { return Tokenizer(load_vocabulary(folder)); }

Tokenizer::Tokenizer(const Vocabulary& vocabulary)
    : pairs_(vocabulary.byte_tokens, vocabulary.merges), added_(vocabulary.added) {
  std::size_t size = vocabulary.bytes.size();
  for (const AddedToken& token : added_) {
    size = std::max(size, static_cast<std::size_t>(token.id) + 1);
  }
  special_.assign(size, false);
  for (const std::string& bytes : vocabulary.bytes) {
    longest_bytes_ = std::max(longest_bytes_, bytes.size());
  }
  std::vector<std::string_view> surfaces(vocabulary.bytes.begin(), vocabulary.bytes.end());
  surfaces.resize(size);
  for (const AddedToken& token : added_) {
    surfaces[static_cast<std::size_t>(token.id)] = token.surface;
    special_[static_cast<std::size_t>(token.id)] = token.special;
  }
  offsets_.push_back(0);
  for (const std::string_view surface : surfaces) {
    bytes_ += surface;
    offsets_.push_back(bytes_.size());
  }
  std::stable_sort(added_.begin(), added_.end(),
                   [](const AddedToken& a, const AddedToken& b) { return a.surface.size() > b.surface.size(); });
}

bool Tokenizer::append_words(std::string_view text, std::vector<TokenId>& out, std::size_t tokens_max) const {
  constexpr std::size_t kNfcShrinks = 4;  // U+1FBE U+0308 U+0301, seven bytes, become two
  if (out.size() > tokens_max || surely_exceeds(text.size() / kNfcShrinks, tokens_max - out.size())) {
    return false;
  }
  const std::string normal = nfc(text);
  const std::string_view view = normal;
  for (std::size_t at = 0; at < view.size();) {
    const std::size_t end = next_word(view, at);
    if (surely_exceeds(end - at, tokens_max - out.size())) {
      return false;
    }
    pairs_.encode(view.substr(at, end - at), out);
    if (out.size() > tokens_max) {
      return false;
    }
    at = end;
  }
  return true;
}

std::vector<TokenId> Tokenizer::encode_text(std::string_view text) const {
  require_utf8(text, "the text");
  std::vector<TokenId> ids;
  append_words(text, ids, kUnlimited);
  return ids;
}

// The leftmost added token from `from` on, the longest where several start. Surfaces are short and few.
std::optional<Tokenizer::Found> Tokenizer::next_added(std::string_view text, std::size_t from) const {
  for (std::size_t at = from; at < text.size(); ++at) {
    for (const AddedToken& token : added_) {
      if (text[at] == token.surface[0] && text.substr(at).starts_with(token.surface)) {
        return Found{at, at + token.surface.size(), token.id};
      }
    }
  }
  return std::nullopt;
}

std::vector<TokenId> Tokenizer::encode_with_controls(std::string_view text) const {
  require_utf8(text, "the text");
  std::vector<TokenId> ids;
  std::size_t at = 0;
  while (const auto found = next_added(text, at)) {
    append_words(text.substr(at, found->at - at), ids, kUnlimited);
    ids.push_back(found->id);
    at = found->end;
  }
  append_words(text.substr(at), ids, kUnlimited);
  return ids;
}

std::vector<TokenId> Tokenizer::encode(std::span<const Piece> pieces) const { return *encode(pieces, kUnlimited); }

std::optional<std::vector<TokenId>> Tokenizer::encode(std::span<const Piece> pieces, std::size_t tokens_max) const {
  std::vector<TokenId> ids;
  std::string text;
  for (const Piece& piece : pieces) {
    if (piece.kind == Piece::Kind::kText) {
      require_utf8(piece.text, "a text of the conversation");
      text += piece.text;
      continue;
    }
    check(piece.kind == Piece::Kind::kControl, "a media piece reached the tokenizer unexpanded");
    check(piece.repeat >= 0, "a control repeated a negative number of times");
    if (!append_words(text, ids, tokens_max)) {
      return std::nullopt;
    }
    text.clear();
    const auto id = added_token(piece.text);
    if (!id) {
      refuse(Radius::kRequest,
             {"prompt", fmt::format("the control token {}, which this checkpoint lacks", zoetrope::quoted(piece.text)),
              "control tokens of the checkpoint's vocabulary", "use the checkpoint's own tokenizer files"});
    }
    const auto repeat = static_cast<std::size_t>(piece.repeat);
    if (repeat > tokens_max - ids.size()) {
      return std::nullopt;
    }
    ids.insert(ids.end(), repeat, *id);
  }
  if (!append_words(text, ids, tokens_max)) {
    return std::nullopt;
  }
  return ids;
}

std::optional<TokenId> Tokenizer::added_token(std::string_view surface) const {
  const auto found =
      std::find_if(added_.begin(), added_.end(), [&](const AddedToken& t) { return t.surface == surface; });
  return found == added_.end() ? std::nullopt : std::optional(found->id);
}

std::string_view Tokenizer::token_bytes(TokenId id) const {
  if (id < 0 || id >= size()) {
    return {};
  }
  const auto at = static_cast<std::size_t>(id);
  return std::string_view(bytes_).substr(offsets_[at], offsets_[at + 1] - offsets_[at]);
}

bool Tokenizer::is_special(TokenId id) const {
  return id >= 0 && id < size() && special_[static_cast<std::size_t>(id)];
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string bytes;
  for (const TokenId id : ids) {
    if (!skip_special || !is_special(id)) {
      bytes += token_bytes(id);
    }
  }
  std::string text;
  append_repaired(text, bytes, true);
  return text;
}

}  // namespace zoetrope
