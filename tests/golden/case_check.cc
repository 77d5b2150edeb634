#include "tests/golden/case_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <optional>

#include "kernels/thread_pool.h"
#include "parallel/ranks.h"
#include "runtime/model/model.h"
#include "tests/golden/case_files.h"
#include "tests/golden/routing_flips.h"
#include "tests/golden/stepper.h"

namespace zoetrope::test {
namespace {

constexpr double kFp32Relative = 1e-4;
constexpr double kBf16Ratio = 1.5;
constexpr double kFlipNoise = 4;  // a difference of two logits that are each off by `noise` rms: 4 is under three sigma

// What one rank made of a case.
struct Run {
  Trace trace;                             // of the whole prefill and the vision tower
  std::vector<float> prompt_logits;        // [T, V], whole prefill
  std::vector<float> chunked_logits;       // [T, V], the same in chunks
  std::vector<float> continuation_logits;  // [32, V]: what each greedy step saw, the fp32 ids fed
};

class CaseRunner {
  enum class Watch { kPrompt, kNothing, kContinuation };

 public:
  CaseRunner(const GoldenCase& golden, const Checkpoint& checkpoint, Ranks& ranks, Precision precision, BodyKind kind)
      : golden_(golden), pool_(1), takes_part_(ranks.place.member == ranks.layout.ring - 1) {
    Model::Options options{.compute = {.body = &body(kind), .pool = &pool_, .precision = precision},
                           .observer = [this](std::string_view name, Rows<const float> values) { keep(name, values); },
                           .progress = {}};
    model_ = Model::load(checkpoint, ranks, std::move(options));
  }

  Run run() {
    TestSequence sequence{
        .tokens = golden_.tokens, .positions = golden_.positions, .visual_tokens = {}, .visual = {}, .pages = {}};
    encode_vision(sequence);
    const auto prompt = static_cast<std::int64_t>(golden_.tokens.size());
    const auto pages = static_cast<std::int32_t>((prompt + 32) / kPageTokens + 2);

    TestSequence again = sequence;
    Stepper whole(*model_, pages);
    run_.prompt_logits = advance(whole, sequence, prompt);
    watching_ = Watch::kNothing;
    Stepper chunked(*model_, pages);
    const std::int64_t chunk = prompt < 100 ? 13 : 257;
    for (std::int64_t first = 0; first < prompt; first += chunk) {
      const auto part = advance(chunked, again, std::min(chunk, prompt - first));
      run_.chunked_logits.insert(run_.chunked_logits.end(), part.begin(), part.end());
    }
    watching_ = Watch::kContinuation;
    continue_greedily(whole, sequence);
    return std::move(run_);
  }

 private:
  void keep(std::string_view name, Rows<const float> values) {
    if (watching_ == Watch::kNothing) {
      return;
    }
    std::string key(name);
    if (watching_ == Watch::kContinuation) {
      key.insert(0, "continuation.");
    }
    if (key.starts_with("vision.")) {
      key.insert(std::strlen("vision."), tag_ + ".");
    }
    std::vector<float>& kept = run_.trace[key];
    for (std::int64_t row = 0; row < values.rows; ++row) {
      kept.insert(kept.end(), values.row(row), values.row(row) + values.columns);
    }
  }

  // Members without the sequence only join the step.
  std::vector<float> advance(Stepper& stepper, TestSequence& sequence, std::int64_t tokens) {
    return takes_part_ ? stepper.step(sequence, tokens) : stepper.step({});
  }

