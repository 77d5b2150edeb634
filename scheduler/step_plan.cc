#include "scheduler/step_plan.h"

#include <fmt/format.h>

#include "monitoring/wire.h"

namespace zoetrope {
namespace {

constexpr std::uint64_t kVersion = 0x5a504c414e303034;  // "ZPLAN004"

void put_span(WireWriter& w, const Span& span) {
  w.put(span.members);
  w.put(span.first_member);
  w.put(span.ring);
}

Span get_span(WireReader& r) {
  Span span;
  span.members = r.get<int>();
  span.first_member = r.get<int>();
  span.ring = r.get<int>();
  if (span.members < 1 || span.ring < span.members || span.first_member < 0 || span.first_member >= span.ring) {
    r.malformed(fmt::format("a span of {} members from {} in a ring of {}", span.members, span.first_member, span.ring),
                "members and first member inside the ring");
  }
  return span;
}

void put_units(WireWriter& w, const std::vector<EncodeUnit>& units) {
  w.put_list(units, [&](const EncodeUnit& unit) {
    w.put(unit.id);
    w.put(unit.unit);
    w.put(unit.rank);
  });
}

std::vector<EncodeUnit> get_units(WireReader& r) {
  return r.get_list(16, [&] {
    EncodeUnit unit;
    unit.id = r.get<RequestId>();
    unit.unit = r.get<std::int32_t>();
    unit.rank = r.get<std::int32_t>();
    return unit;
  });
}

SequenceStart get_start(WireReader& r) {
  SequenceStart start;
  start.id = r.get<RequestId>();
  start.span = get_span(r);
  start.cached_tokens = r.get<std::int64_t>();
  start.pages = r.get_list<std::int32_t>();
  start.copied_page = r.get<std::int32_t>();
  const auto pages = static_cast<std::int64_t>(start.pages.size());
  if (start.cached_tokens < 0 || start.cached_tokens > pages * kPageRows ||
      start.cached_tokens <= (pages - 1) * kPageRows ||
      (start.copied_page >= 0) != (start.cached_tokens % kPageRows != 0)) {
    r.malformed(
        fmt::format("a start with {} tokens in {} pages, {} copied", start.cached_tokens, pages, start.copied_page),
        "as many pages as hold the tokens, a copied one where they end inside a page");
  }
  return start;
}

Chunk get_chunk(WireReader& r) {
  Chunk chunk;
  chunk.id = r.get<RequestId>();
  chunk.first_token = r.get<std::int64_t>();
  chunk.tokens = r.get<std::int64_t>();
  chunk.new_pages = r.get_list<std::int32_t>();
  chunk.sampled = r.get_list<std::int64_t>();
  chunk.drawn_tokens = r.get_list<std::int32_t>();
  chunk.wave = r.get<int>();
  if (chunk.first_token < 0 || chunk.tokens < 0 || chunk.wave < 0) {
    r.malformed(fmt::format("a chunk of {} tokens from {} in wave {}", chunk.tokens, chunk.first_token, chunk.wave),
                "no negative numbers");
  }
  return chunk;
}

}  // namespace

std::vector<std::byte> encoded(const StepPlan& plan) {
  WireWriter w;
  w.put(kVersion);
  w.put(plan.step);
  w.put_list(plan.starts, [&](const SequenceStart& start) {
    w.put(start.id);
    put_span(w, start.span);
    w.put(start.cached_tokens);
    w.put_list(start.pages);
    w.put(start.copied_page);
  });
  w.put_list(plan.growths, [&](const Growth& growth) {
    w.put(growth.id);
    put_span(w, growth.span);
    w.put_list(growth.pages);
  });
  put_units(w, plan.ahead);
  put_units(w, plan.encode);
  w.put(static_cast<std::uint8_t>(plan.frames));
  w.put_list(plan.chunks, [&](const Chunk& chunk) {
    w.put(chunk.id);
    w.put(chunk.first_token);
    w.put(chunk.tokens);
    w.put_list(chunk.new_pages);
    w.put_list(chunk.sampled);
    w.put_list(chunk.drawn_tokens);
    w.put(chunk.wave);
  });
  w.put_list(plan.truncations, [&](const Truncation& truncation) {
    w.put(truncation.id);
    w.put(truncation.tokens);
  });
  w.put_list(plan.releases);
  w.put(static_cast<std::uint8_t>(plan.stop ? 1 : 0));
  return w.take();
}

StepPlan decoded(std::span<const std::byte> bytes) {
  WireReader r(bytes, "a step plan");
  if (const auto version = r.get<std::uint64_t>(); version != kVersion) {
    r.malformed(fmt::format("version {:#x}", version), fmt::format("{:#x}", kVersion));
  }
  StepPlan plan;
  plan.step = r.get<std::uint64_t>();
  plan.starts = r.get_list(40, [&] { return get_start(r); });
  plan.growths = r.get_list(28, [&] {
    Growth growth;
    growth.id = r.get<RequestId>();
    growth.span = get_span(r);
    growth.pages = r.get_list<std::int32_t>();
    return growth;
  });
  plan.ahead = get_units(r);
  plan.encode = get_units(r);
  const auto frames = r.get<std::uint8_t>();
  if (frames > static_cast<std::uint8_t>(FramesWanted::kNow)) {
    r.malformed(fmt::format("frames wanted as {}", frames), "0, 1 or 2");
  }
  plan.frames = static_cast<FramesWanted>(frames);
  plan.chunks = r.get_list(52, [&] { return get_chunk(r); });
  plan.truncations = r.get_list(16, [&] {
    Truncation truncation;
    truncation.id = r.get<RequestId>();
    truncation.tokens = r.get<std::int64_t>();
    return truncation;
  });
  plan.releases = r.get_list<RequestId>();
  plan.stop = r.get_flag();
  r.end();
  return plan;
}

}  // namespace zoetrope
