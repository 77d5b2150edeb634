// What the scheduler knows of a request: counts, never tokens or pixels.
#pragma once

#include <cstdint>
#include <vector>

namespace zoetrope {

enum class RequestId : std::uint64_t {};

// One visual unit (a picture, or a pair of frames) as a run of placeholder tokens; it is encoded in the step that holds
// its first token.
struct UnitSpan {
  std::int64_t first_token = 0;
  std::int64_t tokens = 0;
  bool clean = false;  // nothing that the unit before it needs has to be decoded for it
};

struct Request {
  RequestId id{};
  std::int64_t prompt_tokens = 0;   // >= 1
  std::int64_t new_tokens_max = 0;  // >= 1
  std::vector<UnitSpan> units;      // in order, not overlapping
};

}  // namespace zoetrope
