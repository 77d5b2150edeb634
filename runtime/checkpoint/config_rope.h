// The rotary settings in config.json.
#pragma once

#include <cstdint>

#include "runtime/checkpoint/config.h"
#include "runtime/json/json.h"

namespace zoetrope {

// `text` is text_config. Reads rope_theta + rope_scaling (4.57), or rope_parameters (5.x); both may stand there when
// they agree. Error(kStartup) for what contradicts itself, the head width, or is another kind of rotary embedding.
RopeConfig read_rope_config(const json::Fields& text, int head_dim, std::int64_t positions_max);

}  // namespace zoetrope
