// Any bytes as text and as ids, on a vocabulary made here: 256 bytes, a few hundred merges and some added tokens.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "runtime/text/detokenizer.h"
#include "runtime/text/nfc.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"

namespace zoetrope {
namespace {

// Bytes have their own value as id; then merges of short strings of these pieces, then the added tokens.
Vocabulary made_vocabulary() {
  Vocabulary out;
  std::map<std::string, TokenId> ids;
  for (int b = 0; b < 256; ++b) {
    out.bytes.emplace_back(1, static_cast<char>(b));
    out.byte_tokens[static_cast<std::size_t>(b)] = b;
    ids[out.bytes.back()] = b;
  }
  const std::vector<std::string> lefts = {" ", "a", "e", "\xCC", "\xC3", "\xE4", "\xF0", "\n", "'", "<", "t", "\x81"};
  for (int round = 0; round < 3; ++round) {
    const std::vector<std::string> known = out.bytes;
    for (std::size_t r = 97; r < known.size(); r += 11) {
      for (const std::string& left : lefts) {
        const std::string whole = left + known[r];
        if (ids.emplace(whole, static_cast<TokenId>(out.bytes.size())).second) {
          out.merges.push_back({ids.at(left), ids.at(known[r]), static_cast<TokenId>(out.bytes.size())});
          out.bytes.push_back(whole);
        }
      }
    }
  }
  TokenId next = static_cast<TokenId>(out.bytes.size()) + 5;  // a gap of unused ids
  for (const char* surface : {"<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|im", "ab"}) {
    out.added.push_back({next, surface, surface[1] == '|'});
    ++next;
  }
  return out;
}

void as_text(const Tokenizer& tokenizer, std::string_view text) {
  if (!is_valid_utf8(text)) {
    try {
      tokenizer.encode_text(text);
      check(false, "invalid UTF-8 was taken");
    } catch (const Error& error) {
      check(error.radius() == Radius::kRequest, "a text broke more than its request");
    }
    return;
  }
  const std::string normal = nfc(text);
  check(is_valid_utf8(normal), "the normal form is not UTF-8");
  check(nfc(normal) == normal, "the normal form is not normal");
  const auto ids = tokenizer.encode_text(text);
  for (const TokenId id : ids) {
    check(tokenizer.added_token(tokenizer.token_bytes(id)) != id, "user text became an added token");
  }
  check(tokenizer.decode(ids, false) == normal, "text does not come back");
  const std::size_t middle = text.size() / 2;
  const std::vector<Piece> halves = {{Piece::Kind::kText, std::string(text.substr(0, middle))},
                                     {Piece::Kind::kText, std::string(text.substr(middle))}};
  if (is_valid_utf8(halves[0].text)) {
    check(tokenizer.encode(halves) == ids, "two halves differ from the whole");
  }
  check(is_valid_utf8(tokenizer.decode(tokenizer.encode_with_controls(text), true)), "decoded text is not UTF-8");
}

void as_ids(const Tokenizer& tokenizer, std::string_view bytes) {
  std::vector<TokenId> ids;
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
    ids.push_back((static_cast<unsigned char>(bytes[i]) << 8 | static_cast<unsigned char>(bytes[i + 1])) %
                      (tokenizer.size() + 3) -
                  1);
  }
  for (const bool skip : {false, true}) {
    Detokenizer detokenizer(tokenizer, skip);
    std::string text;
    for (const TokenId id : ids) {
      const std::string part = detokenizer.add(id);
      check(is_valid_utf8(part), "a part of a code point was given out");
      text += part;
    }
    text += detokenizer.finish();
    check(text == tokenizer.decode(ids, skip), "tokens one by one differ from all at once");
  }
}

}  // namespace
}  // namespace zoetrope

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const zoetrope::Tokenizer tokenizer(zoetrope::made_vocabulary());
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  zoetrope::as_text(tokenizer, bytes);
  zoetrope::as_ids(tokenizer, bytes);
  return 0;
}
