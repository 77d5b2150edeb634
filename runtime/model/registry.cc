// Which class runs which architecture: a new model is one line here.
#include <fmt/format.h>

#include <array>
#include <string>
#include <utility>

#include "monitoring/error.h"
#include "runtime/model/model.h"
#include "runtime/model/qwen3_vl.h"

namespace zoetrope {
namespace {

struct Entry {
  std::string_view architecture;  // config.json, architectures[0]
  std::unique_ptr<Model> (*load)(const Checkpoint& checkpoint, Ranks& ranks, Model::Options options);
};

constexpr std::array kModels{
    Entry{"Qwen3VLForConditionalGeneration", &Qwen3Vl::load},
    Entry{"Qwen3VLMoeForConditionalGeneration", &Qwen3Vl::load},
};

}  // namespace

std::unique_ptr<Model> Model::load(const Checkpoint& checkpoint, Ranks& ranks, Options options) {
  std::string known;
  for (const Entry& entry : kModels) {
    if (entry.architecture == checkpoint.config().architecture) {
      return entry.load(checkpoint, ranks, std::move(options));
    }
    known += fmt::format("{}{}", known.empty() ? "" : " or ", entry.architecture);
  }
  refuse(Radius::kStartup, {.what = "architecture of the checkpoint",
                            .found = zoetrope::quoted(checkpoint.config().architecture),
                            .expected = known,
                            .remedy = "use a Qwen3-VL checkpoint"});
}

}  // namespace zoetrope
