#include "runtime/media/film_reader.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
}

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "runtime/media/film_input.h"
#include "runtime/media/frame_picture.h"
#include "runtime/media/orientation.h"

namespace zoetrope {
namespace {

// Packets to pass over before the container's index is asked; below, reading on is cheaper and needs no trust.
constexpr std::int64_t kSeekPackets = 600;
constexpr std::size_t kDamageMax = 4096;

}  // namespace

// Where decoding stands: the open film, the decoder, the next packet's place, the next frame's number.
class FilmReader::Run {
 public:
  Run(const MediaSource& source, const FrameTable& table, FilmReaderSettings settings)
      : source_(source),
        table_(table),
        settings_(std::move(settings)),
        picture_(settings_.height, settings_.width, settings_.rotate ? table.orientation : kUpright),
        packet_(make_packet()),
        frame_(make_frame()) {
    check(settings_.height > 0 && settings_.width > 0, "resized sides are positive");
    check(std::is_sorted(settings_.expected.begin(), settings_.expected.end()), "expected frames rise");
    restart();
    counts.restarts = 0;
  }

  void read(std::int64_t index, std::span<std::uint8_t> rgb, const std::stop_token& stop) {
    stop_ = stop;
    check(index >= 0 && index < static_cast<std::int64_t>(table_.frames.size()), "a frame of the table");
    check_eq(rgb.size(), static_cast<std::size_t>(settings_.height) * static_cast<std::size_t>(settings_.width) * 3,
             "bytes of the resized frame");
    if (index != held_index_) {
      held_index_ = -1;
      if (!(table_.counted ? find_counted(index) : find_by_time(index))) {
        refuse_frame(index, complaint_.empty() ? "no picture from the decoder"
                                               : "the decoder's complaint \"" + complaint_ + "\"");
      }
      deliver(index);
    }
    std::copy(held_.begin(), held_.end(), rgb.begin());
  }

  FilmReaderCounts counts;

 private:
  // Frame k is the k-th that comes out.
  bool find_counted(std::int64_t index) {
    if (index < delivered_) {
      restart();
    }
    for (;;) {
      while (decoder_->receive(*frame_)) {
        note_damage();
        if (delivered_++ == index) {
          return true;
        }
      }
      if (!send_next(true)) {
        return false;
      }
    }
  }

  // Tries from where decoding stands, then from the nearest proven start, then from the film's start, the last two
  // without leaving out pictures.
  bool find_by_time(std::int64_t index) {
    const AccessPoint* point = point_for(index);
    skip_unneeded_ = !settings_.expected.empty();
    if (index < passed_before_) {
      restart();
    }
    if (point != nullptr && point->packet > place_) {
      jump(*point);
    }
    if (receive_until(index)) {
      return true;
    }
    skip_unneeded_ = false;
    restart();
    if (point != nullptr && point->packet > 0) {
      jump(*point);
      if (receive_until(index)) {
        return true;
      }
      restart();
    }
    return receive_until(index);
  }

  const AccessPoint* point_for(std::int64_t index) const {
    const auto after = std::upper_bound(table_.access_points.begin(), table_.access_points.end(), index,
                                        [](std::int64_t i, const AccessPoint& p) { return i < p.frame; });
    return after == table_.access_points.begin() ? nullptr : &*std::prev(after);
  }

  bool receive_until(std::int64_t index) {
    const std::int64_t wanted = pts_of(index);
    passed_before_ = index + 1;
    for (;;) {
      while (decoder_->receive(*frame_)) {
        note_damage();
        if (frame_->pts == wanted) {
          return true;
        }
        if (frame_->pts != AV_NOPTS_VALUE && frame_->pts > wanted) {
          return false;
        }
      }
      if (!send_next(!skip_unneeded_)) {
        return false;
      }
    }
  }

