// The header of a safetensors file from any bytes. The first eight are the size of the data behind the header, the rest
// is the header. Beyond not crashing: what is called whole must lie in the data, not overlap, and have the size of its
// shape; and a header without a problem must cover the data exactly.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "monitoring/check.h"
#include "runtime/checkpoint/safetensors.h"

namespace {

void check_entries(const std::vector<zoetrope::HeaderEntry>& entries, std::uint64_t data_bytes, bool clean) {
  std::uint64_t covered = 0;
  for (const zoetrope::HeaderEntry& entry : entries) {
    zoetrope::check(entry.whole || !clean, "a broken tensor has a problem");
    if (!entry.whole) {
      continue;
    }
    zoetrope::check(entry.begin >= covered, "tensors come by offset and do not overlap");
    zoetrope::check(entry.begin <= entry.end && entry.end <= data_bytes, "a tensor lies in the data");
    zoetrope::check(!clean || entry.begin == covered, "no hole");
    unsigned __int128 bits = static_cast<unsigned>(zoetrope::stored_type_bits(entry.type));
    for (const std::int64_t side : entry.shape) {
      zoetrope::check(side >= 0, "no negative side");
      bits *= static_cast<std::uint64_t>(side);
      zoetrope::check(bits >> 64 == 0, "the size fits in 64 bits");
    }
    zoetrope::check(bits == static_cast<unsigned __int128>(entry.end - entry.begin) * 8,
                    "shape x type fills the offsets");
    covered = entry.end;
  }
  zoetrope::check(!clean || covered == data_bytes, "no bytes after the last tensor");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::uint64_t data_bytes = 0;
  if (size < sizeof data_bytes) {
    return 0;
  }
  std::memcpy(&data_bytes, data, sizeof data_bytes);
  const std::string_view header(reinterpret_cast<const char*>(data) + sizeof data_bytes, size - sizeof data_bytes);
  zoetrope::Problems problems;
  const auto entries = zoetrope::parse_safetensors_header(header, data_bytes, "model.safetensors", problems);
  check_entries(entries, data_bytes, problems.empty());
  for (const std::string& line : problems.lines()) {
    zoetrope::check(line.find('\n') == std::string::npos, "a problem is one line");
  }
  return 0;
}
