#include "runtime/text/pretokenizer.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

namespace zoetrope {
namespace {

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = next_word(text, at);
    EXPECT_GT(end, at);
    words.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

// Recorded from the published tokenizer's pre-tokenizer; each row is the text cut into its words.
TEST(NextWord, CutsAsThePublishedPattern) {
  const std::vector<std::vector<std::string>> rows = {
      {"Hello", " world"},
      {"it", "'s", " IT", "'S", " we", "'Ve", " '", "S", " they", "'LL", " x", "'r"},
      {"'\305\277", " '", "\305\277tx"},  // the long s is an s when case is ignored
      {"don", "\342\200\231t"},
      {"'re", "'re"},
      {"''", "s"},
      {"'"},
      {"'l", "'"},
      {"a", " ", " b"},
      {"a", "  ", " b", "  "},
      {"   "},
      {" ", " x"},
      {" \n \n", " ", " y"},
      {"\r\n\r\n"},
      {"a", "\n", " b"},
      {"\n\n", "x"},
      {"\t", "\tx"},
      {"1", "2", "3", "4", " ", "5"},
      {"\302\262", "\302\275"},
      {"x", "=", "1", ";\n\n", " y"},
      {"!!\r\n", "!"},
      {" !?"},
      {" ", " !?"},
      {"\302\240x"},
      {"\343\200\200", "\343\200\200x"},
      {"\343\200\200", "!"},
      {"\302\205", "\342\200\250x"},
      {"\303\251", "\314\201x"},  // marks are no letters
      {"\344\270\255\346\226\207", "\343\200\202\343\203\206\343\202\271\343\203\210"},
      {"\314\201\314\201", "a"},
      {"\360\237\231\202\360\237\231\202", " ok"},
      {"a", "\342\200\215b"},
      {"_a", "_b"},
      {"\360\256\257\260", "\360\236\227\261", "x"},  // a letter and a digit younger than Unicode 15.0
  };
  for (const auto& expected : rows) {
    EXPECT_EQ(words_of(std::accumulate(expected.begin(), expected.end(), std::string())), expected);
  }
}

TEST(NextWord, TakesAnyStartAsTheBeginning) {
  EXPECT_EQ(next_word("xx  y", 2), 3u);
  EXPECT_EQ(next_word("xx  y", 3), 5u);
}

}  // namespace
}  // namespace zoetrope
