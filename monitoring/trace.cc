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
    "plan", "step",         "grow",        "decode film", "encode",  "exchange features", "forward", "attention",
    "ring", "feed-forward", "dispatch",    "experts", "combine",           "hand-over", "head",    "draw"};

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
