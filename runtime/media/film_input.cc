#include "runtime/media/film_input.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/log.h>
}

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <utility>

#include "monitoring/error.h"
#include "runtime/media/picture.h"

namespace zoetrope {
namespace {

// Containers that hold one film each. Playlists (HLS, DASH, concat, SDP, image patterns) are not among them: they would
// make the demuxer open other files.
constexpr const char* kFormats =
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,ogg,asf,rm,mxf,nut,ivf,h264,hevc,av1,obu,"
    "vc1,dv,wtv,gxf,gif,yuv4mpegpipe";
constexpr const char* kFormatsForPeople = "MP4/MOV, Matroska/WebM, AVI, MPEG-TS/PS, FLV, Ogg, ASF/WMV, MXF and similar";
constexpr std::size_t kAllocationBytesMax = std::size_t{1} << 30;
constexpr int kIoBytes = 1 << 16;
constexpr int kErrorsMax = 1000;  // of one decoder in a row
// A demuxer that seeks back and forth for ever (looping indices) stops when it has read this much.
constexpr std::int64_t kReadsPerByte = 64;
constexpr std::int64_t kReadsExtra = std::int64_t{1} << 30;

void prepare_libraries() {
  static const bool done = [] {
    av_log_set_callback([](void*, int, const char*, va_list) {});
    av_max_alloc(kAllocationBytesMax);
    return true;
  }();
  (void)done;
}

[[noreturn]] void refuse_film(const std::string& name, std::string found, std::string expected, std::string remedy) {
  refuse(Radius::kRequest, {.what = "film " + name,
                            .found = std::move(found),
                            .expected = std::move(expected),
                            .remedy = std::move(remedy)});
}

int refuse_open(AVFormatContext*, AVIOContext** io, const char*, int, AVDictionary**) {
  *io = nullptr;
  return AVERROR(EACCES);
}

}  // namespace

void AvDelete::operator()(AVCodecContext* codec) const { avcodec_free_context(&codec); }
void AvDelete::operator()(AVFrame* frame) const { av_frame_free(&frame); }
void AvDelete::operator()(AVPacket* packet) const { av_packet_free(&packet); }

AvFrame make_frame() {
  AvFrame frame(av_frame_alloc());
  return frame != nullptr ? std::move(frame) : throw std::bad_alloc();
}

AvPacket make_packet() {
  AvPacket packet(av_packet_alloc());
  return packet != nullptr ? std::move(packet) : throw std::bad_alloc();
}

std::string av_reason(int error) {
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(error, text, sizeof text);
  return text;
}

struct FilmInput::Io {
  explicit Io(const MediaSource& source) : reader(source) {
    budget_bytes = reader.size_bytes() > (INT64_MAX - kReadsExtra) / kReadsPerByte
                       ? INT64_MAX
                       : reader.size_bytes() * kReadsPerByte + kReadsExtra;
    auto* buffer = static_cast<unsigned char*>(av_malloc(kIoBytes));
    context = buffer == nullptr ? nullptr : avio_alloc_context(buffer, kIoBytes, 0, this, read, nullptr, seek);
    if (context == nullptr) {
      av_free(buffer);
      throw std::bad_alloc();
    }
  }
  ~Io() {
    av_freep(&context->buffer);
    avio_context_free(&context);
  }
  Io(const Io&) = delete;
  Io& operator=(const Io&) = delete;

  static int read(void* opaque, std::uint8_t* out, int n) {
    auto* io = static_cast<Io*>(opaque);
    const std::int64_t got =
        io->reader.read(io->at, std::as_writable_bytes(std::span(out, static_cast<std::size_t>(std::max(n, 0)))));
    if (got <= 0 || got > io->budget_bytes) {
      return got == 0 ? AVERROR_EOF : AVERROR(EIO);
    }
    io->at += got;
    io->budget_bytes -= got;
    return static_cast<int>(got);
  }

  static std::int64_t seek(void* opaque, std::int64_t offset, int whence) {
    auto* io = static_cast<Io*>(opaque);
    const std::int64_t size = io->reader.size_bytes();
    if ((whence & AVSEEK_SIZE) != 0) {
      return size;
    }
    whence &= ~AVSEEK_FORCE;
    const std::int64_t base = whence == SEEK_CUR ? io->at : whence == SEEK_END ? size : 0;
    std::int64_t to = 0;
    if (__builtin_add_overflow(base, offset, &to) || to < 0) {
      return AVERROR(EINVAL);
    }
    return io->at = to;
  }

