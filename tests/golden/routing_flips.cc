#include "tests/golden/routing_flips.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace zoetrope::test {
namespace {

std::string name_of(const std::string& prefix, int layer, const char* what) {
  return fmt::format("{}router.{}.{}", prefix, layer, what);
}

}  // namespace

RoutingFlips::RoutingFlips(const TextConfig& config, const Trace& fp32, const Trace& bf16)
    : config_(config), fp32_(fp32), bf16_(bf16) {}

std::vector<int> RoutingFlips::chosen(const Trace& trace, const std::string& prefix, int layer,
                                      std::int64_t row) const {
  const auto first = trace.at(name_of(prefix, layer, "experts")).begin() + row * config_.experts_per_token;
  std::vector<int> experts(first, first + config_.experts_per_token);
  std::ranges::sort(experts);
  return experts;
}

double RoutingFlips::gap(const std::string& prefix, int layer, std::int64_t row) const {
  const auto first = fp32_.at(name_of(prefix, layer, "logits")).begin() + row * config_.experts;
  std::vector<float> logits(first, first + config_.experts);
  std::ranges::sort(logits, std::ranges::greater{});
  const auto k = static_cast<std::size_t>(config_.experts_per_token);
  return k < logits.size() ? static_cast<double>(logits[k - 1]) - static_cast<double>(logits[k]) : INFINITY;
}

double RoutingFlips::noise(int layer) const {
  double squares = 0;
  std::int64_t count = 0;
  for (const char* prefix : {"", "continuation."}) {
    const std::vector<float>& a = fp32_.at(name_of(prefix, layer, "logits"));
    const std::vector<float>& b = bf16_.at(name_of(prefix, layer, "logits"));
    for (std::int64_t row = 0; row < rows(prefix); ++row) {
      bool clean = true;
      for (int before = 0; before < layer && clean; ++before) {
        clean = chosen(fp32_, prefix, before, row) == chosen(bf16_, prefix, before, row);
      }
      for (std::int64_t i = row * config_.experts; clean && i < (row + 1) * config_.experts; ++i) {
        const double error =
            static_cast<double>(a[static_cast<std::size_t>(i)]) - static_cast<double>(b[static_cast<std::size_t>(i)]);
        squares += error * error;
        ++count;
      }
    }
  }
  return std::sqrt(squares / static_cast<double>(std::max<std::int64_t>(1, count)));
}

double RoutingFlips::noise_of_row(const std::string& prefix, int layer, std::int64_t row) const {
  const auto a = fp32_.at(name_of(prefix, layer, "logits")).begin() + row * config_.experts;
  const auto b = bf16_.at(name_of(prefix, layer, "logits")).begin() + row * config_.experts;
  std::vector<std::int64_t> order(static_cast<std::size_t>(config_.experts));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::ranges::greater{}, [&](std::int64_t expert) { return a[expert]; });
  double squares = 0;
  int count = 0;
  for (int place = 0; place < config_.experts; ++place) {
    if (place != config_.experts_per_token - 1 && place != config_.experts_per_token) {
      const std::int64_t expert = order[static_cast<std::size_t>(place)];
      const double error = static_cast<double>(a[expert]) - static_cast<double>(b[expert]);
      squares += error * error;
      ++count;
    }
  }
  return std::sqrt(squares / std::max(1, count));
}

std::int64_t RoutingFlips::rows(const std::string& prefix) const {
  return static_cast<std::int64_t>(fp32_.at(name_of(prefix, 0, "logits")).size()) / config_.experts;
}

std::optional<RoutingFlip> RoutingFlips::first(const std::string& prefix, std::int64_t row) const {
  for (int layer = 0; layer < config_.layers; ++layer) {
    if (chosen(fp32_, prefix, layer, row) != chosen(bf16_, prefix, layer, row)) {
      return RoutingFlip{.layer = layer,
                         .gap = gap(prefix, layer, row),
                         .noise = std::max(noise(layer), noise_of_row(prefix, layer, row))};
    }
  }
  return std::nullopt;
}

std::int64_t RoutingFlips::prompt_flips() const {
  std::int64_t flips = 0;
  for (int layer = 0; layer < config_.layers; ++layer) {
    for (std::int64_t row = 0; row < rows(""); ++row) {
      flips += chosen(fp32_, "", layer, row) != chosen(bf16_, "", layer, row) ? 1 : 0;
    }
  }
  return flips;
}

}  // namespace zoetrope::test