  void encode_vision(TestSequence& sequence) {
    const std::int64_t columns = model_->feature_columns();
    std::vector<std::pair<std::int64_t, std::vector<float>>> shown;  // token, its features
    for (const CaseVision& vision : golden_.vision) {
      tag_ = vision.tag;
      const std::int32_t placeholder =
          vision.tag == "image" ? model_->config().image_token : model_->config().video_token;
      auto token = golden_.tokens.begin();
      const float* pixels = vision.pixels.data();
      for (const CaseGrid& grid : vision.grids) {
        const std::int64_t patches = std::int64_t{grid.t} * grid.h * grid.w;
        std::vector<float> features(static_cast<std::size_t>(patches / 4 * columns));
        model_->encode({.patches = {pixels, patches, 1536}, .units = grid.t, .gh = grid.h, .gw = grid.w},
                       {features.data(), patches / 4, columns});
        pixels += patches * 1536;
        for (auto row = features.begin(); row != features.end(); row += columns) {
          token = std::find(token, golden_.tokens.end(), placeholder);
          shown.emplace_back(token - golden_.tokens.begin(), std::vector<float>(row, row + columns));
          ++token;
        }
      }
    }
    std::ranges::sort(shown, {}, [](const auto& entry) { return entry.first; });
    for (const auto& [token, features] : shown) {
      sequence.visual_tokens.push_back(token);
      sequence.visual.insert(sequence.visual.end(), features.begin(), features.end());
    }
  }

  void continue_greedily(Stepper& stepper, TestSequence& sequence) {
    const auto vocabulary = static_cast<std::ptrdiff_t>(model_->config().text.vocabulary);
    std::vector<float> seen;
    if (takes_part_) {
      seen.assign(run_.prompt_logits.end() - vocabulary, run_.prompt_logits.end());
    }
    for (std::size_t step = 0; step < golden_.greedy.size(); ++step) {
      run_.continuation_logits.insert(run_.continuation_logits.end(), seen.begin(), seen.end());
      const auto position =
          static_cast<std::int32_t>(static_cast<std::int64_t>(sequence.tokens.size()) + golden_.rope_delta);
      sequence.tokens.push_back(golden_.greedy[step]);
      sequence.positions.push_back({.t = position, .h = position, .w = position});
      seen = advance(stepper, sequence, 1);
    }
  }

  const GoldenCase& golden_;
  ThreadPool pool_;
  bool takes_part_;
  Watch watching_ = Watch::kPrompt;
  std::string tag_;
  Run run_;
  std::unique_ptr<Model> model_;
};

struct Distance {
  double rms = 0, max_abs = 0, reference_max = 0;
  bool finite = true;
};

Distance distance(std::span<const float> ours, std::span<const float> reference) {
  Distance d;
  double squares = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double error = std::abs(static_cast<double>(ours[i]) - static_cast<double>(reference[i]));
    d.finite = d.finite && std::isfinite(error);
    d.max_abs = std::max(d.max_abs, error);
    d.reference_max = std::max(d.reference_max, std::abs(static_cast<double>(reference[i])));
    squares += error * error;
  }
  d.rms = std::sqrt(squares / static_cast<double>(std::max<std::size_t>(1, reference.size())));
  return d;
}

class Judge {
 public:
  // `flips`: of a mixture of experts in bf16, else null.
  Judge(const GoldenCase& golden, Precision precision, const RoutingFlips* flips, CaseResult& result)
      : golden_(golden), precision_(precision), flips_(flips), result_(result) {}

  // `ours` against the tensor `name`, within what the precision allows.
  void compare(const std::string& name, std::span<const float> ours) {
    const std::vector<float> reference = golden_.tensors.floats(name);
    if (ours.size() != reference.size()) {
      fail("{}: {} values, the reference has {}", name, ours.size(), reference.size());
      return;
    }
    const bool exact = name.ends_with(".experts");
    if (precision_ == Precision::kFp32) {
      const Distance d = distance(ours, reference);
      result_.values_compared += static_cast<std::int64_t>(reference.size());
      const double relative = d.max_abs / std::max(d.reference_max, 1e-30);
      if (!exact) {
        result_.largest_fp32_error = std::max(result_.largest_fp32_error, relative);
      }
      if (!d.finite || (exact ? !same_experts(name, ours, reference) : relative > kFp32Relative)) {
        fail("{}: {:.3g} off, {:.3g} of the largest value {:.4g}", name, d.max_abs, relative, d.reference_max);
      }
    } else if (!exact) {
      compare_bf16(name, ours, reference);
    }
  }

