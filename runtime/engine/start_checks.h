// What an engine refuses before it reads a weight: arithmetic on the configuration, the layout, the settings and the
// memory of the host. Pure; what depends on a host's memory may differ from rank to rank.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/attention.h"
#include "parallel/layout.h"
#include "runtime/checkpoint/config.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/host_room.h"

namespace zoetrope {

struct HostShare {
  std::string host;
  int ranks = 1;  // of this job on this host
  HostRoom room;
};

// Bytes of a page of KV of the rank that holds most layers.
std::int64_t kv_page_bytes(const ModelConfig& config, const Layout& layout, Precision precision);

// The longest prompt with its answer: as asked for, or the model's.
std::int64_t context_of(const ModelConfig& config, const EngineSettings& settings);

// KV pages of a rank: what the setting buys, or half of the memory that is free on the host shared by its ranks, but
// never more than the running sequences could fill. Error(kStartup) when that is not one page.
std::int32_t kv_pages(const ModelConfig& config, const Layout& layout, const EngineSettings& settings,
                      const HostShare& share);

// Error(kStartup) when a context that was asked for is longer than the pools of the widest span hold.
void check_context_fits(const ModelConfig& config, const Layout& layout, const EngineSettings& settings,
                        std::int32_t pages);

// Error(kStartup), with the arithmetic: layers for the stages, heads and slices for tp, experts for the ranks of a
// stage, the span in the ring and in the pages of a context, the context in the model and in all pools, the KV memory
// in the host.
void check_start(const ModelConfig& config, const Layout& layout, const EngineSettings& settings,
                 const HostShare& share);

}  // namespace zoetrope
