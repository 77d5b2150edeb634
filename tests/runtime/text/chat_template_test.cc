#include "runtime/text/chat_template.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "monitoring/error.h"
#include "tests/runtime/text/text_goldens.h"

namespace zoetrope {
namespace {

// 2^70 stands in two rows. Strict JSON refuses integers beyond 64 bits, so such a conversation never reaches the
// template; the rows are compared with a 1 in its place.
constexpr std::string_view kTooLarge = "1180591620717411303424";

std::string golden_rows_text() {
  std::ifstream in(test::golden_folder() / "text" / "templates.json", std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

const json::Value& golden_rows() {
  static const json::Value file = [] {
    std::string text = golden_rows_text();
    const json::Source source{"templates.json", Radius::kRequest};
    EXPECT_THROW(json::parse(text, source), Error);
    int found = 0;
    for (std::size_t at; (at = text.find(kTooLarge)) != std::string::npos; ++found) {
      text.erase(at + 1, kTooLarge.size() - 1);
    }
    EXPECT_EQ(found, 4);  // tools and rendered text of two rows
    return json::parse(text, source);
  }();
  return file;
}

bool flag(const json::Object& row, std::string_view key) {
  const json::Value* value = row.if_contains(key);
  return value != nullptr && value->as_bool();
}

// The rendered string, or "refused".
std::string rendered(const json::Object& row) {
  const Edition edition = row.at("template") == "thinking" ? Edition::kThinking : Edition::kInstruct;
  const json::Array* tools = row.at("tools").if_array();
  const RenderOptions options{flag(row, "add_generation_prompt"), flag(row, "add_vision_id"),
                              flag(row, "continue_final_message")};
  try {
    return flat_text(ChatTemplate(edition).render(row.at("messages").as_array(), tools, options));
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kRequest);
    return "refused";
  }
}

TEST(ChatTemplate, RendersEveryGoldenConversation) {
  std::size_t refused = 0;
  for (const json::Value& value : test::rows_of(golden_rows())) {
    const json::Object& row = value.as_object();
    const std::string expected = row.contains("error") ? "refused" : std::string(row.at("rendered").as_string());
    EXPECT_EQ(rendered(row), expected) << row.at("template") << " " << row.at("case");
    refused += row.contains("error") ? 1 : 0;
  }
  EXPECT_GT(refused, 0u);
}

}  // namespace
}  // namespace zoetrope