  // bf16: `fp32` is our own run in fp32. Distances of the logits of all prompt rows, and the tokens that were sent
  // elsewhere.
  void compare_prompt(std::span<const float> logits, std::span<const float> fp32, std::size_t vocabulary) {
    const auto rows = static_cast<double>(golden_.tokens.size());
    const double allowed = golden_.bf16_noise.at("all_prompt_logits").rms;
    const double rms = distance(logits, fp32).rms;
    check_eq(logits.size(), golden_.tokens.size() * vocabulary, "logits of every prompt row");
    result_.bf16_squares += rows * rms * rms;
    result_.reference_bf16_squares += rows * allowed * allowed;
    result_.values_compared += static_cast<std::int64_t>(logits.size());
    if (flips_ != nullptr) {
      result_.flips += flips_->prompt_flips();
      result_.reference_flips += golden_.bf16_flips;
    }
    if (rms <= kBf16Ratio * allowed) {
      return;
    }
    const std::string miss =
        fmt::format("logits of all prompt rows: rms {:.4g} from fp32, the reference's bf16 is {:.4g}", rms, allowed);
    const double steady = flips_ == nullptr ? rms : distance_of_steady_rows(logits, fp32, vocabulary, *flips_);
    if (steady <= kBf16Ratio * allowed) {
      by_chance("{}; {:.4g} over the rows that meet the experts of fp32", miss, steady);
    } else {
      fail("{}", miss);
    }
  }

  // On the fp32 ids: fp32 demands the `certain` ids, bf16 those whose margin exceeds the case's bf16 noise, and those
  // whose margin exceeds twice the reference's error at that very step unless the row is proven to meet other experts.
  void compare_continuation(std::span<const float> logits, std::size_t vocabulary) {
    for (std::size_t step = 0; step < golden_.greedy.size(); ++step) {
      const auto row = logits.subspan(step * vocabulary, vocabulary);
      const auto top = static_cast<std::int32_t>(std::ranges::max_element(row) - row.begin());
      const bool demanded = precision_ == Precision::kFp32 ? static_cast<std::int64_t>(step) < golden_.certain
                                                           : golden_.margins[step] > 2 * golden_.bf16_errors[step];
      result_.values_compared += demanded ? 1 : 0;
      if (!demanded || top == golden_.greedy[step]) {
        continue;
      }
      const std::string miss =
          fmt::format("step {}: token {}, the reference draws {} (margin {:.4g}, its bf16 error {:.4g})", step, top,
                      golden_.greedy[step], golden_.margins[step], golden_.bf16_errors[step]);
      // Step 0 saw the last row of the prompt, step k the row of token k - 1 of the continuation.
      const auto seen = static_cast<std::int64_t>(step == 0 ? golden_.tokens.size() : step) - 1;
      const auto flip = flips_ == nullptr ? std::nullopt : proven(*flips_, step == 0 ? "" : "continuation.", seen);
      if (flip && golden_.margins[step] <= golden_.bf16_noise.at("all_prompt_logits").max_abs) {
        by_chance("{}: layer {} sends it elsewhere, gap {:.3g} at noise {:.3g}", miss, flip->layer, flip->gap,
                  flip->noise);
      } else {
        const auto any = flips_ == nullptr ? std::nullopt : flips_->first(step == 0 ? "" : "continuation.", seen);
        fail("{}{}", miss,
             any ? fmt::format("; layer {} sends it elsewhere, gap {:.3g} at noise {:.3g}: not proven", any->layer,
                               any->gap, any->noise)
                 : "; it meets the experts of fp32");
      }
    }
  }

