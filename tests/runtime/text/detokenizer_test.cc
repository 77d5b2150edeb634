#include "runtime/text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "runtime/text/utf8.h"
#include "tests/runtime/text/text_goldens.h"

namespace zoetrope {
namespace {

using test::published_tokenizer;

std::size_t code_points(std::string_view text) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); ++count) {
    at += code_point_at(text, at).bytes;
  }
  return count;
}

// decode(ids[:k+1]) of every golden prefix is what has been given out so far plus what finish() would add.
TEST(Detokenizer, FollowsEveryGoldenPrefix) {
  const json::Value file = test::golden_text("decode.json");
  for (const json::Value& row : test::rows_of(file)) {
    const json::Object& fields = row.as_object();
    const auto ids = test::ids_of(fields.at("ids"));
    Detokenizer detokenizer(published_tokenizer(), false);
    std::string so_far;
    for (std::size_t k = 0; k < ids.size(); ++k) {
      so_far += detokenizer.add(ids[k]);
      ASSERT_TRUE(is_valid_utf8(so_far)) << row;
      const std::string prefix = so_far + Detokenizer(detokenizer).finish();
      ASSERT_EQ(static_cast<std::int64_t>(code_points(prefix)),
                fields.at("prefix_lengths_in_code_points").as_array()[k].as_int64())
          << row;
      ASSERT_EQ(prefix.ends_with("\xEF\xBF\xBD"), fields.at("prefix_ends_in_replacement").as_array()[k].as_bool())
          << row;
    }
    EXPECT_EQ(so_far + detokenizer.finish(), fields.at("text").as_string());
  }
}

TEST(Detokenizer, EqualsDecodeOnRandomIds) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    std::vector<TokenId> ids(random() % 30);
    for (TokenId& id : ids) {
      // The single bytes above 127 lie among the first 256 ids: broken sequences are frequent.
      id = static_cast<TokenId>(random() % (round % 2 == 0 ? 256 : 151700));
    }
    for (const bool skip : {false, true}) {
      Detokenizer detokenizer(published_tokenizer(), skip);
      std::string text;
      for (const TokenId id : ids) {
        text += detokenizer.add(id);
        ASSERT_TRUE(is_valid_utf8(text));
      }
      EXPECT_EQ(text + detokenizer.finish(), published_tokenizer().decode(ids, skip));
      EXPECT_EQ(detokenizer.finish(), "");
    }
  }
}

TEST(Detokenizer, HoldsBackWhatIsUnfinished) {
  const auto byte = [](unsigned char b) {
    for (TokenId id = 0; id < 256; ++id) {
      if (published_tokenizer().token_bytes(id) == std::string(1, static_cast<char>(b))) {
        return id;
      }
    }
    return TokenId{-1};
  };
  Detokenizer detokenizer(published_tokenizer(), true);
  EXPECT_EQ(detokenizer.add(byte(0xF0)), "");
  EXPECT_EQ(detokenizer.add(byte(0x9F)), "");
  EXPECT_EQ(detokenizer.add(byte(0x99)), "");
  EXPECT_EQ(detokenizer.add(byte(0x82)), "\xF0\x9F\x99\x82");
  EXPECT_EQ(detokenizer.add(byte(0xC3)), "");
  EXPECT_EQ(detokenizer.add(151645), "");  // special: left out, so the next byte continues the character
  EXPECT_EQ(detokenizer.add(byte(0xA9)), "\xC3\xA9");
  EXPECT_EQ(detokenizer.add(byte(0xE4)), "");
  EXPECT_EQ(detokenizer.finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(detokenizer.add(151667), "<think>");  // not special: part of the answer
}

}  // namespace
}  // namespace zoetrope
