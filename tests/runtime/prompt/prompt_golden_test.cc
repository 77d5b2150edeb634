// Every golden case through the whole intake: messages to chat request, prompt, frames and patches, equal to the
// reference's.
#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/checkpoint/checkpoint.h"
#include "runtime/json/json.h"
#include "runtime/media/patches.h"
#include "runtime/media/plan.h"
#include "runtime/prompt/frame_table_cache.h"
#include "runtime/prompt/prompt.h"
#include "tests/golden/tally.h"
#include "tests/golden_folder.h"
#include "tests/safetensors_file.h"

namespace zoetrope {
namespace {

namespace fs = std::filesystem;

struct Writing {
  Checkpoint checkpoint;
  Tokenizer tokenizer;
  ChatTemplate chat_template;
  PromptWriter writer;

  explicit Writing(const fs::path& folder)
      : checkpoint(Checkpoint::open(folder)),
        tokenizer(Tokenizer::load(folder)),
        chat_template(ChatTemplate::load(folder)) {
    const ModelConfig& config = checkpoint.config();
    writer = {&tokenizer,
              &chat_template,
              ImageProcessor::load(folder),
              VideoProcessor::load(folder),
              config.image_token,
              config.video_token,
              config.vision_start,
              config.vision_end,
              config.text.positions_max};
  }
};

// The case as the body of a chat completion.
json::Object body_of(const json::Object& golden) {
  json::Object body{{"messages", golden.at("messages")}};
  std::size_t video = 0;
  for (json::Value& message : body["messages"].as_array()) {
    json::Value* content = message.as_object().if_contains("content");
    if (content == nullptr || !content->is_array()) {
      continue;
    }
    for (json::Value& item : content->as_array()) {
      if (item.as_object().contains("video") && golden.at("presampled").is_array()) {
        item.as_object()["frame_indices"] = golden.at("presampled").as_array().at(video++);
      }
    }
  }
  if (golden.at("tools").is_array()) {
    body["tools"] = golden.at("tools");
  }
  if (!golden.at("template_kwargs").as_object().empty()) {
    body["chat_template_kwargs"] = golden.at("template_kwargs");
  }
  body["add_generation_prompt"] = golden.at("add_generation_prompt");
  if (const json::Value* kwargs = golden.at("processor_kwargs").as_object().if_contains("videos_kwargs")) {
    json::Object media;
    for (const auto& option : kwargs->as_object()) {
      if (!option.value().is_null()) {
        media[option.key()] = option.value();
      }
    }
    body["mm_processor_kwargs"] = std::move(media);
  }
  return body;
}

void compare_text(const json::Object& golden, const Writing& w, const ChatRequest& request, const Prompt& prompt) {
  const auto pieces =
      w.chat_template.render(request.messages, request.tools ? &*request.tools : nullptr, request.render);
  EXPECT_EQ(flat_text(pieces), std::string_view(golden.at("prompt").as_string()));
  EXPECT_EQ(w.tokenizer.decode(prompt.tokens, false), std::string_view(golden.at("prompt_expanded").as_string()));
  const json::Array& ids = golden.at("input_ids").as_array();
  ASSERT_EQ(prompt.tokens.size(), ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ASSERT_EQ(prompt.tokens[i], ids[i].as_int64()) << "token " << i;
  }
  EXPECT_EQ(prompt.rope_delta, golden.at("rope_delta").as_int64());
}

void compare_positions(const test::SafetensorsFile& tensors, const std::string& name, const Prompt& prompt) {
  const auto positions = tensors.data<std::int32_t>(name);
  const std::size_t tokens = prompt.tokens.size();
  ASSERT_EQ(positions.size(), 3 * tokens);
  for (std::size_t i = 0; i < tokens; ++i) {
    ASSERT_EQ(prompt.positions[i].t, positions[i]) << i;
    ASSERT_EQ(prompt.positions[i].h, positions[tokens + i]) << i;
    ASSERT_EQ(prompt.positions[i].w, positions[2 * tokens + i]) << i;
  }
}

void compare_grids(const json::Object& golden, const Prompt& prompt) {
  std::size_t image = 0, video = 0;
  for (const Medium& medium : prompt.media) {
    const bool picture = medium.kind == Medium::Kind::kPicture;
    const json::Array& grid =
        golden.at(picture ? "image_grid_thw" : "video_grid_thw").as_array().at(picture ? image++ : video++).as_array();
    EXPECT_EQ(medium.grid, (Grid{static_cast<int>(grid[0].as_int64()), static_cast<int>(grid[1].as_int64()),
                                 static_cast<int>(grid[2].as_int64())}));
    if (picture) {
      continue;
    }
    const json::Object& row = golden.at("videos").as_array().at(video - 1).as_object();
    const json::Array& frames = row.at("frame_indices").as_array();
    ASSERT_GE(medium.frames.size(), frames.size());
    for (std::size_t i = 0; i < medium.frames.size(); ++i) {
      EXPECT_EQ(medium.frames[i], frames[std::min(i, frames.size() - 1)].as_int64()) << "frame " << i;
    }
    EXPECT_EQ(medium.resized_height, row.at("resized_height").as_int64());
    EXPECT_EQ(medium.resized_width, row.at("resized_width").as_int64());
    EXPECT_EQ(medium.report.source_frames, row.at("total_frames").as_int64());
  }
  EXPECT_EQ(image, golden.at("image_grid_thw").as_array().size());
  EXPECT_EQ(video, golden.at("video_grid_thw").as_array().size());
}

// Patches through UnitReader against the recorded ones.
void compare_pixels(const test::SafetensorsFile& tensors, const Prompt& prompt) {
  UnitReader reader;
  for (const bool picture : {true, false}) {
    const std::string name = picture ? "pixels.image.u8" : "pixels.video.u8";
    if (!tensors.has(name)) {
      continue;
    }
    const auto recorded = tensors.data<std::uint8_t>(name);
    std::size_t at = 0;
    for (std::size_t unit = 0; unit < prompt.units.size(); ++unit) {
      const Medium& medium = prompt.media[static_cast<std::size_t>(prompt.units[unit].medium)];
      if ((medium.kind == Medium::Kind::kPicture) != picture) {
        continue;
      }
      std::vector<std::uint8_t> patches(static_cast<std::size_t>(medium.grid.h) *
                                        static_cast<std::size_t>(medium.grid.w) * kPatchColumns);
      reader.read(medium, prompt.units[unit].pair, patches);
      ASSERT_LE(at + patches.size(), recorded.size());
      for (std::size_t i = 0; i < patches.size(); ++i) {
        ASSERT_EQ(patches[i], recorded[at + i]) << name << " value " << at + i;
      }
      at += patches.size();
    }
    EXPECT_EQ(at, recorded.size());
  }
}

void compare_case(const Writing& w, const fs::path& folder, const fs::path& media) {
  SCOPED_TRACE(folder.string());
  const json::Value value = test::golden_json(folder / "case.json");
  const json::Object& golden = value.as_object();
  const test::SafetensorsFile tensors(folder / "case.safetensors");
  const json::Object body = body_of(golden);
  const ChatRequest request = read_chat_request(json::Fields(body, {folder.filename().string(), Radius::kRequest}),
                                                "case", media, w.checkpoint.generation());
  const Prompt prompt = w.writer.write(request);
  const Prompt travelled = decoded_prompt(encoded(prompt));
  EXPECT_EQ(encoded(travelled), encoded(prompt));
  compare_text(golden, w, request, travelled);
  compare_positions(tensors, "position_ids", travelled);
  compare_grids(golden, travelled);
  compare_pixels(tensors, travelled);
}

TEST(PromptGolden, EveryCaseIsReadAsTheReferenceReadsIt) {
  const fs::path goldens = test::golden_folder();
  int cases = 0;
  for (const auto& checkpoint : fs::directory_iterator(goldens / "cases")) {
    if (!checkpoint.is_directory()) {
      continue;
    }
    const Writing w(goldens / "checkpoints" / checkpoint.path().filename());
    for (const auto& folder : fs::directory_iterator(checkpoint)) {
      if (folder.is_directory()) {
        compare_case(w, folder.path(), goldens / "media");
        ++cases;
      }
    }
  }
  EXPECT_GT(cases, 0) << "no cases in " << goldens;
}

std::vector<TokenId> tokens_of(const json::Array& runs, Prompt& prompt, const json::Object& row) {
  std::vector<TokenId> tokens;
  std::size_t image = 0, video = 0;
  int pair = 0;
  for (const json::Value& run : runs) {
    const std::string kind(run.as_array()[0].as_string());
    const std::int64_t count = run.as_array()[1].as_int64();
    if (kind == "image_pad" || kind == "video_pad") {
      const bool picture = kind == "image_pad";
      const json::Array& grid =
          row.at(picture ? "image_grid_thw" : "video_grid_thw").as_array().at(picture ? image : video).as_array();
      if (picture || pair == 0) {
        Medium medium;
        medium.grid = {static_cast<int>(grid[0].as_int64()), static_cast<int>(grid[1].as_int64()),
                       static_cast<int>(grid[2].as_int64())};
        prompt.media.push_back(medium);
      }
      prompt.units.push_back(
          {static_cast<std::int32_t>(prompt.media.size()) - 1, pair, static_cast<std::int64_t>(tokens.size()), count});
      if (picture) {
        ++image;
      } else if (++pair == prompt.media.back().grid.t) {
        pair = 0;
        ++video;
      }
    }
    tokens.insert(tokens.end(), static_cast<std::size_t>(count), 0);
  }
  return tokens;
}

TEST(PromptGolden, PositionsOfSyntheticLayouts) {
  const fs::path folder = test::golden_folder() / "rotary";
  const json::Value value = test::golden_json(folder / "positions.json");
  const test::SafetensorsFile tensors(folder / "positions.safetensors");
  int rows = 0;
  for (const json::Value& entry : value.as_object().at("rows").as_array()) {
    const json::Object& row = entry.as_object();
    SCOPED_TRACE(std::string(row.at("name").as_string()));
    Prompt prompt;
    prompt.tokens = tokens_of(row.at("runs").as_array(), prompt, row);
    lay_out_positions(prompt);
    EXPECT_EQ(prompt.rope_delta, row.at("rope_delta").as_int64());
    const std::string name = "positions." + std::to_string(row.at("index").as_int64());
    ASSERT_NO_FATAL_FAILURE(compare_positions(tensors, name, prompt));
    ++rows;
  }
  EXPECT_GT(rows, 0);
}

}  // namespace
}  // namespace zoetrope
