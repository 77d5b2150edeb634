#include "runtime/media/frame_table.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/display.h>
}

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "monitoring/error.h"
#include "runtime/media/access_point.h"
#include "runtime/media/film_input.h"
#include "runtime/media/orientation.h"

namespace zoetrope {
namespace {

constexpr std::int64_t kFramesMax = std::int64_t{1} << 24;
constexpr std::int64_t kReorderMax = 64;        // frames; H.264 and HEVC allow 16, fields and pyramids stay below this
constexpr double kGapSecondsMax = 24 * 3600.0;  // between two frames; more is a broken time stamp
constexpr std::int64_t kAccessSpacing = 12;     // packets between two access points that are worth remembering
constexpr std::int64_t kHeadPacketsMax = 300;   // decoded to learn which pictures of a torn start come out
// A declared length may be that of the sound, or count the last frame; what differs by more is said.
constexpr double kLengthSlackSeconds = 15, kLengthSlackPart = 0.05;
constexpr double kFpsMax = 10000;
constexpr double kFpsBelievable = 0.1;  // of a header whose film has a broken clock

struct Shown {
  std::int64_t pts;
  std::int64_t packet;  // place in decoding order
};

// What one pass over the packets gathers.
struct Pass {
  std::vector<Shown> shown;
  std::vector<AccessPoint> points;  // `frame` not yet known
  std::int64_t packets = 0;
  std::int64_t unknown_times = 0;
  std::int64_t discarded = 0;  // by the container's edit list
  std::int64_t cut = 0;        // packets at the end that the container marks as incomplete
  bool odd = false;            // packets are not frames
  bool parameters_replaced = false;
  bool first_clean = false;
  std::string broken;
};

[[noreturn]] void refuse_film(const std::string& name, std::string found, std::string expected, std::string remedy) {
  refuse(Radius::kRequest, {.what = "film " + name,
                            .found = std::move(found),
                            .expected = std::move(expected),
                            .remedy = std::move(remedy)});
}

// Tells single fields from whole pictures of interlaced H.264, which only the parameter sets reveal.
class FieldParser {
 public:
  explicit FieldParser(const FilmInput& input) {
    if (input.coding().codec_id != AV_CODEC_ID_H264) {
      return;
    }
    parser_ = av_parser_init(AV_CODEC_ID_H264);
    codec_.reset(avcodec_alloc_context3(nullptr));
    if (parser_ != nullptr && codec_ != nullptr && avcodec_parameters_to_context(codec_.get(), &input.coding()) >= 0) {
      parser_->flags |= PARSER_FLAG_COMPLETE_FRAMES;
    }
  }
  ~FieldParser() { av_parser_close(parser_); }
  FieldParser(const FieldParser&) = delete;
  FieldParser& operator=(const FieldParser&) = delete;

  bool is_field(const AVPacket& packet) {
    if (parser_ == nullptr || codec_ == nullptr) {
      return false;
    }
    std::uint8_t* out = nullptr;
    int out_bytes = 0;
    av_parser_parse2(parser_, codec_.get(), &out, &out_bytes, packet.data, packet.size, packet.pts, packet.dts,
                     packet.pos);
    return parser_->picture_structure == AV_PICTURE_STRUCTURE_TOP_FIELD ||
           parser_->picture_structure == AV_PICTURE_STRUCTURE_BOTTOM_FIELD;
  }

