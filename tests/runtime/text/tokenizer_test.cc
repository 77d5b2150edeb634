#include "runtime/text/tokenizer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <ctime>
#include <limits>

#include "monitoring/error.h"
#include "tests/runtime/text/text_goldens.h"

namespace zoetrope {
namespace {

using test::golden_text;
using test::ids_of;
using test::published_tokenizer;
using test::rows_of;

Piece text(std::string value) { return {Piece::Kind::kText, std::move(value)}; }
Piece control(std::string surface, int repeat = 1) {
  return {Piece::Kind::kControl, std::move(surface), nullptr, repeat};
}

TEST(Tokenizer, GivesTheIdsOfEveryGoldenText) {
  const json::Value file = golden_text("tokens.json");
  const Tokenizer& tokenizer = published_tokenizer();
  std::size_t wrong = 0;
  for (const json::Value& row : rows_of(file)) {
    const json::Object& fields = row.as_object();
    const std::string_view input = fields.at("text").as_string();
    const auto with_controls = ids_of(fields.at("ids"));
    const auto as_user = fields.contains("ids_as_user_text") ? ids_of(fields.at("ids_as_user_text")) : with_controls;
    if (tokenizer.encode_with_controls(input) != with_controls || tokenizer.encode_text(input) != as_user) {
      if (++wrong <= 5) {
        ADD_FAILURE() << fields.at("kind") << ": " << row;
      }
    }
  }
  EXPECT_EQ(wrong, 0u);
}

TEST(Tokenizer, DecodesEveryGoldenRow) {
  const json::Value file = golden_text("decode.json");
  const Tokenizer& tokenizer = published_tokenizer();
  for (const json::Value& row : rows_of(file)) {
    const json::Object& fields = row.as_object();
    const auto ids = ids_of(fields.at("ids"));
    EXPECT_EQ(tokenizer.decode(ids, false), fields.at("text").as_string()) << row;
    EXPECT_EQ(tokenizer.decode(ids, true), fields.at("text_skip_special").as_string()) << row;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      std::string hex;
      for (const char c : tokenizer.token_bytes(ids[i])) {
        hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
      }
      EXPECT_EQ(hex, fields.at("bytes_hex").as_array()[i].as_string()) << row;
    }
  }
}

TEST(Tokenizer, KnowsThePublishedControls) {
  const Tokenizer& tokenizer = published_tokenizer();
  EXPECT_EQ(tokenizer.size(), 151669);
  EXPECT_EQ(tokenizer.added_token("<|im_end|>"), 151645);
  EXPECT_EQ(tokenizer.added_token("<think>"), 151667);
  EXPECT_EQ(tokenizer.added_token("<nothing>"), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(151645));
  EXPECT_FALSE(tokenizer.is_special(151667));
  for (const TokenId none : {-1, 151669, 1 << 30}) {
    EXPECT_FALSE(tokenizer.is_special(none));
    EXPECT_EQ(tokenizer.token_bytes(none), "");
  }
}

TEST(Tokenizer, UserTextNeverBecomesAControl) {
  const Tokenizer& tokenizer = published_tokenizer();
  std::vector<std::string> surfaces;
  for (TokenId id = 151643; id < tokenizer.size(); ++id) {
    surfaces.emplace_back(tokenizer.token_bytes(id));
  }
  ASSERT_EQ(surfaces.size(), 26u);
  for (const std::string& surface : surfaces) {
    ASSERT_TRUE(tokenizer.added_token(surface)) << surface;
    for (const std::string& input :
         {surface, surface + surface, "a" + surface + "b", " " + surface + "\n", surface + "\xCC\x81"}) {
      for (const TokenId id : tokenizer.encode_text(input)) {
        EXPECT_LT(id, 151643) << input;
      }
      EXPECT_EQ(tokenizer.decode(tokenizer.encode_text(surface), false), surface);
      const std::vector<Piece> prompt = {control("<|im_start|>"), text("user\n"), text(input), control("<|im_end|>")};
      const auto ids = tokenizer.encode(prompt);
      for (std::size_t i = 1; i + 1 < ids.size(); ++i) {
        EXPECT_LT(ids[i], 151643) << input;
      }
      EXPECT_EQ(ids.front(), 151644);
      EXPECT_EQ(ids.back(), 151645);
    }
    // A surface cut in two pieces is one text, not a control.
    const std::vector<Piece> halves = {text(surface.substr(0, 3)), text(surface.substr(3))};
    EXPECT_EQ(tokenizer.encode(halves), tokenizer.encode_text(surface));
  }
}

TEST(Tokenizer, JoinsNeighbouringTextsOnly) {
  const Tokenizer& tokenizer = published_tokenizer();
  const std::vector<Piece> joined = {text("Look!"),
                                     text("<0.3 seconds>"),
                                     control("<|vision_start|>"),
                                     control("<|video_pad|>", 3),
                                     control("<|vision_end|>"),
                                     text("")};
  EXPECT_EQ(tokenizer.encode(joined),
            tokenizer.encode_with_controls(
                "Look!<0.3 seconds><|vision_start|><|video_pad|><|video_pad|><|video_pad|><|vision_end|>"));
  // A mark after a control does not combine with the letter before it.
  const std::vector<Piece> parted = {text("e"), control("<|im_end|>"), text("\xCC\x81")};
  EXPECT_EQ(tokenizer.encode(parted), tokenizer.encode_with_controls("e<|im_end|>\xCC\x81"));
  EXPECT_TRUE(tokenizer.encode({}).empty());
  EXPECT_THROW(tokenizer.encode(std::vector<Piece>{control("<|unheard|>")}), Error);
}

TEST(Tokenizer, RefusesInvalidUtf8) {
  const Tokenizer& tokenizer = published_tokenizer();
  for (const std::string& bad :
       {std::string("a\xFF"), std::string("\xED\xA0\x80"), std::string("\xE4\xB8"), std::string("\xC0\xAF")}) {
    EXPECT_THROW(tokenizer.encode_text(bad), Error);
    EXPECT_THROW(tokenizer.encode_with_controls(bad), Error);
    EXPECT_THROW(tokenizer.encode(std::vector<Piece>{text(bad)}), Error);
  }
}

TEST(Tokenizer, BothFormsOfACheckpointsFilesGiveTheSame) {
  const auto checkpoint = test::golden_folder() / "checkpoints" / "tiny-moe";
  const auto older = std::filesystem::path(testing::TempDir()) / "zoetrope_tokenizer_older";
  std::filesystem::remove_all(older);
  std::filesystem::create_directories(older);
  for (const char* name : {"vocab.json", "merges.txt", "tokenizer_config.json"}) {
    std::filesystem::copy_file(checkpoint / name, older / name);
  }
  const Tokenizer a = Tokenizer::load(checkpoint), b = Tokenizer::load(older);
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(a.size(), 1526);
  for (TokenId id = 0; id < a.size(); ++id) {
    EXPECT_EQ(a.token_bytes(id), b.token_bytes(id));
    EXPECT_EQ(a.is_special(id), b.is_special(id));
  }
  const json::Value file = golden_text("tokens.json");
  for (const json::Value& row : rows_of(file)) {
    const std::string_view input = row.as_object().at("text").as_string();
    ASSERT_EQ(a.encode_with_controls(input), b.encode_with_controls(input)) << row;
    ASSERT_EQ(a.encode_text(input), b.encode_text(input)) << row;
  }
  std::filesystem::remove_all(older);
}

// Processor time, which other programs on the machine do not disturb much.
double seconds_to_encode(const std::string& input) {
  const std::clock_t start = std::clock();
  EXPECT_FALSE(published_tokenizer().encode_with_controls(input).empty());
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

std::string repeated(std::string_view unit, std::size_t bytes) {
  std::string out;
  while (out.size() < bytes) {
    out += unit;
  }
  return out;
}

// Four times the text in at most nine times the time (n log n and larger tables); a quadratic step would take sixteen.
TEST(Tokenizer, TakesTimeNearLinearInHostileTexts) {
  const std::vector<std::string> units = {
      " ",        "a", "\n",           "\t \xC2\xA0", "\xCC\x81", "\xCC\x81\xCC\xA3", "<",  "<|im_",
      "=",        "1", "\xE4\xB8\xAD", " \n",         "'",        "\xF0\x9F\x99\x82", "ab", "\xD8\xA7",
      "e\xCC\x81"};
  for (const std::string& unit : units) {
    const double one = seconds_to_encode("x" + repeated(unit, 250'000) + "y");
    const double four = seconds_to_encode("x" + repeated(unit, 1'000'000) + "y");
    EXPECT_LT(four, 9.0 * one + 0.1) << "unit " << testing::PrintToString(unit);
    EXPECT_LT(four, 5.0) << "unit " << testing::PrintToString(unit);
  }
}

TEST(Tokenizer, StopsAtTheMostTokensThatAreAskedFor) {
  const Tokenizer& tokenizer = published_tokenizer();
  const std::vector<Piece> pieces{text("A film of a red circle."), control("<|image_pad|>", 5), text(" And a square.")};
  const std::vector<TokenId> all = tokenizer.encode(pieces);
  EXPECT_EQ(tokenizer.encode(pieces, all.size()), all);
  for (std::size_t most = 0; most < all.size(); ++most) {
    EXPECT_EQ(tokenizer.encode(pieces, most), std::nullopt) << most;
  }
  // No time and no memory for what cannot fit: one word, words, controls.
  const std::clock_t begun = std::clock();
  EXPECT_EQ(tokenizer.encode(std::vector{text(std::string(std::size_t{16} << 20, 'a'))}, 1000), std::nullopt);
  EXPECT_EQ(tokenizer.encode(std::vector{control("<|image_pad|>", std::numeric_limits<int>::max())}, 1000),
            std::nullopt);
  EXPECT_LT(static_cast<double>(std::clock() - begun) / CLOCKS_PER_SEC, 2) << "16 MB take longer to encode";
}

// What NFC shortens most is no reason to refuse, where no token is longer than a byte.
TEST(Tokenizer, CountsOnTheMostThatNormalizingShortens) {
  Vocabulary vocabulary;
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.bytes.emplace_back(1, static_cast<char>(byte));
    vocabulary.byte_tokens[static_cast<std::size_t>(byte)] = byte;
  }
  const Tokenizer tokenizer(vocabulary);
  std::string marks;
  for (int i = 0; i < 1000; ++i) {
    marks += "\xe1\xbe\xbe\xcc\x88\xcc\x81";  // U+1FBE U+0308 U+0301: seven bytes, U+0390: two
  }
  const std::vector<TokenId> all = tokenizer.encode(std::vector{text(marks)});
  EXPECT_EQ(all.size(), 2000U);
  EXPECT_EQ(tokenizer.encode(std::vector{text(marks)}, all.size()), all);
  EXPECT_EQ(tokenizer.encode(std::vector{text(marks)}, all.size() - 1), std::nullopt);
}

}  // namespace
}  // namespace zoetrope