  void same_bits(std::string_view what, std::span<const float> a, std::span<const float> b) {
    result_.values_compared += static_cast<std::int64_t>(a.size());
    if (a.size() != b.size() || std::memcmp(a.data(), b.data(), a.size_bytes()) != 0) {
      fail("{}: not the same bits, largest difference {:.3g}", what,
           a.size() == b.size() ? distance(a, b).max_abs : NAN);
    }
  }

 private:
  // Over the prompt rows that meet the same experts as in fp32, in every layer.
  static double distance_of_steady_rows(std::span<const float> logits, std::span<const float> fp32,
                                        std::size_t vocabulary, const RoutingFlips& flips) {
    double squares = 0;
    std::size_t rows = 0;
    for (std::size_t row = 0; row < logits.size() / vocabulary; ++row) {
      if (!flips.first("", static_cast<std::int64_t>(row))) {
        const double rms =
            distance(logits.subspan(row * vocabulary, vocabulary), fp32.subspan(row * vocabulary, vocabulary)).rms;
        squares += rms * rms;
        ++rows;
      }
    }
    return std::sqrt(squares / static_cast<double>(std::max<std::size_t>(1, rows)));
  }

  // Experts in fp32: the reference's at every place, or one whose logit is within the tolerance of fp32 logits of its.
  bool same_experts(const std::string& name, std::span<const float> ours, std::span<const float> reference) const {
    const std::string logits_name = name.substr(0, name.size() - std::strlen("experts")) + "logits";
    const std::vector<float> logits = golden_.tensors.floats(logits_name);
    const std::size_t rows = golden_.tokens.size(), experts = logits.size() / rows, chosen = reference.size() / rows;
    double largest = 0;
    for (const float logit : logits) {
      largest = std::max(largest, std::abs(static_cast<double>(logit)));
    }
    for (std::size_t i = 0; i < reference.size(); ++i) {
      const float* row = logits.data() + i / chosen * experts;
      const double apart = std::abs(static_cast<double>(row[static_cast<std::size_t>(ours[i])]) -
                                    static_cast<double>(row[static_cast<std::size_t>(reference[i])]));
      if (ours[i] != reference[i] && apart > 2 * kFp32Relative * largest) {
        return false;
      }
    }
    return true;
  }

  // A row that is sent elsewhere where fp32 was nearly undecided.
  static std::optional<RoutingFlip> proven(const RoutingFlips& flips, const std::string& prefix, std::int64_t row) {
    const auto flip = flips.first(prefix, row);
    return flip && flip->gap <= kFlipNoise * flip->noise ? flip : std::nullopt;
  }

  void compare_bf16(const std::string& name, std::span<const float> ours, std::span<const float> reference) {
    double allowed = 0;
    const std::string own = name == "logits.last" ? "logits_bf16.last" : "bf16." + name;
    if (golden_.tensors.has(own)) {
      allowed = distance(golden_.tensors.floats(own), reference).rms;
    } else if (const auto noise = golden_.bf16_noise.find(name == "logits.all" ? "all_prompt_logits" : name);
               noise != golden_.bf16_noise.end()) {
      allowed = noise->second.rms;
    } else {
      return;  // the reference does not say how far its own bf16 is
    }
    const Distance d = distance(ours, reference);
    result_.values_compared += static_cast<std::int64_t>(reference.size());
    if (allowed > 0) {
      result_.largest_bf16_ratio = std::max(result_.largest_bf16_ratio, d.rms / allowed);
    }
    if (d.finite && d.rms <= kBf16Ratio * allowed) {
      return;
    }
    const std::string miss = fmt::format("{}: rms {:.4g} from fp32, the reference's bf16 is {:.4g} (ratio {:.3g})",
                                         name, d.rms, allowed, d.rms / allowed);
    // One row of a mixture says little: the reference's own may have been lucky there. So it is held to the reference's
    // distance over all rows too, and beyond that it must be proven to meet other experts.
    const auto last_row = static_cast<std::int64_t>(golden_.tokens.size()) - 1;
    if (flips_ != nullptr && d.finite && name == "logits.last" &&
        (d.rms <= kBf16Ratio * golden_.bf16_noise.at("all_prompt_logits").rms || proven(*flips_, "", last_row))) {
      by_chance("{}", miss);
    } else {
      fail("{}", miss);
    }
  }