 private:
  AVCodecParserContext* parser_ = nullptr;
  AvCodec codec_;
};

void take_packet(const AVPacket& packet, PacketReader& reader, FieldParser& fields, Pass& pass) {
  const std::int64_t place = pass.packets++;
  std::size_t bytes = 0;
  pass.parameters_replaced |=
      av_packet_get_side_data(&packet, AV_PKT_DATA_NEW_EXTRADATA, &bytes) != nullptr && place > 0;
  if (packet.size <= 0 || packet.data == nullptr) {
    return;  // AVI's "repeat the last picture": no picture comes out of it
  }
  const PacketFacts facts =
      reader.read({packet.data, static_cast<std::size_t>(packet.size)}, (packet.flags & AV_PKT_FLAG_KEY) != 0);
  pass.odd |= facts.odd || fields.is_field(packet);
  pass.cut = (packet.flags & AV_PKT_FLAG_CORRUPT) != 0 ? pass.cut + 1 : 0;
  if ((packet.flags & AV_PKT_FLAG_DISCARD) != 0) {
    ++pass.discarded;
    return;
  }
  if (!facts.shown) {
    return;
  }
  pass.unknown_times += packet.pts == AV_NOPTS_VALUE ? 1 : 0;
  pass.first_clean |= pass.shown.empty() && facts.clean;
  if (facts.clean && packet.pts != AV_NOPTS_VALUE &&
      (pass.points.empty() || place - pass.points.back().packet >= kAccessSpacing)) {
    pass.points.push_back({-1, place, packet.pts, packet.dts, packet.pos});
  }
  pass.shown.push_back({packet.pts, place});
}

Pass read_packets(FilmInput& input) {
  const AVCodecParameters& coding = input.coding();
  PacketReader reader(coding.codec_id,
                      {coding.extradata, static_cast<std::size_t>(std::max(coding.extradata_size, 0))});
  FieldParser fields(input);
  Pass pass;
  const AvPacket packet = make_packet();
  while (input.next(*packet)) {
    take_packet(*packet, reader, fields, pass);
    if (static_cast<std::int64_t>(pass.shown.size()) > kFramesMax) {
      refuse_film(input.name(), fmt::format("more than {} frames", kFramesMax), "fewer", "cut the film into parts");
    }
  }
  pass.broken = input.broken();
  return pass;
}

// Sorts into presentation order. False when the stamps cannot name frames: unknown, twice the same, or far from the
// order in which the pictures are decoded (a jump of the clock).
bool order_by_time(Pass& pass) {
  if (pass.unknown_times > 0 || pass.odd) {
    return false;
  }
  std::vector<Shown> sorted = pass.shown;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Shown& a, const Shown& b) { return a.pts < b.pts; });
  const auto decoding_rank = [&](const Shown& s) {
    return std::lower_bound(pass.shown.begin(), pass.shown.end(), s.packet,
                            [](const Shown& x, std::int64_t packet) { return x.packet < packet; }) -
           pass.shown.begin();
  };
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    if (i > 0 && sorted[i].pts == sorted[i - 1].pts) {
      return false;
    }
    if (std::abs(static_cast<std::int64_t>(i) - decoding_rank(sorted[i])) > kReorderMax) {
      return false;
    }
  }
  pass.shown = std::move(sorted);
  return true;
}

double rate_of(AVRational rate) {
  const double fps = rate.num > 0 && rate.den > 0 ? av_q2d(rate) : 0;
  return fps <= kFpsMax ? fps : 0;
}

double seconds_between(std::int64_t from, std::int64_t to, AVRational unit) {
  return static_cast<double>(static_cast<__int128>(to) - from) * unit.num / unit.den;
}

// True times since the first frame from stamps (in order); steps that cannot be true are replaced by one frame at
// `fps`.
void write_times(FrameTable& table, std::span<const std::int64_t> stamps, AVRational unit, double fps) {
  const double step = 1 / (fps > kFpsBelievable ? fps : 24);
  double shift = 0;  // seconds added because of replaced steps
  std::int64_t repaired = 0;
  for (std::size_t i = 0; i < stamps.size(); ++i) {
    double seconds = i == 0 ? 0 : table.frames[i - 1].seconds + step;
    if (i > 0 && stamps[i] != AV_NOPTS_VALUE && stamps[i - 1] != AV_NOPTS_VALUE) {
      const double gap = seconds_between(stamps[i - 1], stamps[i], unit);
      const double stamped = seconds_between(stamps[0], stamps[i], unit) + shift;
      if (gap >= 0 && gap <= kGapSecondsMax && stamps[0] != AV_NOPTS_VALUE) {
        seconds = std::max(stamped, table.frames[i - 1].seconds);
      } else {
        shift += seconds - stamped;
        ++repaired;
      }
    }
    table.frames[i].seconds = seconds;
  }
  if (repaired > 0) {
    table.notes.push_back(fmt::format("{} jump{} of the film's clock replaced by one frame's length", repaired,
                                      repaired == 1 ? "" : "s"));
  }
}

bool steady(const FrameTable& table, double fps, double tick) {
  const double slack = 0.5 / fps + tick;
  for (std::size_t i = 0; i < table.frames.size(); ++i) {
    if (std::abs(table.frames[i].seconds - static_cast<double>(i) / fps) > slack) {
      return false;
    }
  }
  return true;
}

// The rate with which index / fps is right for all frames, or the average and `variable`.
void settle_rate(FrameTable& table, const AVStream& stream) {
  const double declared = rate_of(stream.avg_frame_rate);
  const double tick = av_q2d(stream.time_base);
  const double last = table.frames.back().seconds;
  const double measured = last > 0 ? static_cast<double>(table.frames.size() - 1) / last : 0;
  for (const double fps : {declared, rate_of(stream.r_frame_rate), measured}) {
    if (fps > 0 && steady(table, fps, tick)) {
      table.fps = fps;
      return;
    }
  }
  table.variable = table.frames.size() > 1;
  table.fps = measured > 0 && !(std::abs(declared / measured - 1) < 0.02) ? measured : declared;
  if (declared > 0 && table.fps != declared) {
    table.notes.push_back(
        fmt::format("the header declares {:.3f} frames a second, the frames' times say {:.3f}", declared, table.fps));
  }
}

