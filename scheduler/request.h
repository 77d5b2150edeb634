// What the scheduler knows of a request: counts, and of its content only what tells two prompts apart. Never pixels.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace zoetrope {

inline constexpr std::int64_t kPageRows = 256;  // tokens of a page (docs/one-answer.md rule 4)

enum class RequestId : std::uint64_t {};

// What a visual unit shows, as a digest of everything its features depend on (runtime/prompt/prompt.h).
using Fingerprint = std::array<std::uint64_t, 4>;

// One visual unit (a picture, or a pair of frames) as a run of placeholder tokens; it is encoded in the step that holds
// its first token.
struct UnitSpan {
  std::int64_t first_token = 0;
  std::int64_t tokens = 0;
  bool clean = false;  // nothing that the unit before it needs has to be decoded for it
  Fingerprint fingerprint{};
  bool film = false;  // two frames of one: they are not had without others
  bool operator==(const UnitSpan&) const = default;
};

struct Request {
  RequestId id{};
  std::int64_t prompt_tokens = 0;   // >= 1
  std::int64_t new_tokens_max = 0;  // >= 1
  std::vector<UnitSpan> units;      // in order, not overlapping
  std::vector<std::int32_t> tokens = {};  // of the prompt; empty: its pages are not shared with other requests
};

}  // namespace zoetrope
