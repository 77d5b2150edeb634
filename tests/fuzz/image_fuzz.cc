// Any bytes as a picture: decoded, or refused with an Error of the request's radius. Nothing else.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "monitoring/error.h"
#include "runtime/media/still.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::int64_t kPixelsFuzzed = 1 << 22;  // larger ones only cost the fuzzer's time
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  const auto source = zoetrope::MediaSource::memory("fuzz", {bytes, bytes + size});
  try {
    const zoetrope::StillFacts facts = zoetrope::read_still_facts(source);
    if (std::int64_t{facts.height} * facts.width <= kPixelsFuzzed) {
      const zoetrope::Picture picture = zoetrope::decode_still(source);
      if (picture.height != facts.upright_height() || picture.width != facts.upright_width()) {
        std::abort();  // the plan was made for another size
      }
    }
  } catch (const zoetrope::Error& error) {
    if (error.radius() != zoetrope::Radius::kRequest) {
      std::abort();
    }
  }
  return 0;
}