void place_access_points(FrameTable& table, const Pass& pass) {
  if (pass.parameters_replaced) {
    return;
  }
  // A picture decoded before the access point but shown after it would break the proof: compare with the latest so far.
  std::vector<Shown> decoded = pass.shown;
  std::sort(decoded.begin(), decoded.end(), [](const Shown& a, const Shown& b) { return a.packet < b.packet; });
  std::size_t next = 0;
  std::int64_t latest = std::numeric_limits<std::int64_t>::min();
  for (AccessPoint point : pass.points) {
    for (; next < decoded.size() && decoded[next].packet < point.packet; ++next) {
      latest = std::max(latest, decoded[next].pts);
    }
    const auto at = std::lower_bound(table.frames.begin(), table.frames.end(), point.pts,
                                     [](const FrameEntry& f, std::int64_t pts) { return f.pts < pts; });
    if (latest < point.pts && at != table.frames.end() && at->pts == point.pts) {
      point.frame = at - table.frames.begin();
      table.access_points.push_back(point);
    }
  }
}

// A film torn out of a recording may begin with pictures that refer to lost ones; the decoder leaves them out. Decodes
// the start and removes them. False when no picture comes out there.
bool remove_torn_head(FrameTable& table, FilmInput& input) {
  FilmDecoder decoder(input, 1);
  const AvPacket packet = make_packet();
  const AvFrame frame = make_frame();
  std::vector<std::int64_t> delivered;
  for (std::int64_t i = 0; i < kHeadPacketsMax && input.next(*packet); ++i) {
    decoder.send(packet.get());
    while (decoder.receive(*frame)) {
      delivered.push_back(frame->pts);
    }
  }
  if (delivered.empty()) {
    return false;
  }
  std::sort(delivered.begin(), delivered.end());
  const std::size_t before = table.frames.size();
  std::erase_if(table.frames, [&](const FrameEntry& f) {
    return f.pts < delivered.back() && !std::binary_search(delivered.begin(), delivered.end(), f.pts);
  });
  if (before != table.frames.size()) {
    table.notes.push_back(
        fmt::format("{} pictures at the start refer to pictures that the file does not hold: left out",
                    before - table.frames.size()));
  }
  return !table.frames.empty();
}

// Decodes the whole film to count what comes out. Slow, exact, and only for films whose packets cannot tell.
void count_by_decoding(FrameTable& table, const MediaSource& source, double fps) {
  FilmInput input(source);
  FilmDecoder decoder(input, 1);
  const AvPacket packet = make_packet();
  const AvFrame frame = make_frame();
  std::vector<std::int64_t> stamps;
  for (bool more = true; more;) {
    more = input.next(*packet);
    decoder.send(more ? packet.get() : nullptr);
    while (decoder.receive(*frame)) {
      stamps.push_back(frame->best_effort_timestamp);
    }
    if (static_cast<std::int64_t>(stamps.size()) > kFramesMax) {
      refuse_film(input.name(), fmt::format("more than {} frames", kFramesMax), "fewer", "cut the film into parts");
    }
  }
  table.counted = true;
  table.frames.clear();
  for (std::size_t i = 0; i < stamps.size(); ++i) {
    table.frames.push_back({static_cast<std::int64_t>(i), 0});
  }
  table.notes.push_back("the packets' time stamps do not name the frames: counted by decoding the whole film");
  write_times(table, stamps, input.video().time_base, fps);
}

void fill_by_time(FrameTable& table, const Pass& pass, const MediaSource& source, const AVStream& stream) {
  for (const Shown& shown : pass.shown) {
    table.frames.push_back({shown.pts, 0});
  }
  const bool torn = !pass.first_clean ||
                    pass.shown.front().packet !=
                        std::min_element(pass.shown.begin(), pass.shown.end(), [](const Shown& a, const Shown& b) {
                          return a.packet < b.packet;
                        })->packet;
  const AVCodecID codec = stream.codecpar->codec_id;
  const bool refers = codec == AV_CODEC_ID_H264 || codec == AV_CODEC_ID_HEVC || codec == AV_CODEC_ID_MPEG1VIDEO ||
                      codec == AV_CODEC_ID_MPEG2VIDEO || codec == AV_CODEC_ID_MPEG4;
  if (torn && refers) {
    FilmInput again(source);
    if (!remove_torn_head(table, again)) {
      count_by_decoding(table, source, rate_of(stream.avg_frame_rate));
      return;
    }
  }
  std::vector<std::int64_t> stamps;
  for (const FrameEntry& frame : table.frames) {
    stamps.push_back(frame.pts);
  }
  write_times(table, stamps, stream.time_base, rate_of(stream.avg_frame_rate));
  place_access_points(table, pass);
}

