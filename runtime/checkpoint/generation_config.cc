#include "runtime/checkpoint/generation_config.h"

#include <fmt/format.h>

#include <limits>

#include "runtime/checkpoint/config_fields.h"
#include "runtime/checkpoint/folder.h"
#include "runtime/json/json.h"

namespace zoetrope {
namespace {

using json::Fields;

double number_between(const Fields& fields, std::string_view key, double otherwise, double off, double at_least,
                      double at_most) {
  if (!fields.has(key)) {
    return fields.object().contains(key) ? off : otherwise;  // null switches it off
  }
  const double value = fields.number(key);
  if (!(value >= at_least && value <= at_most)) {
    fields.refuse(key, fmt::format("{}", value), fmt::format("a number from {} to {}", at_least, at_most),
                  "change the value");
  }
  return value;
}

// Fields of the reference library that change answers and are not implemented: only their neutral value may stand
// there.
struct Neutral {
  std::string_view key;
  double value;
};
constexpr Neutral kNeutralNumbers[] = {{"num_beams", 1},
                                       {"num_beam_groups", 1},
                                       {"typical_p", 1},
                                       {"epsilon_cutoff", 0},
                                       {"eta_cutoff", 0},
                                       {"diversity_penalty", 0},
                                       {"no_repeat_ngram_size", 0},
                                       {"penalty_alpha", 0},
                                       {"encoder_repetition_penalty", 1},
                                       {"encoder_no_repeat_ngram_size", 0},
                                       {"guidance_scale", 1},
                                       {"min_length", 0},
                                       {"top_h", 0}};
constexpr std::string_view kAbsentFields[] = {
    "bad_words_ids",       "suppress_tokens",     "begin_suppress_tokens",
    "forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty",
    "sequence_bias",       "force_words_ids",     "constraints",
    "watermarking_config", "min_new_tokens",      "dola_layers",
    "forced_decoder_ids",  "stop_strings"};

void refuse_unimplemented(const Fields& fields) {
  for (const Neutral& neutral : kNeutralNumbers) {
    if (fields.has(neutral.key) && fields.number(neutral.key) != neutral.value) {
      fields.refuse(neutral.key, json::described(*fields.find(neutral.key)),
                    fmt::format("{}, or no such field: nothing else is implemented", neutral.value),
                    "remove the field");
    }
  }
  for (const std::string_view key : kAbsentFields) {
    if (fields.has(key) && !(fields.find(key)->is_array() && fields.find(key)->get_array().empty())) {
      fields.refuse(key, json::described(*fields.find(key)), "no such field: it is not implemented",
                    "remove the field");
    }
  }
}

GenerationConfig read(const Fields& fields, const ModelConfig& config) {
  refuse_unimplemented(fields);
  GenerationConfig out;
  out.sample = fields.boolean_or("do_sample", false);
  out.temperature = number_between(fields, "temperature", 1, 1, 0, 100);
  out.top_p = number_between(fields, "top_p", 1, 1, 0, 1);
  out.min_p = number_between(fields, "min_p", 0, 0, 0, 1);
  out.repetition_penalty = number_between(fields, "repetition_penalty", 1, 1, 1e-3, 1e3);
  if (fields.object().contains("top_k")) {
    out.top_k = static_cast<int>(fields.integer_or("top_k", 0, 0, 1'000'000'000));
  }
  out.eos = token_ids(fields, "eos_token_id", config.text.vocabulary);
  if (out.eos.empty()) {
    out.eos = config.eos;
  }
  return out;
}

}  // namespace

GenerationConfig read_generation_config(const std::filesystem::path& folder, const ModelConfig& config) {
  const std::filesystem::path file = file_in(folder, "generation_config.json");
  GenerationConfig out;
  out.eos = config.eos;
  std::error_code ec;
  if (std::filesystem::exists(file, ec)) {
    const json::Source source{file.string(), Radius::kStartup};
    const json::Value value = json::parse(read_text_file(file), source);
    out = read(Fields(value, source), config);
  }
  if (out.eos.empty()) {
    refuse(Radius::kStartup,
           {(folder / "config.json").string() + ": eos_token_id", "nothing, there and in generation_config.json",
            "the token that ends an answer", "fetch the published generation_config.json"});
  }
  return out;
}

}  // namespace zoetrope
