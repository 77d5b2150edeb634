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
    if (text.find(kTooLarge) != std::string::npos) {
      EXPECT_THROW(json::parse(text, source), Error);
    }
    for (std::size_t at; (at = text.find(kTooLarge)) != std::string::npos;) {  // in tools and in the rendered text
      text.erase(at + 1, kTooLarge.size() - 1);
    }
    json::Value value = json::parse(text, source);
    test::compared(test::golden_folder() / "text" / "templates.json", test::leaves(value));
    return value;
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

const RenderOptions kContinue{.add_generation_prompt = false, .add_vision_id = false, .continue_final_message = true};

std::string continued(Edition edition, std::string_view messages) {
  const json::Value value = json::parse(messages, {"test", Radius::kRequest});
  try {
    return flat_text(ChatTemplate(edition).render(value.as_array(), nullptr, kContinue));
  } catch (const Error& error) {
    EXPECT_EQ(error.radius(), Radius::kRequest);
    return error.what();
  }
}

TEST(ChatTemplate, LeavesTheLastMessageOpen) {
  const std::string begin = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n";
  const auto instruct = [](std::string_view content) {
    return continued(Edition::kInstruct, R"([{"role": "user", "content": "q"}, {"role": "assistant", "content": )" +
                                             std::string(content) + "}]");
  };
  EXPECT_EQ(instruct(R"("Roses are  ")"), begin + "Roses are  ");
  EXPECT_EQ(instruct(R"("  Roses are")"), begin + "  Roses are");
  EXPECT_EQ(instruct(R"("  Roses are  ")"), begin + "  Roses are");  // as the reference: blanks at both ends
  EXPECT_EQ(instruct(R"([{"text": "a"}, {"text": "b"}, {"type": "image"}])"), begin + "ab");
  EXPECT_EQ(instruct(R"("end")"), begin + "end");  // not the "end" of the control token after it
  EXPECT_EQ(instruct(R"("<|im_end|>")"), begin + "<|im_end|>");
  EXPECT_EQ(
      continued(
          Edition::kThinking,
          R"([{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>\nh\n</think>\n\nyes"}])"),
      begin + "<think>\nh\n</think>\n\nyes");
}

TEST(ChatTemplate, RefusesWhatCannotBeContinued) {
  const auto last = [](std::string_view message) {
    return continued(Edition::kInstruct,
                     R"([{"role": "user", "content": "seen before"}, )" + std::string(message) + "]");
  };
  for (const char* message :
       {R"({"role": "assistant", "content": "  "})", R"({"role": "assistant"})",
        R"({"role": "assistant", "content": []})", R"({"role": "assistant", "content": [{"text": 7}]})",
        R"({"role": "assistant", "content": [{"type": "image"}]})", R"({"role": "system", "content": "seen before"})",
        R"({"role": "nobody", "content": "seen before"})"}) {
    EXPECT_EQ(last(message).rfind("continue_final_message: found ", 0), 0u) << message << " " << last(message);
  }
  // The reference would cut the call's closing tag in two.
  const std::string inside =
      last(R"({"role": "assistant", "content": "tool", "tool_calls": [{"name": "f", "arguments": {}}]})");
  EXPECT_NE(inside.find("a last message that ends inside </tool_call>"), std::string::npos) << inside;
}

TEST(ChatTemplate, RendersTheGoldenPromptsOfTheModelCases) {
  std::size_t compared = 0;
  for (const auto& checkpoint : std::filesystem::directory_iterator(test::golden_folder() / "cases")) {
    if (!checkpoint.is_directory()) {
      continue;
    }
    const auto folder = test::golden_folder() / "checkpoints" / checkpoint.path().filename();
    const ChatTemplate chat = ChatTemplate::load(folder);
    const Tokenizer tokenizer = Tokenizer::load(folder);
    for (const auto& entry : std::filesystem::directory_iterator(checkpoint)) {
      if (!entry.is_directory()) {
        continue;
      }
      const json::Value value = test::golden_json(entry.path() / "case.json");
      const json::Object& fields = value.as_object();
      const json::Value* settings = fields.if_contains("template_kwargs");
      RenderOptions options;
      options.add_generation_prompt = fields.at("add_generation_prompt").as_bool();
      options.add_vision_id =
          settings != nullptr && settings->is_object() && flag(settings->get_object(), "add_vision_id");
      const json::Value* tools = fields.if_contains("tools");
      const auto pieces =
          chat.render(fields.at("messages").as_array(), tools == nullptr ? nullptr : tools->if_array(), options);
      EXPECT_EQ(flat_text(pieces), fields.at("prompt").as_string()) << entry.path();
      const std::string_view expanded = fields.at("prompt_expanded").as_string();
      EXPECT_EQ(tokenizer.encode_with_controls(expanded), test::ids_of(fields.at("input_ids"))) << entry.path();
      ++compared;
    }
  }
  EXPECT_GT(compared, 20u);
}

}  // namespace
}  // namespace zoetrope
