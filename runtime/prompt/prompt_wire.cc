// A Prompt on its way to the other ranks.
#include "monitoring/wire.h"
#include "runtime/prompt/prompt.h"

namespace zoetrope {
namespace {

void put_report(WireWriter& w, const MediaReport& report) {
  w.put_text(report.kind);
  w.put_text(report.file);
  w.put(report.source_frames);
  w.put(report.source_fps);
  w.put(report.source_height);
  w.put(report.source_width);
  w.put(report.frames_used);
  w.put(report.fps_used);
  w.put(report.seconds_first);
  w.put(report.seconds_last);
  w.put(report.resized_height);
  w.put(report.resized_width);
  w.put(report.tokens);
  w.put_list(report.notes, [&](const std::string& note) { w.put_text(note); });
}

MediaReport get_report(WireReader& r) {
  MediaReport report;
  report.kind = r.get_text();
  report.file = r.get_text();
  report.source_frames = r.get<std::int64_t>();
  report.source_fps = r.get<double>();
  report.source_height = r.get<int>();
  report.source_width = r.get<int>();
  report.frames_used = r.get<std::int64_t>();
  report.fps_used = r.get<double>();
  report.seconds_first = r.get<double>();
  report.seconds_last = r.get<double>();
  report.resized_height = r.get<int>();
  report.resized_width = r.get<int>();
  report.tokens = r.get<std::int64_t>();
  report.notes = r.get_list(8, [&] { return r.get_text(); });
  return report;
}

void put_source(WireWriter& w, const MediaSource& source) {
  w.put_text(source.name);
  w.put_text(source.path.string());
  w.put(static_cast<std::uint8_t>(source.bytes ? 1 : 0));
  if (source.bytes) {
    w.put_list(*source.bytes);
  }
}

MediaSource get_source(WireReader& r) {
  MediaSource source;
  source.name = r.get_text();
  source.path = r.get_text();
  if (r.get_flag()) {
    source.bytes = std::make_shared<const std::vector<std::byte>>(r.get_list<std::byte>());
  }
  return source;
}

void put_medium(WireWriter& w, const Medium& medium) {
  w.put(medium.kind);
  w.put_list(medium.sources, [&](const MediaSource& source) { put_source(w, source); });
  w.put(medium.resized_height);
  w.put(medium.resized_width);
  w.put(medium.grid);
  w.put_list(medium.frames);
  w.put(static_cast<std::uint8_t>(medium.rotate ? 1 : 0));
  put_report(w, medium.report);
}

Medium get_medium(WireReader& r) {
  Medium medium;
  medium.kind = r.get<Medium::Kind>();
  medium.sources = r.get_list(17, [&] { return get_source(r); });
  medium.resized_height = r.get<int>();
  medium.resized_width = r.get<int>();
  medium.grid = r.get<Grid>();
  medium.frames = r.get_list<std::int64_t>();
  medium.rotate = r.get_flag();
  medium.report = get_report(r);
  return medium;
}

}  // namespace

std::vector<std::byte> encoded(const Prompt& prompt) {
  WireWriter w;
  w.put_list(prompt.tokens);
  w.put_list(prompt.positions);
  w.put(prompt.rope_delta);
  w.put_list(prompt.media, [&](const Medium& medium) { put_medium(w, medium); });
  w.put_list(prompt.units);
  return w.take();
}

Prompt decoded_prompt(std::span<const std::byte> bytes) {
  WireReader r(bytes, "a prompt");
  Prompt prompt;
  prompt.tokens = r.get_list<TokenId>();
  prompt.positions = r.get_list<Position>();
  prompt.rope_delta = r.get<std::int64_t>();
  prompt.media = r.get_list(100, [&] { return get_medium(r); });
  prompt.units = r.get_list<VisualUnit>();
  r.end();
  if (prompt.positions.size() != prompt.tokens.size()) {
    r.malformed(fmt::format("{} positions", prompt.positions.size()),
                fmt::format("{}, one for each token", prompt.tokens.size()));
  }
  for (const VisualUnit& unit : prompt.units) {
    if (unit.medium < 0 || static_cast<std::size_t>(unit.medium) >= prompt.media.size()) {
      r.malformed(fmt::format("a unit of medium {}", unit.medium), fmt::format("one of {} media", prompt.media.size()));
    }
  }
  return prompt;
}

}  // namespace zoetrope