  // One more packet into the decoder, at the end its farewell; false when that was already said.
  bool send_next(bool all_needed) {
    if (drained_) {
      return false;
    }
    if (stop_.stop_requested()) {
      refuse(Radius::kRequest, {.what = "film " + source_.name,
                                .found = "reading was stopped",
                                .expected = "a reader for its frames",
                                .remedy = "ask again"});
    }
    if (!input_->next(*packet_)) {
      drained_ = true;
      decoder_->send(nullptr);
      return true;
    }
    ++place_;
    ++counts.packets_decoded;
    const std::int64_t number = table_.counted ? delivered_ : index_of(packet_->pts);
    const bool needed = all_needed || std::binary_search(settings_.expected.begin(), settings_.expected.end(), number);
    // What a container's edit list hides is decoded, as others may refer to it, and never comes out.
    if (packet_->size > 0 && !decoder_->send(packet_.get(), needed)) {
      add_damage(packet_->pts);
    }
    if (std::string complaint = decoder_->take_complaint(); !complaint.empty()) {
      complaint_ = std::move(complaint);
    }
    return true;
  }

  void note_damage() {
    if ((frame_->flags & AV_FRAME_FLAG_CORRUPT) != 0 || frame_->decode_error_flags != 0) {
      add_damage(frame_->pts);
    }
  }

  // Pictures that are not in the table (a torn start) were never promised.
  void add_damage(std::int64_t pts) {
    const std::int64_t number = table_.counted ? delivered_ : index_of(pts);
    const bool promised =
        number < static_cast<std::int64_t>(table_.frames.size()) && (table_.counted || pts_of(number) == pts);
    if (promised && damaged_.size() < kDamageMax) {
      damaged_.insert(number);
    }
  }

  // Damage spreads until the next proven start.
  void check_damage(std::int64_t index) {
    const AccessPoint* point = point_for(index);
    damaged_.erase(damaged_.begin(), damaged_.lower_bound(point == nullptr ? 0 : point->frame));
    if (damaged_.empty() || *damaged_.begin() > index) {
      return;
    }
    const std::string reason = complaint_.empty() ? "" : " (" + complaint_ + ")";
    refuse_frame(index, damaged_.contains(index)
                            ? "damaged data" + reason
                            : fmt::format("damaged data since frame {}{}", *damaged_.begin(), reason));
  }

  void deliver(std::int64_t index) {
    check_damage(index);
    if (frame_->width != table_.width || frame_->height != table_.height) {
      refuse_frame(index, fmt::format("{} x {} pixels where the film began with {} x {}", frame_->width, frame_->height,
                                      table_.width, table_.height));
    }
    held_.resize(static_cast<std::size_t>(settings_.height) * static_cast<std::size_t>(settings_.width) * 3);
    const std::string wrong = picture_.write(*frame_, held_);
    if (!wrong.empty()) {
      refuse_frame(index, wrong);
    }
    held_index_ = index;
  }

  [[noreturn]] void refuse_frame(std::int64_t index, std::string found) const {
    refuse(Radius::kRequest,
           {.what = fmt::format("film {}: frame {} at {:.3f} seconds", source_.name, index,
                                table_.frames[static_cast<std::size_t>(index)].seconds),
            .found = std::move(found),
            .expected = "a picture that decodes without loss",
            .remedy = "use video_start and video_end to leave this part out, or repair or convert the film"});
  }

  void restart() {
    decoder_.reset();
    input_.reset();
    input_.emplace(source_);
    if (input_->video().index != table_.stream || input_->coding().width != table_.width ||
        input_->coding().height != table_.height) {
      refuse(Radius::kRequest, {.what = "film " + source_.name,
                                .found = "another film than when it was planned",
                                .expected = "an unchanged file",
                                .remedy = "do not write to media files while they are being read"});
    }
    decoder_.emplace(*input_, settings_.threads);
    place_ = 0;
    delivered_ = 0;
    passed_before_ = 0;
    drained_ = false;
    damaged_.clear();
    complaint_.clear();
    ++counts.restarts;
  }