// The length that a header declares; that of the last frame's time when it declares none and FFmpeg has made one up.
double declared_seconds(const AVFormatContext& container, double otherwise) {
  return container.duration != AV_NOPTS_VALUE && container.duration_estimation_method == AVFMT_DURATION_FROM_STREAM
             ? static_cast<double>(container.duration) / AV_TIME_BASE
             : otherwise;
}

void note_oddities(FrameTable& table, const FilmInput& input, const Pass& pass) {
  const AVStream& stream = input.video();
  const auto note = [&](std::string text) { table.notes.push_back(std::move(text)); };
  if (!pass.broken.empty()) {
    note(fmt::format("the file cannot be read further after {} packets ({}): what comes before is used", pass.packets,
                     pass.broken));
  } else if (stream.nb_frames > pass.packets) {
    note(fmt::format("the header declares {} frames, the file holds {}: it was probably cut", stream.nb_frames,
                     pass.packets));
  } else if (const double found = table.frames.back().seconds, declared = declared_seconds(input.container(), found);
             std::abs(declared - found) > kLengthSlackSeconds + kLengthSlackPart * found) {
    note(fmt::format("the header declares {:.3g} seconds, the last frame is shown at {:.3g}: the frames are believed",
                     declared, found));
  }
  if (pass.discarded > 0) {
    note(fmt::format("{} frames are outside the container's edit list: left out", pass.discarded));
  }
  if (input.other_video_streams() > 0) {
    note(fmt::format("the first of {} video streams is used", input.other_video_streams() + 1));
  }
  const AVRational shape =
      stream.sample_aspect_ratio.num > 0 ? stream.sample_aspect_ratio : input.coding().sample_aspect_ratio;
  if (shape.num > 0 && shape.den > 0 && shape.num != shape.den) {
    note(fmt::format("pixels are {}:{}: not stretched, as in the reference", shape.num, shape.den));
  }
}

void read_orientation(FrameTable& table, const AVStream& stream) {
  std::size_t bytes = 0;
  const std::uint8_t* data = av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, &bytes);
  if (data == nullptr || bytes < 9 * sizeof(std::int32_t)) {
    return;
  }
  std::int32_t matrix[9];
  std::memcpy(matrix, data, sizeof matrix);
  if (const auto orientation = matrix_orientation(matrix)) {
    table.orientation = *orientation;
  } else {
    table.notes.push_back(fmt::format("the film asks for turning by {:.1f} degrees, no quarter turn: not done",
                                      -av_display_rotation_get(matrix)));
  }
}

}  // namespace

bool FrameTable::starts_behind(std::int64_t previous, std::int64_t index) const {
  const auto after = std::upper_bound(access_points.begin(), access_points.end(), previous,
                                      [](std::int64_t i, const AccessPoint& p) { return i < p.frame; });
  return after != access_points.end() && after->frame <= index;
}

double FrameTable::duration_seconds() const {
  return frames.empty() ? 0 : frames.back().seconds + (fps > 0 ? 1 / fps : 0);
}

FrameTable read_frame_table(const MediaSource& source) {
  FilmInput input(source);
  const AVStream& stream = input.video();
  FrameTable table;
  table.width = input.coding().width;
  table.height = input.coding().height;
  table.stream = stream.index;
  table.format = input.container().iformat->name;
  table.codec = avcodec_get_name(input.coding().codec_id);
  Pass pass = read_packets(input);
  table.packets = pass.packets;
  for (; pass.cut > 0 && !pass.shown.empty() && pass.shown.back().packet >= pass.packets - pass.cut;
       pass.shown.pop_back()) {
    table.notes.push_back("the last packet is cut off: left out");
  }
  const bool any = !pass.shown.empty();
  if (any && order_by_time(pass)) {
    fill_by_time(table, pass, source, stream);
  } else if (any) {
    count_by_decoding(table, source, rate_of(stream.avg_frame_rate));
  }
  if (table.frames.empty()) {
    refuse_film(source.name,
                fmt::format("{} packets and no picture in them{}", pass.packets,
                            pass.broken.empty() ? "" : " (" + pass.broken + ")"),
                "at least 2 frames",
                "check that the file is complete; a recording may have been stopped before it was finished");
  }
  read_orientation(table, stream);
  note_oddities(table, input, pass);
  settle_rate(table, stream);
  return table;
}

}  // namespace zoetrope