  template <typename... Args>
  void fail(fmt::format_string<Args...> format, Args&&... args) {
    result_.failures.push_back(fmt::format(format, std::forward<Args>(args)...));
  }

  template <typename... Args>
  void by_chance(fmt::format_string<Args...> format, Args&&... args) {
    result_.misses.push_back(fmt::format(format, std::forward<Args>(args)...));
  }

  const GoldenCase& golden_;
  Precision precision_;
  const RoutingFlips* flips_;
  CaseResult& result_;
};

bool is_activation(const std::string& name) {
  return name.starts_with("hidden.") || name.starts_with("router.") || name.starts_with("vision.");
}

}  // namespace

CaseResult check_case(const std::filesystem::path& goldens, const std::string& checkpoint, const std::string& case_name,
                      Precision precision, Layout layout, BodyKind kind) {
  const GoldenCase golden = read_case(goldens, checkpoint, case_name);
  const Checkpoint opened = Checkpoint::open(goldens / "checkpoints" / checkpoint);
  std::vector<Run> runs(static_cast<std::size_t>(layout.ranks()));
  run_ranks(layout, [&](Ranks& ranks) {
    runs[static_cast<std::size_t>(ranks.place.rank)] = CaseRunner(golden, opened, ranks, precision, kind).run();
  });

  CaseResult result;
  const auto vocabulary = static_cast<std::size_t>(opened.config().text.vocabulary);
  const Run& first = runs[static_cast<std::size_t>(rank_of(layout, 0, layout.ring - 1, 0))];
  std::optional<RoutingFlips> flips;
  Run fp32;
  if (precision == Precision::kBf16) {
    Ranks alone = self_ranks();
    fp32 = CaseRunner(golden, opened, alone, Precision::kFp32, kind).run();
    if (opened.config().text.moe()) {
      flips.emplace(opened.config().text, fp32.trace, first.trace);
    }
  }
  Judge judge(golden, precision, flips ? &*flips : nullptr, result);
  for (const std::string& name : golden.tensors.names()) {
    if (is_activation(name)) {
      const auto found = first.trace.find(name);
      judge.compare(name,
                    found == first.trace.end() ? std::span<const float>{} : std::span<const float>(found->second));
    }
  }
  const auto last = std::span(first.prompt_logits).last(vocabulary);
  if (precision == Precision::kBf16) {
    judge.compare_prompt(first.prompt_logits, fp32.prompt_logits, vocabulary);
  }
  judge.compare("logits.last", last);
  if (golden.tensors.has("logits.all")) {
    judge.compare("logits.all", first.prompt_logits);
  }
  if (golden.tensors.has("logits.continuation")) {
    judge.compare("logits.continuation", first.continuation_logits);
  }
  judge.compare_continuation(first.continuation_logits, vocabulary);
  judge.same_bits("chunked prefill", first.prompt_logits, first.chunked_logits);
  for (int tp = 1; tp < layout.tp; ++tp) {
    const Run& other = runs[static_cast<std::size_t>(rank_of(layout, 0, layout.ring - 1, tp))];
    judge.same_bits(fmt::format("logits of tp rank {}", tp), first.prompt_logits, other.prompt_logits);
  }
  return result;
}

CaseResult check_case(const std::filesystem::path& goldens, const std::string& checkpoint, const std::string& case_name,
                      Precision precision, Layout layout) {
  return check_case(goldens, checkpoint, case_name, precision, layout, best_body());
}

}  // namespace zoetrope::test
