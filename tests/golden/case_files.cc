#include "tests/golden/case_files.h"

#include <boost/json.hpp>

#include <fstream>
#include <iterator>
#include <stdexcept>

namespace zoetrope::test {
namespace {

namespace json = boost::json;

template <typename T>
std::vector<T> numbers(const json::value& value) {
  std::vector<T> out;
  for (const json::value& entry : value.as_array()) {
    out.push_back(entry.to_number<T>());
  }
  return out;
}

std::vector<CaseGrid> grids(const json::value& value) {
  std::vector<CaseGrid> out;
  for (const json::value& row : value.as_array()) {
    const auto sizes = numbers<int>(row);
    out.push_back({.t = sizes.at(0), .h = sizes.at(1), .w = sizes.at(2)});
  }
  return out;
}

// The pixels as another checkpoint's case of the same name holds them.
std::vector<std::uint8_t> elsewhere(const std::filesystem::path& goldens, const std::string& case_name,
                                    const std::string& name) {
  for (const auto& checkpoint : std::filesystem::directory_iterator(goldens / "cases")) {
    const auto file = checkpoint.path() / case_name / "case.safetensors";
    if (std::filesystem::exists(file)) {
      if (const SafetensorsFile other(file); other.has(name)) {
        return other.data<std::uint8_t>(name);
      }
    }
  }
  throw std::runtime_error("no checkpoint's case " + case_name + " holds " + name);
}

CaseVision read_vision(const std::filesystem::path& goldens, const std::string& case_name,
                       const SafetensorsFile& tensors, const std::string& tag, const json::value& grid_rows) {
  CaseVision vision{.tag = tag, .grids = grids(grid_rows), .pixels = {}};
  if (vision.grids.empty()) {
    return vision;
  }
  const std::string name = "pixels." + tag + ".u8";
  const std::vector<std::uint8_t> levels =
      tensors.has(name) ? tensors.data<std::uint8_t>(name) : elsewhere(goldens, case_name, name);
  for (const std::uint8_t level : levels) {
    vision.pixels.push_back((static_cast<float>(level) - 127.5F) / 127.5F);
  }
  std::size_t patches = 0;
  for (const CaseGrid& grid : vision.grids) {
    patches += static_cast<std::size_t>(grid.t) * static_cast<std::size_t>(grid.h * grid.w);
  }
  if (vision.pixels.size() != patches * 1536) {
    throw std::runtime_error(case_name + ": the pixels do not fill the grids");
  }
  return vision;
}

}  // namespace

GoldenCase read_case(const std::filesystem::path& goldens, const std::string& checkpoint,
                     const std::string& case_name) {
  const auto folder = goldens / "cases" / checkpoint / case_name;
  const json::object described = golden_json(folder / "case.json").as_object();
  GoldenCase c{.tokens = {},
               .positions = {},
               .vision = {},
               .greedy = {},
               .margins = {},
               .bf16_errors = {},
               .bf16_noise = {},
               .tensors = SafetensorsFile(folder / "case.safetensors")};
  c.tokens = c.tensors.data<std::int32_t>("input_ids");
  const auto positions = c.tensors.data<std::int32_t>("position_ids");  // [3, T]
  const std::size_t count = c.tokens.size();
  for (std::size_t i = 0; i < count; ++i) {
    c.positions.push_back({.t = positions.at(i), .h = positions.at(count + i), .w = positions.at(2 * count + i)});
  }
  c.rope_delta = described.at("rope_delta").to_number<std::int64_t>();
  for (const auto& [tag, key] : {std::pair{"image", "image_grid_thw"}, std::pair{"video", "video_grid_thw"}}) {
    CaseVision vision = read_vision(goldens, case_name, c.tensors, tag, described.at(key));
    if (!vision.grids.empty()) {
      c.vision.push_back(std::move(vision));
    }
  }
  const json::object& greedy = described.at("greedy_fp32").as_object();
  c.greedy = numbers<std::int32_t>(greedy.at("ids"));
  c.margins = numbers<double>(greedy.at("margins"));
  c.certain = greedy.at("certain").to_number<std::int64_t>();
  c.bf16_errors = numbers<double>(described.at("bf16_on_fp32_continuation").as_object().at("max_abs_error"));
  for (const auto& [name, noise] : described.at("bf16_noise").as_object()) {
    if (const auto* rms = noise.as_object().if_contains("rms")) {
      c.bf16_noise[std::string(name)] = {.rms = rms->to_number<double>(),
                                         .max_abs = noise.as_object().at("max_abs").to_number<double>()};
    } else if (name == "tokens_with_other_experts_per_layer") {
      for (const auto& [layer, flips] : noise.as_object()) {
        c.bf16_flips += flips.to_number<std::int64_t>();
      }
    }
  }
  return c;
}

}  // namespace zoetrope::test
