#include "runtime/engine/start_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "parallel/expert_placement.h"
#include "runtime/checkpoint/legal_layouts.h"
#include "runtime/model/model.h"
#include "runtime/model/stages.h"
#include "runtime/model/text_shard.h"

namespace zoetrope {
namespace {

std::int64_t pages_of(std::int64_t tokens) { return div_ceil<std::int64_t>(tokens, kPageTokens); }

int power_of_two_within(std::int64_t most) {
  return static_cast<int>(std::bit_floor(static_cast<std::uint64_t>(std::max<std::int64_t>(1, most))));
}

// Members of the widest span.
int members_max(const Layout& layout, const EngineSettings& settings) {
  return settings.span_members > 0 ? settings.span_members : power_of_two_within(std::min(layout.ring, kPageClasses));
}

void check_experts(const ModelConfig& config, const Layout& layout, const EngineSettings& settings) {
  if (!config.text.moe()) {
    return;
  }
  if (settings.experts.groups > 0) {
    grouped_experts_placement(config.text.experts, layout.stage_ranks(), settings.experts.groups,
                              expert_down(config).slices);
  } else if (settings.experts.placement.empty()) {
    ExpertTable::contiguous(config.text.experts, layout.stage_ranks());
  }
}

void check_span(const ModelConfig& config, const Layout& layout, const EngineSettings& settings) {
  const int ring = layout.ring, span = settings.span_members;
  if (span > ring || !std::has_single_bit(static_cast<unsigned>(std::max(1, span))) || span > kPageClasses) {
    refuse(
        Radius::kStartup,
        {"--span",
         fmt::format("{} over a ring of {} = {} ranks / (pp {} x tp {})", span, ring, layout.ranks(), layout.pp,
                     layout.tp),
         fmt::format("a power of two, at most {} and at most the {} members of the ring", kPageClasses, ring),
         fmt::format("use --span {}, or start more ranks", power_of_two_within(std::min({span, ring, kPageClasses})))});
  }
  const std::int64_t context = context_of(config, settings), pages = pages_of(context);
  if (span > pages) {
    refuse(Radius::kStartup,
           {"--span",
            fmt::format("{} members for a context of {} tokens = {} pages of {}", span, context, pages, kPageTokens),
            "at most one member for each page",
            fmt::format("use --span {}, or raise --context", power_of_two_within(pages))});
  }
}

void check_context(const ModelConfig& config, const EngineSettings& settings) {
  const std::int64_t most = config.text.positions_max;
  if (settings.context_tokens_max > most) {
    refuse(Radius::kStartup, {"--context", fmt::format("{} tokens", settings.context_tokens_max),
                              fmt::format("at most {}, the positions of this model", most),
                              fmt::format("use --context {}, or leave it out", most)});
  }
}

void check_kv_memory(const EngineSettings& settings, const HostShare& share) {
  // The product may leave 64 bits; the quotient does not.
  const std::int64_t most = share.room.free_bytes / share.ranks;
  if (settings.kv_bytes_per_rank > most) {
    refuse(Radius::kStartup,
           {"--kv-memory",
            fmt::format("{} bytes for each of {} rank{} on host {}", settings.kv_bytes_per_rank, share.ranks,
                        share.ranks == 1 ? "" : "s", share.host),
            fmt::format("at most {} bytes: {} are free there ({})", most, share.room.free_bytes, share.room.bound_by),
            "lower --kv-memory, start fewer ranks on this host, or leave it out"});
  }
}

}  // namespace

std::int64_t kv_page_bytes(const ModelConfig& config, const Layout& layout, Precision precision) {
  const KvLayout kv{.kv_heads = static_cast<int>(text_shard(config, 0, layout.tp).kv_heads.count()),
                    .head_dim = config.text.head_dim,
                    .precision = precision};
  std::int64_t layers = 0;
  for (const Range& stage : stage_layers(config, layout.pp)) {
    layers = std::max(layers, stage.count());
  }
  return static_cast<std::int64_t>(KvCache::bytes_per_page(kv, static_cast<int>(layers)));
}

std::int64_t context_of(const ModelConfig& config, const EngineSettings& settings) {
  return settings.context_tokens_max > 0 ? settings.context_tokens_max : config.text.positions_max;
}

std::int32_t kv_pages(const ModelConfig& config, const Layout& layout, const EngineSettings& settings,
                      const HostShare& share) {
  const std::int64_t page = kv_page_bytes(config, layout, settings.precision);
  const std::int64_t bytes =
      settings.kv_bytes_per_rank > 0 ? settings.kv_bytes_per_rank : share.room.free_bytes / 2 / share.ranks;
  const std::int64_t useful = pages_of(context_of(config, settings)) * settings.sequences_max;
  const std::int64_t pages = std::min({bytes / page, useful, std::int64_t{1} << 30});
  if (pages < 1) {
    refuse(Radius::kStartup, {"KV memory", fmt::format("{} bytes", bytes),
                              fmt::format("at least {} bytes (one page)", page), "raise --kv-memory"});
  }
  return static_cast<std::int32_t>(pages);
}

void check_context_fits(const ModelConfig& config, const Layout& layout, const EngineSettings& settings,
                        std::int32_t pages) {
  const int members = members_max(layout, settings);
  const std::int64_t wanted = pages_of(settings.context_tokens_max), most = std::int64_t{pages} * members;
  if (wanted <= most) {
    return;
  }
  const std::int64_t page = kv_page_bytes(config, layout, settings.precision);
  refuse(Radius::kStartup,
         {"--context", fmt::format("{} tokens = {} pages of {}", settings.context_tokens_max, wanted, kPageTokens),
          fmt::format("at most {} pages: {} ring member{} x {} pages of {} bytes each", most, members,
                      members == 1 ? "" : "s", pages, page),
          fmt::format("give each rank {} bytes (--kv-memory), start more ranks, or lower --context to {}",
                      div_ceil<std::int64_t>(wanted, members) * page, most * kPageTokens)});
}

void check_start(const ModelConfig& config, const Layout& layout, const EngineSettings& settings,
                 const HostShare& share) {
  check_pp(config, layout.pp);
  check_tp(config, layout.tp);
  check_experts(config, layout, settings);
  check_context(config, settings);
  check_span(config, layout, settings);
  check_kv_memory(settings, share);
  // Without --kv-memory the weights take of the same memory first; what does not fit now never will.
  check_context_fits(config, layout, settings, kv_pages(config, layout, settings, share));
}

}  // namespace zoetrope
