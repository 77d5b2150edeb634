// What the command line said, as values. Parsing only: nothing is opened or started here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kernels/tensor.h"
#include "parallel/ring_memory.h"

namespace zoetrope {

enum class Command { kAsk, kBatch, kInspect, kBench, kVersion };

// Shared by the commands that load a model.
struct RunArguments {
  std::filesystem::path model;        // empty: the bundled checkpoint
  Precision precision = Precision::kBf16;
  std::string body;                   // empty: the best of this CPU
  int threads = 0;                    // per rank; 0: the cores this rank may use
  int tp = 1;
  int ring = 0;                       // 0: ranks / (pp x tp)
  int pp = 1;
  int waves = 0;                      // 0: chosen
  std::int64_t kv_bytes = 0;          // per rank; 0: chosen
  std::int64_t context_tokens = 0;    // 0: the model's
  std::int64_t chunk_tokens = 1024;
  int span = 0;
  RingTransport ring_transport = RingTransport::kAuto;
  std::int32_t sequences = 64;
  bool no_prefix_cache = false;
  std::int64_t full_chunk_context = 32768;
  bool verbose = false;
  std::filesystem::path expert_placement, expert_load, expert_load_out;
  int ep = 0;                         // expert groups; 0: as many as ranks
  int expert_extra = 1;
  std::filesystem::path metrics_file, trace_file;
};

struct AskMedium {
  bool video = false;
  std::string reference;
};

struct AskArguments {
  std::vector<AskMedium> media;       // in the order of the command line
  std::string question;
  std::string system;
  bool json = false;
  std::optional<std::int64_t> max_tokens, seed, num_frames, max_frames, min_pixels, max_pixels, total_pixels, top_k;
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty, fps,
      video_start, video_end;
  std::vector<std::string> stop;
  bool reference_timestamps = false, no_rotate = false, add_vision_id = false;
};

struct BatchArguments {
  std::filesystem::path input, output;
  bool retry_errors = false;
};

struct InspectArguments {
  std::filesystem::path folder;
  bool json = false;
  bool digests = false;
};

struct BenchArguments {
  std::string what;                   // "kernels", "ring", "fabric", "exchange", "pipeline" or empty: a model
  std::string test = "pp";            // pp, tg or batch
  std::int64_t tokens = 512, depth = 0;
  int streams = 1, reps = 5;
  bool json = false;
  bool quick = false;
};

struct Arguments {
  Command command = Command::kVersion;
  RunArguments run;
  AskArguments ask;
  BatchArguments batch;
  InspectArguments inspect;
  BenchArguments bench;
  std::string help;                   // not empty: print it and leave with 0
};

// Throws UsageError: one line with the value seen, what was expected, and the nearest name of an unknown flag.
Arguments parse_arguments(int argc, char** argv);

}  // namespace zoetrope