  // Continues decoding at `point`, which lies ahead. A decoder that has seen nothing yet gets the first packet before:
  // some streams name their encoder there, and the decoder works around that encoder's faults from then on.
  void jump(const AccessPoint& point) {
    if (place_ == 0 && point.packet > 0) {
      send_next(true);
      while (decoder_->receive(*frame_)) {
      }
    }
    if (!pass_to(point)) {
      return;
    }
    decoder_->flush();
    drained_ = false;
    damaged_.clear();
    ++counts.jumps;
    ++place_;
    ++counts.packets_decoded;
    decoder_->send(packet_.get());
  }

  // Reads packets away until `packet_` holds that of `point`. False: it was not found; the film stands at its start
  // again.
  bool pass_to(const AccessPoint& point) {
    if (point.packet - place_ >= kSeekPackets && seek_to(point)) {
      return true;
    }
    while (input_->next(*packet_)) {
      if (place_ == point.packet) {
        if (packet_->pts == point.pts && packet_->dts == point.dts) {
          return true;
        }
        break;
      }
      ++place_;
      ++counts.packets_passed;
    }
    restart();
    return false;
  }

  bool seek_to(const AccessPoint& point) {
    const std::int64_t stamp = point.dts != AV_NOPTS_VALUE ? point.dts : point.pts;
    if (point.offset_bytes >= 0 && input_->seek(stamp)) {
      while (input_->next(*packet_)) {
        // Same place in the file and same time: the same packet. Its dts may be unknown right after a seek.
        if (packet_->pts == point.pts && packet_->pos == point.offset_bytes) {
          place_ = point.packet;
          ++counts.seeks;
          return true;
        }
        ++counts.packets_passed;
        if (packet_->pos < 0 || packet_->pos >= point.offset_bytes) {
          break;
        }
      }
    }
    restart();
    return false;
  }

  std::int64_t pts_of(std::int64_t index) const { return table_.frames[static_cast<std::size_t>(index)].pts; }

  // The frame shown at `pts`, or the one after it.
  std::int64_t index_of(std::int64_t pts) const {
    return std::lower_bound(table_.frames.begin(), table_.frames.end(), pts,
                            [](const FrameEntry& f, std::int64_t p) { return f.pts < p; }) -
           table_.frames.begin();
  }

  const MediaSource source_;
  const FrameTable& table_;
  const FilmReaderSettings settings_;
  FramePicture picture_;
  AvPacket packet_;
  AvFrame frame_;
  std::optional<FilmInput> input_;
  std::optional<FilmDecoder> decoder_;
  std::int64_t place_ = 0;          // of the packet that next() gives
  std::int64_t delivered_ = 0;      // frames out of the decoder (counted films)
  std::int64_t passed_before_ = 0;  // frames below this were delivered or can no longer come
  bool drained_ = false;
  bool skip_unneeded_ = false;
  std::set<std::int64_t> damaged_;  // frames whose data the decoder could not follow
  std::string complaint_;
  std::stop_token stop_;
  std::int64_t held_index_ = -1;
  std::vector<std::uint8_t> held_;  // the frame read last
};

FilmReader::FilmReader(const MediaSource& source, const FrameTable& table, FilmReaderSettings settings)
    : run_(std::make_unique<Run>(source, table, std::move(settings))) {}

FilmReader::FilmReader(const MediaSource& source, const FrameTable& table, int height, int width, bool rotate)
    : FilmReader(source, table, FilmReaderSettings{.height = height, .width = width, .rotate = rotate}) {}

FilmReader::~FilmReader() = default;

void FilmReader::read(std::int64_t index, std::span<std::uint8_t> rgb, const std::stop_token& stop) {
  run_->read(index, rgb, stop);
}

const FilmReaderCounts& FilmReader::counts() const { return run_->counts; }

}  // namespace zoetrope
