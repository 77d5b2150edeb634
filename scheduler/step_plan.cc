// Encoding: a version word, then every field in order of declaration, integers little-endian as they lie in memory, lists
// with a 64-bit length in front. Both ends are the same program, checked at start.
#include "scheduler/step_plan.h"

#include <fmt/format.h>

#include <cstring>
#include <type_traits>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

constexpr std::uint64_t kVersion = 0x5a504c414e303031;  // "ZPLAN001"

class Writer {
 public:
  template <typename T>
  void put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    out.insert(out.end(), bytes, bytes + sizeof(T));
  }
  template <typename T, typename Put>
  void list(const std::vector<T>& values, Put put_one) {
    put(static_cast<std::uint64_t>(values.size()));
    for (const T& value : values) {
      put_one(value);
    }
  }
  template <typename T>
  void list(const std::vector<T>& values) {
    list(values, [&](const T& value) { put(value); });
  }
  std::vector<std::byte> out;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  template <typename T>
  T get() {
    static_assert(std::is_trivially_copyable_v<T>);
    if (bytes_.size() - at_ < sizeof(T)) {
      malformed(fmt::format("{} bytes left", bytes_.size() - at_), fmt::format("{} more", sizeof(T)));
    }
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  bool flag() {
    const auto value = get<std::uint8_t>();
    if (value > 1) {
      malformed(fmt::format("the flag {}", value), "0 or 1");
    }
    return value == 1;
  }
  // least_bytes: what one element takes at least, so that a lying length cannot ask for memory.
  template <typename T, typename Get>
  std::vector<T> list(std::size_t least_bytes, Get get_one) {
    const auto count = get<std::uint64_t>();
    if (count > (bytes_.size() - at_) / least_bytes) {
      malformed(fmt::format("a list of {}", count), fmt::format("at most {} in what is left", (bytes_.size() - at_) / least_bytes));
    }
    std::vector<T> values;
    values.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) {
      values.push_back(get_one());
    }
    return values;
  }
  template <typename T>
  std::vector<T> list() {
    return list<T>(sizeof(T), [&] { return get<T>(); });
  }
  void end() const {
    if (at_ != bytes_.size()) {
      malformed(fmt::format("{} bytes after the end", bytes_.size() - at_), "none");
    }
  }
  [[noreturn]] void malformed(std::string found, std::string expected) const {
    refuse(Radius::kCluster, {fmt::format("a step plan of {} bytes at byte {}", bytes_.size(), at_), std::move(found),
                              std::move(expected), "start all ranks with the same program"});
  }

 private:
  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
};

}  // namespace

std::vector<std::byte> encoded(const StepPlan& plan) {
  Writer w;
  w.put(kVersion);
  w.put(plan.step);
  w.list(plan.starts, [&](const SequenceStart& start) {
    w.put(start.id);
    w.put(start.span.members);
    w.put(start.span.first_member);
    w.put(start.span.ring);
  });
  w.list(plan.encode, [&](const EncodeUnit& unit) {
    w.put(unit.id);
    w.put(unit.unit);
  });
  w.list(plan.chunks, [&](const Chunk& chunk) {
    w.put(chunk.id);
    w.put(chunk.first_token);
    w.put(chunk.tokens);
    w.list(chunk.new_pages);
    w.list(chunk.sampled);
    w.list(chunk.drawn_tokens);
  });
  w.list(plan.truncations, [&](const Truncation& truncation) {
    w.put(truncation.id);
    w.put(truncation.tokens);
  });
  w.list(plan.releases);
  w.put(static_cast<std::uint8_t>(plan.stop ? 1 : 0));
  return std::move(w.out);
}

StepPlan decoded(std::span<const std::byte> bytes) {
  Reader r(bytes);
  if (const auto version = r.get<std::uint64_t>(); version != kVersion) {
    r.malformed(fmt::format("version {:#x}", version), fmt::format("{:#x}", kVersion));
  }
  StepPlan plan;
  plan.step = r.get<std::uint64_t>();
  plan.starts = r.list<SequenceStart>(20, [&] {
    SequenceStart start;
    start.id = r.get<RequestId>();
    start.span.members = r.get<int>();
    start.span.first_member = r.get<int>();
    start.span.ring = r.get<int>();
    if (start.span.members < 1 || start.span.ring < start.span.members || start.span.first_member < 0 ||
        start.span.first_member >= start.span.ring) {
      r.malformed(fmt::format("a span of {} members from {} in a ring of {}", start.span.members, start.span.first_member,
                              start.span.ring), "members and first member inside the ring");
    }
    return start;
  });
  plan.encode = r.list<EncodeUnit>(12, [&] {
    EncodeUnit unit;
    unit.id = r.get<RequestId>();
    unit.unit = r.get<std::int32_t>();
    return unit;
  });
  plan.chunks = r.list<Chunk>(48, [&] {
    Chunk chunk;
    chunk.id = r.get<RequestId>();
    chunk.first_token = r.get<std::int64_t>();
    chunk.tokens = r.get<std::int64_t>();
    chunk.new_pages = r.list<std::int32_t>();
    chunk.sampled = r.list<std::int64_t>();
    chunk.drawn_tokens = r.list<std::int32_t>();
    if (chunk.first_token < 0 || chunk.tokens < 0) {
      r.malformed(fmt::format("a chunk of {} tokens from {}", chunk.tokens, chunk.first_token), "no negative numbers");
    }
    return chunk;
  });
  plan.truncations = r.list<Truncation>(16, [&] {
    Truncation truncation;
    truncation.id = r.get<RequestId>();
    truncation.tokens = r.get<std::int64_t>();
    return truncation;
  });
  plan.releases = r.list<RequestId>();
  plan.stop = r.flag();
  r.end();
  return plan;
}

}  // namespace zoetrope
