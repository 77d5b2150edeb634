#include "runtime/prompt/prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <unordered_set>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "runtime/media/plan.h"
#include "runtime/prompt/frame_table_cache.h"

namespace zoetrope {
namespace {

using json::Fields;

// A film (or a list of pictures) as the prompt needs it: the medium, the time of every pair and whether it starts
// clean.
struct LookedAt {
  Medium medium;
  std::vector<double> timestamps;
  std::vector<std::int64_t> clean;  // VisualUnit::clean
};

// A film is decoded anew behind the pair before where an access point lies between.
std::vector<std::int64_t> clean_pairs(const FrameTable& table, const std::vector<std::int64_t>& frames) {
  std::vector<std::int64_t> clean{1};
  for (std::size_t at = 2; at < frames.size(); at += 2) {
    clean.push_back(table.starts_behind(frames[at - 1], frames[at]) ? 1 : 0);
  }
  return clean;
}

LookedAt look_at_image(const Fields& item, const ChatRequest& request, const PromptWriter& writer) {
  LookedAt looked;
  looked.medium.sources = {media_from_reference(item.text("image"), request.media_base)};
  const ImagePlan plan = plan_image(looked.medium.sources[0], writer.image, image_options_of(item, request.image));
  looked.medium.kind = Medium::Kind::kPicture;
  looked.medium.resized_height = plan.resized.height;
  looked.medium.resized_width = plan.resized.width;
  looked.medium.grid = plan.grid;
  looked.medium.report = plan.report;
  looked.clean = {1};
  return looked;
}

std::vector<double> times_of_pictures(const Fields& item, std::size_t pictures, const VideoOptions& options) {
  if (item.has("timestamps") && item.find("timestamps")->is_array()) {
    std::vector<double> seconds;
    for (const json::Value& value : item.array("timestamps")) {
      if (!value.is_number()) {
        item.refuse("timestamps", json::described(value), "a list of seconds", "write numbers");
      }
      seconds.push_back(value.to_number<double>());
    }
    if (seconds.size() != pictures) {
      item.refuse("timestamps", fmt::format("{} times for {} pictures", seconds.size(), pictures),
                  "one time for each picture", "complete the list");
    }
    return seconds;
  }
  if (!options.fps) {
    item.refuse("timestamps", "a list of pictures without times", "\"timestamps\": [seconds, ...] or \"fps\"",
                "say when each picture was taken");
  }
  std::vector<double> seconds(pictures);
  for (std::size_t i = 0; i < pictures; ++i) {
    seconds[i] = static_cast<double>(i) / *options.fps;
  }
  return seconds;
}

LookedAt look_at_video(const Fields& item, const ChatRequest& request, const PromptWriter& writer) {
  LookedAt looked;
  VideoOptions options = video_options_of(item, request.video);
  VideoPlan plan;
  if (item.find("video") != nullptr && item.find("video")->is_array()) {
    looked.medium.kind = Medium::Kind::kPictureList;
    for (const json::Value& picture : item.array("video")) {
      if (!picture.is_string()) {
        item.refuse("video", json::described(picture), "a list of picture paths", "write texts");
      }
      looked.medium.sources.push_back(media_from_reference(picture.get_string(), request.media_base));
    }
    const std::vector<double> seconds = times_of_pictures(item, looked.medium.sources.size(), options);
    if (!item.has("timestamps")) {
      options.fps.reset();  // said when the pictures were taken, not how many to keep
    }
    plan = plan_pictures(looked.medium.sources, seconds, writer.video, options);
  } else {
    looked.medium.kind = Medium::Kind::kFilm;
    looked.medium.sources = {media_from_reference(item.text("video"), request.media_base)};
    const auto table = frame_table_of(looked.medium.sources[0]);
    plan = plan_video(looked.medium.sources[0].name, *table, writer.video, options);
    looked.clean = clean_pairs(*table, plan.frames);
  }
  looked.medium.resized_height = plan.resized.height;
  looked.medium.resized_width = plan.resized.width;
  looked.medium.grid = plan.grid;
  looked.medium.frames = std::move(plan.frames);
  looked.medium.rotate = options.rotate;
  looked.medium.report = std::move(plan.report);
  looked.timestamps = std::move(plan.timestamps);
  looked.clean.resize(static_cast<std::size_t>(looked.medium.grid.t), 1);  // pictures know nothing of each other
  return looked;
}

Piece control(std::string surface, std::int64_t repeat = 1) {
  Piece piece;
  piece.kind = Piece::Kind::kControl;
  piece.text = std::move(surface);
  piece.repeat = static_cast<int>(repeat);
  return piece;
}

Piece text(std::string value) {
  Piece piece;
  piece.kind = Piece::Kind::kText;
  piece.text = std::move(value);
  return piece;
}

// Reference 6.3 as in 4.57: a film becomes its frame pairs, each behind its time; nothing of the template's wrapper
// stays.
void expand(const Piece& piece, const LookedAt& looked, std::vector<Piece>& out) {
  const bool image = piece.kind == Piece::Kind::kImage;
  for (int pair = 0; pair < looked.medium.grid.t; ++pair) {
    if (!image) {
      out.push_back(
          text(fmt::format("<{} seconds>", timestamp_text(looked.timestamps[static_cast<std::size_t>(pair)]))));
    }
    out.push_back(control("<|vision_start|>"));
    out.push_back(control(image ? "<|image_pad|>" : "<|video_pad|>", looked.medium.grid.tokens_of_pair()));
    out.push_back(control("<|vision_end|>"));
  }
}

// Runs of placeholder tokens in order of appearance are the units of the media in the same order.
void find_units(Prompt& prompt, const std::vector<std::vector<std::int64_t>>& clean, std::int32_t image_token,
                std::int32_t video_token) {
  std::size_t at = 0;
  const auto placeholder = [&](TokenId id) { return id == image_token || id == video_token; };
  for (std::size_t m = 0; m < prompt.media.size(); ++m) {
    const Medium& medium = prompt.media[m];
    for (int pair = 0; pair < medium.grid.t; ++pair) {
      while (at < prompt.tokens.size() && !placeholder(prompt.tokens[at])) {
        ++at;
      }
      const std::int64_t tokens = medium.grid.tokens_of_pair();
      check(at + static_cast<std::size_t>(tokens) <= prompt.tokens.size(),
            "placeholder tokens are missing from the prompt");
      prompt.units.push_back({static_cast<std::int32_t>(m), pair, static_cast<std::int64_t>(at), tokens,
                              clean[m][static_cast<std::size_t>(pair)]});
      at += static_cast<std::size_t>(tokens);
    }
  }
  check(std::none_of(prompt.tokens.begin() + static_cast<std::ptrdiff_t>(at), prompt.tokens.end(), placeholder),
        "placeholder tokens are left over in the prompt");
}

// tokens: of the prompt, or more than so many (`at_least`); visual: those of the media looked at.
[[noreturn]] void refuse_too_long(const ChatRequest& request, std::int64_t tokens, bool at_least, std::int64_t visual,
                                  std::int64_t tokens_max) {
  refuse(
      Radius::kRequest,
      {fmt::format("{}: the prompt is longer than the context", request.name),
       fmt::format("{}{} tokens ({} of them from pictures and films)", at_least ? "more than " : "", tokens, visual),
       fmt::format("fewer than {}", tokens_max),
       at_least
           ? "sample fewer frames (fps, max_frames), make them smaller (total_pixels, max_pixels) or shorten the text"
       : visual > tokens / 2 ? "sample fewer frames (fps, max_frames) or make them smaller (total_pixels, max_pixels)"
                             : "shorten the text"});
}

// A medium that the template leaves out (the published ones show none in a system message) would silently not be looked
// at.
void refuse_media_left_out(const ChatRequest& request, const std::vector<Piece>& rendered) {
  std::unordered_set<const json::Value*> shown;
  for (const Piece& piece : rendered) {
    shown.insert(piece.item);
  }
  for (std::size_t m = 0; m < request.messages.size(); ++m) {
    const json::Value* content = request.messages[m].as_object().if_contains("content");
    if (content == nullptr || !content->is_array()) {
      continue;
    }
    for (std::size_t p = 0; p < content->get_array().size(); ++p) {
      const json::Value& part = content->get_array()[p];
      const json::Value* type = part.is_object() ? part.get_object().if_contains("type") : nullptr;
      if (type == nullptr || (*type != "image" && *type != "video") || shown.contains(&part)) {
        continue;
      }
      const json::Value& role = request.messages[m].at("role");
      refuse(Radius::kRequest, {fmt::format("{}: messages[{}].content[{}]", request.name, m, p),
                                fmt::format("a{} in a message of the role {}", *type == "image" ? "n image" : " video",
                                            json::described(role)),
                                "media where the checkpoint's chat template shows them", "move it to a user message"});
    }
  }
}

}  // namespace

void lay_out_positions(Prompt& prompt) {
  prompt.positions.clear();
  prompt.positions.reserve(prompt.tokens.size());
  std::int64_t position = 0, largest = -1;
  std::size_t next_unit = 0;
  for (std::size_t token = 0; token < prompt.tokens.size();) {
    if (next_unit < prompt.units.size() && prompt.units[next_unit].first_token == static_cast<std::int64_t>(token)) {
      const VisualUnit& unit = prompt.units[next_unit++];
      const Grid& grid = prompt.media[static_cast<std::size_t>(unit.medium)].grid;
      const int rows = grid.h / 2, columns = grid.w / 2;
      for (int y = 0; y < rows; ++y) {
        for (int x = 0; x < columns; ++x) {
          prompt.positions.push_back({static_cast<std::int32_t>(position), static_cast<std::int32_t>(position + y),
                                      static_cast<std::int32_t>(position + x)});
        }
      }
      position += std::max(rows, columns);
      largest = std::max(largest, position - 1);
      token += static_cast<std::size_t>(unit.tokens);
    } else {
      const auto p = static_cast<std::int32_t>(position);
      prompt.positions.push_back({p, p, p});
      largest = position++;
      ++token;
    }
    check(position < std::numeric_limits<std::int32_t>::max(), "a position beyond 31 bits");
  }
  prompt.rope_delta = largest + 1 - static_cast<std::int64_t>(prompt.tokens.size());
}

Prompt PromptWriter::write(const ChatRequest& request) const {
  const std::vector<Piece> rendered =
      chat_template->render(request.messages, request.tools ? &*request.tools : nullptr, request.render);
  refuse_media_left_out(request, rendered);
  Prompt prompt;
  std::vector<Piece> pieces;
  std::vector<std::vector<std::int64_t>> clean;  // by medium and pair
  // What is a little too long is counted, to say by how much; what is beyond that is not even written down.
  const std::int64_t counted_max = 2 * context_tokens_max + (std::int64_t{1} << 16);
  std::int64_t visual = 0;
  for (const Piece& piece : rendered) {
    if (piece.kind != Piece::Kind::kImage && piece.kind != Piece::Kind::kVideo) {
      pieces.push_back(piece);
      continue;
    }
    check(piece.item != nullptr, "a medium of the template without its content item");
    const Fields item(*piece.item, {request.name, Radius::kRequest}, fmt::format("medium {}", prompt.media.size() + 1));
    LookedAt looked =
        piece.kind == Piece::Kind::kImage ? look_at_image(item, request, *this) : look_at_video(item, request, *this);
    visual += looked.medium.grid.tokens();
    if (visual > counted_max) {
      refuse_too_long(request, visual, true, visual, context_tokens_max);
    }
    expand(piece, looked, pieces);
    prompt.media.push_back(std::move(looked.medium));
    clean.push_back(std::move(looked.clean));
  }
  std::optional<std::vector<TokenId>> tokens = tokenizer->encode(pieces, static_cast<std::size_t>(counted_max));
  if (!tokens) {
    refuse_too_long(request, counted_max, true, visual, context_tokens_max);
  }
  prompt.tokens = std::move(*tokens);
  if (prompt.tokens.empty()) {
    refuse(Radius::kRequest,
           {request.name + ": the prompt", "no tokens", "at least one message with content", "add a message"});
  }
  find_units(prompt, clean, image_token, video_token);
  if (const auto size = static_cast<std::int64_t>(prompt.tokens.size()); size >= context_tokens_max) {
    refuse_too_long(request, size, false, visual, context_tokens_max);
  }
  lay_out_positions(prompt);
  if (fingerprints) {
    fingerprint_units(prompt);
  }
  return prompt;
}

}  // namespace zoetrope
