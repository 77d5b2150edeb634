// A film's container and decoder, opened safely: formats by whitelist, no protocol at all (bytes come from a
// SourceReader), silence on standard error, bounded work. Used inside this folder only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "runtime/media/source.h"

struct AVCodecContext;
struct AVCodecParameters;
struct AVFormatContext;
struct AVFrame;
struct AVPacket;
struct AVStream;

namespace zoetrope {

struct AvDelete {
  void operator()(AVCodecContext* codec) const;
  void operator()(AVFrame* frame) const;
  void operator()(AVPacket* packet) const;
};
using AvCodec = std::unique_ptr<AVCodecContext, AvDelete>;
using AvFrame = std::unique_ptr<AVFrame, AvDelete>;
using AvPacket = std::unique_ptr<AVPacket, AvDelete>;

AvFrame make_frame();
AvPacket make_packet();
std::string av_reason(int error);  // FFmpeg's words for one of its codes

// The packets of the first real video stream, in the container's order.
class FilmInput {
 public:
  explicit FilmInput(const MediaSource& source);  // throws Error(kRequest)
  ~FilmInput();
  FilmInput(const FilmInput&) = delete;
  FilmInput& operator=(const FilmInput&) = delete;

  const AVFormatContext& container() const;
  AVStream& video() const;
  const AVCodecParameters& coding() const;
  int other_video_streams() const { return other_video_streams_; }
  const std::string& name() const { return name_; }

  // The next packet; false at the end. An unreadable rest counts as the end and is remembered.
  bool next(AVPacket& packet);
  const std::string& broken() const { return broken_; }  // why the end came early, or ""

  // Moves to a key packet at or before `dts`; false when the container cannot.
  bool seek(std::int64_t dts);

 private:
  struct Io;
  void choose_stream();

  std::string name_;
  std::unique_ptr<Io> io_;
  AVFormatContext* container_ = nullptr;
  int stream_ = -1;
  int other_video_streams_ = 0;
  std::string broken_;
};

// Decodes packets of one FilmInput. One thread uses it; `threads` are FFmpeg's own.
class FilmDecoder {
 public:
  FilmDecoder(const FilmInput& input, int threads);

  // Hands over a packet, nullptr at the end of the film. With `needed` false pictures that no other picture refers to
  // may be left out (only for codecs where that changes no other pixel). False when the decoder refuses the packet.
  bool send(const AVPacket* packet, bool needed = true);
  bool receive(AVFrame& frame);  // false: nothing ready
  void flush();                  // forgets all pictures, keeps parameter sets
  std::string take_complaint();  // what the decoder refused since the last call, or ""

 private:
  AvCodec codec_;
  bool may_skip_ = false;
  std::string complaint_;
};

}  // namespace zoetrope