  SourceReader reader;
  std::int64_t at = 0;
  std::int64_t budget_bytes = 0;
  AVIOContext* context = nullptr;
};

FilmInput::FilmInput(const MediaSource& source) : name_(source.name) {
  prepare_libraries();
  io_ = std::make_unique<Io>(source);
  container_ = avformat_alloc_context();
  if (container_ == nullptr) {
    throw std::bad_alloc();
  }
  container_->pb = io_->context;
  container_->flags |= AVFMT_FLAG_CUSTOM_IO;
  container_->io_open = refuse_open;
  AVDictionary* options = nullptr;
  av_dict_set(&options, "format_whitelist", kFormats, 0);
  av_dict_set(&options, "protocol_whitelist", "none", 0);
  const int opened = avformat_open_input(&container_, nullptr, nullptr, &options);  // frees and clears it on failure
  av_dict_free(&options);
  if (opened < 0) {
    container_ = nullptr;
    refuse_film(name_, "a file that the film readers cannot open (" + av_reason(opened) + ")",
                std::string("a film: ") + kFormatsForPeople,
                "check that the file is complete and no playlist, or convert it to MP4");
  }
  try {
    choose_stream();
  } catch (...) {
    avformat_close_input(&container_);
    throw;
  }
}

FilmInput::~FilmInput() { avformat_close_input(&container_); }

void FilmInput::choose_stream() {
  const int found = avformat_find_stream_info(container_, nullptr);
  std::string kinds;
  for (unsigned i = 0; i < container_->nb_streams; ++i) {
    AVStream& stream = *container_->streams[i];
    const bool film =
        stream.codecpar->codec_type == AVMEDIA_TYPE_VIDEO && (stream.disposition & AV_DISPOSITION_ATTACHED_PIC) == 0;
    stream.discard = film && stream_ < 0 ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
    if (film) {
      other_video_streams_ += stream_ >= 0 ? 1 : 0;
      stream_ = stream_ < 0 ? static_cast<int>(i) : stream_;
    } else if (i < 8) {
      const char* kind = av_get_media_type_string(stream.codecpar->codec_type);
      kinds += fmt::format("{}{}", kinds.empty() ? "" : ", ",
                           (stream.disposition & AV_DISPOSITION_ATTACHED_PIC) != 0 ? "cover picture"
                           : kind == nullptr                                       ? "unknown"
                                                                                   : kind);
    }
  }
  if (stream_ < 0) {
    refuse_film(name_,
                fmt::format("{} stream{}{}{}", container_->nb_streams, container_->nb_streams == 1 ? "" : "s",
                            kinds.empty() ? "" : ": ", kinds),
                "a video stream", "give a file that shows pictures");
  }
  const AVCodecParameters& parameters = coding();
  if (found < 0 || parameters.width <= 0 || parameters.height <= 0 ||
      avcodec_find_decoder(parameters.codec_id) == nullptr) {
    refuse_film(name_,
                fmt::format("a video stream of codec {} with {} x {} pixels", avcodec_get_name(parameters.codec_id),
                            parameters.width, parameters.height),
                "a codec with a decoder, and a size", "convert the film to H.264 in MP4");
  }
  check_picture_size("film " + name_, parameters.height, parameters.width);
}

const AVFormatContext& FilmInput::container() const { return *container_; }
AVStream& FilmInput::video() const { return *container_->streams[stream_]; }
const AVCodecParameters& FilmInput::coding() const { return *video().codecpar; }

bool FilmInput::next(AVPacket& packet) {
  for (;;) {
    av_packet_unref(&packet);
    const int got = av_read_frame(container_, &packet);
    if (got < 0) {
      broken_ = got == AVERROR_EOF ? broken_ : av_reason(got);
      return false;
    }
    if (packet.stream_index == stream_) {
      return true;
    }
  }
}

bool FilmInput::seek(std::int64_t dts) { return av_seek_frame(container_, stream_, dts, AVSEEK_FLAG_BACKWARD) >= 0; }

FilmDecoder::FilmDecoder(const FilmInput& input, int threads) {
  const AVCodecParameters& parameters = input.coding();
  const AVCodec* decoder = avcodec_find_decoder(parameters.codec_id);
  codec_.reset(decoder == nullptr ? nullptr : avcodec_alloc_context3(decoder));
  int opened = codec_ == nullptr ? AVERROR(ENOMEM) : avcodec_parameters_to_context(codec_.get(), &parameters);
  if (opened >= 0) {
    codec_->pkt_timebase = input.video().time_base;
    codec_->thread_count = std::clamp(threads, 1, 64);
    codec_->max_pixels = kPicturePixelsMax;
    opened = avcodec_open2(codec_.get(), decoder, nullptr);
  }
  if (opened < 0) {
    refuse_film(
        input.name(),
        fmt::format("codec {} that cannot be opened ({})", avcodec_get_name(parameters.codec_id), av_reason(opened)),
        "a complete stream header", "convert the film to H.264 in MP4");
  }
  // Leaving out unreferenced pictures is exact here; elsewhere references depend on temporal layers or adaptive
  // contexts.
  may_skip_ = parameters.codec_id == AV_CODEC_ID_H264 || parameters.codec_id == AV_CODEC_ID_MPEG1VIDEO ||
              parameters.codec_id == AV_CODEC_ID_MPEG2VIDEO || parameters.codec_id == AV_CODEC_ID_MPEG4;
}

bool FilmDecoder::send(const AVPacket* packet, bool needed) {
  codec_->skip_frame = needed || !may_skip_ ? AVDISCARD_DEFAULT : AVDISCARD_NONREF;
  const int sent = avcodec_send_packet(codec_.get(), packet);
  if (sent < 0 && sent != AVERROR_EOF) {
    complaint_ = av_reason(sent);
    return false;
  }
  return true;
}

// An error while receiving concerns a packet sent before; the decoder can go on, the picture is lost.
bool FilmDecoder::receive(AVFrame& frame) {
  for (int errors = 0; errors < kErrorsMax; ++errors) {
    const int got = avcodec_receive_frame(codec_.get(), &frame);
    if (got >= 0) {
      return true;
    }
    if (got == AVERROR(EAGAIN) || got == AVERROR_EOF) {
      return false;
    }
    complaint_ = av_reason(got);
  }
  return false;
}

std::string FilmDecoder::take_complaint() { return std::exchange(complaint_, {}); }

void FilmDecoder::flush() { avcodec_flush_buffers(codec_.get()); }

}  // namespace zoetrope
