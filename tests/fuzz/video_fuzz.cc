// Any bytes as a film: a table whose frames can be read or are refused one by one. Nothing else.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "monitoring/error.h"
#include "runtime/media/film_reader.h"
#include "runtime/media/frame_table.h"
#include "runtime/media/plan.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::int64_t kPixelsFuzzed = 1 << 18;  // larger ones only cost the fuzzer's time
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  const auto source = zoetrope::MediaSource::memory("fuzz", {bytes, bytes + size});
  const auto only_request = [](const zoetrope::Error& error) {
    if (error.radius() != zoetrope::Radius::kRequest) {
      std::abort();
    }
  };
  try {
    const zoetrope::FrameTable table = zoetrope::read_frame_table(source);
    for (std::size_t i = 1; i < table.frames.size(); ++i) {
      if (!(table.frames[i].seconds >= table.frames[i - 1].seconds)) {
        std::abort();
      }
    }
    zoetrope::plan_video("fuzz", table, {}, {});
    if (std::int64_t{table.height} * table.width > kPixelsFuzzed) {
      return 0;
    }
    const auto last = static_cast<std::int64_t>(table.frames.size()) - 1;
    zoetrope::FilmReader reader(source, table, {.height = 32, .width = 32, .expected = {0, last / 2, last}});
    std::vector<std::uint8_t> rgb(32 * 32 * 3);
    for (const std::int64_t index : {std::int64_t{0}, last / 2, last}) {
      try {
        reader.read(index, rgb);
      } catch (const zoetrope::Error& error) {
        only_request(error);
      }
    }
  } catch (const zoetrope::Error& error) {
    only_request(error);
  }
  return 0;
}
