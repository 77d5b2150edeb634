#include "monitoring/trace.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "monitoring/log.h"

namespace zoetrope {
namespace {

constexpr std::array<std::string_view, static_cast<std::size_t>(TracePhase::kCount)> kNames{
    "start of MPI", "run",       "load",        "idle",         "plan",
    "step",         "grow",      "decode film", "encode",       "exchange features",
    "forward",      "attention", "ring",        "feed-forward", "dispatch",
    "experts",      "combine",   "hand-over",   "head",         "draw",
    "collect"};

std::string json_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace

std::string_view name_of(TracePhase phase) {
  check(phase < TracePhase::kCount, "a phase has a name");
  return kNames[static_cast<std::size_t>(phase)];
}

std::string described(const PhaseNote& note) {
  const auto [phase, index] = note.now();
  const bool known = phase >= 0 && phase < static_cast<std::int32_t>(TracePhase::kCount);
  std::string text = fmt::format("'{}'", known ? kNames[static_cast<std::size_t>(phase)] : "an unknown phase");
  if (index >= 0) {
    text += fmt::format(", layer {}", index);
  }
  const std::int64_t step = note.step();
  return text + (step < 0 ? ", before the first step" : fmt::format(", step {}", step));
}

std::uint64_t TraceRecorder::enter(TracePhase phase, std::int32_t index) {
  if (note_ == nullptr) {
    return 0;
  }
  if (phase == TracePhase::kStep) {
    note_->begin_step(std::exchange(index, -1));
  }
  // A phase without a layer of its own is of the layer around it.
  return note_->enter(static_cast<std::int32_t>(phase), index >= 0 ? index : note_->now().index);
}

void TraceRecorder::leave(std::uint64_t before) {
  if (note_ != nullptr) {
    note_->go_back(before);
  }
}

Traced::Traced(TraceRecorder* recorder, TracePhase phase, std::int32_t index)
    : recorder_(recorder),
      phase_(phase),
      index_(index),
      before_(recorder == nullptr ? 0 : recorder->enter(phase, index)),
      begin_ns_(recorder == nullptr || !recorder->keeps_spans() ? 0 : recorder->now_ns()) {}

Traced::~Traced() {
  if (recorder_ == nullptr) {
    return;
  }
  if (recorder_->keeps_spans()) {
    recorder_->add({phase_, index_, begin_ns_, recorder_->now_ns()});
  }
  recorder_->leave(before_);
}

TraceFile::TraceFile(const std::filesystem::path& file, std::span<const std::string> lanes)
    : name_(file.string()), out_(std::fopen(file.c_str(), "w")) {
  if (out_ == nullptr) {
    refuse(Radius::kStartup, {fmt::format("trace file {}", zoetrope::quoted(name_)), std::strerror(errno),
                              "a file that can be written", "name another one (--trace)"});
  }
  write(
      "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n"
      "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":1,\"args\":{\"name\":\"zoetrope\"}}");
  for (std::size_t rank = 0; rank < lanes.size(); ++rank) {
    write(fmt::format(",\n{{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":1,\"tid\":{},\"args\":{{\"name\":{}}}}}",
                      rank, json_text(lanes[rank])));
    write(fmt::format(
        ",\n{{\"ph\":\"M\",\"name\":\"thread_sort_index\",\"pid\":1,\"tid\":{},\"args\":{{\"sort_index\":{}}}}}", rank,
        rank));
  }
}

TraceFile::~TraceFile() {
  write("\n]}\n");
  if (out_ != nullptr && std::fclose(out_) != 0) {
    log::warning("trace_file_not_written", {{"file", name_}, {"cause", std::strerror(errno)}});
  }
}

void TraceFile::add(int rank, std::span<const TraceSpan> spans) {
  std::string text;
  for (const TraceSpan& span : spans) {
    text += fmt::format(",\n{{\"ph\":\"X\",\"name\":{},\"pid\":1,\"tid\":{},\"ts\":{:.3f},\"dur\":{:.3f}",
                        json_text(name_of(span.phase)), rank, static_cast<double>(span.begin_ns) / 1000,
                        static_cast<double>(span.end_ns - span.begin_ns) / 1000);
    text += span.index >= 0 ? fmt::format(",\"args\":{{\"index\":{}}}}}", span.index) : "}";
  }
  write(text);
}

void TraceFile::write(const std::string& text) {
  if (out_ == nullptr || std::fwrite(text.data(), 1, text.size(), out_) == text.size()) {
    return;
  }
  log::warning("trace_file_not_written", {{"file", name_}, {"cause", std::strerror(errno)}});
  std::fclose(out_);
  out_ = nullptr;
}

}  // namespace zoetrope
