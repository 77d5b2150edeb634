// `mpirun -n N zoetrope bench fabric`: what a message and the project's own collectives cost by size, with the bytes
// that they send beside the closed forms.
#include <fmt/format.h>

#include <cstdio>
#include <functional>
#include <vector>

#include "monitoring/error.h"
#include "parallel/collectives.h"
#include "parallel/layout.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/launch.h"
#include "runtime/cli/stopwatch.h"
#include "runtime/json/json.h"

namespace zoetrope {
namespace {

constexpr std::size_t kSizes[] = {8, 64, 512, 4096, 8192, 32768, 65536, 262144, 1048576, 4194304, 16777216};
constexpr std::size_t kWindow = 16;  // messages under way at once when bandwidth is measured, fewer of the largest

struct Row {
  std::string operation;
  std::size_t bytes = 0;          // of a message, or of all rows of a collective
  double seconds = 0;             // of one, median
  double gigabytes_per_second = 0;  // that a rank sends
  std::uint64_t sent = 0, closed_form = 0;  // by this rank in one
};

struct Fabric {
  Communicator& world;
  int reps;
  std::vector<std::byte> out, in;

  // Seconds of one `run`, over as many as fill a few milliseconds; the same number on every rank.
  double once(std::size_t bytes, const std::function<void()>& run) {
    const int count = static_cast<int>(std::clamp<std::size_t>((std::size_t{4} << 20) / (bytes + 4096), 1, 500));
    std::vector<double> seconds;
    for (int rep = 0; rep <= reps; ++rep) {
      barrier(world, "benchmark repetition");
      const double begun = wall_seconds();
      for (int i = 0; i < count; ++i) {
        run();
      }
      if (rep > 0) {
        seconds.push_back((wall_seconds() - begun) / count);
      }
    }
    return median(seconds);
  }

  // Bytes that one `run` sends from this rank.
  std::uint64_t sent_by(const std::function<void()>& run) const {
    const std::uint64_t before = world.traffic().bytes;
    run();
    return world.traffic().bytes - before;
  }

  // There and back between ranks 0 and 1; half of it is the latency.
  Row latency(std::size_t bytes) {
    const std::span<const std::byte> data(out.data(), bytes);
    const std::span<std::byte> room(in.data(), bytes);
    const auto run = [&] {
      const SendPart send{1 - world.rank(), data};
      const ReceivePart receive{1 - world.rank(), room};
      if (world.rank() == 0) {
        world.exchange({&send, 1}, {}, "ping");
        world.exchange({}, {&receive, 1}, "pong");
      } else if (world.rank() == 1) {
        world.exchange({}, {&receive, 1}, "ping");
        world.exchange({&send, 1}, {}, "pong");
      }
    };
    const std::uint64_t sent = sent_by(run);
    const double seconds = once(bytes, run) / 2;
    return {"latency 0 <-> 1",           bytes, seconds, static_cast<double>(bytes) / seconds * 1e-9, sent,
            world.rank() < 2 ? bytes : 0};
  }

  // Both directions at once, a window of messages under way.
  Row bandwidth(std::size_t bytes) {
    const std::size_t window = std::min(kWindow, in.size() / bytes);
    const auto run = [&] {
      std::vector<SendPart> sends;
      std::vector<ReceivePart> receives;
      for (std::size_t i = 0; i < window && world.rank() < 2; ++i) {
        sends.push_back({1 - world.rank(), {out.data(), bytes}});
        receives.push_back({1 - world.rank(), {in.data() + i * bytes, bytes}});
      }
      world.exchange(sends, receives, "window");
    };
    const std::uint64_t sent = sent_by(run);
    const double seconds = once(bytes * window, run) / static_cast<double>(window);
    return {"both ways, many at once",
            bytes,
            seconds,
            static_cast<double>(bytes) / seconds * 1e-9,
            sent,
            world.rank() < 2 ? bytes * window : 0};
  }

  // Rows of 1 KiB and less, dealt over the ranks; `bytes` of all of them.
  Row collective(std::string_view name, std::size_t bytes, const std::function<void(Rows<float>)>& operation,
                 std::uint64_t closed_form) {
    const auto columns = static_cast<std::int64_t>(
        std::min<std::size_t>(bytes / sizeof(float) / static_cast<std::size_t>(world.size()), 256));
    const Rows<float> rows{reinterpret_cast<float*>(in.data()),
                           static_cast<std::int64_t>(bytes / sizeof(float)) / columns, columns};
    const auto run = [&] { operation(rows); };
    const std::uint64_t sent = sent_by(run);
    const double seconds = once(bytes, run);
    return {std::string(name), bytes, seconds, static_cast<double>(sent) / seconds * 1e-9, sent, closed_form};
  }
};

// The block of rows that a rank has of `bytes` of equal rows, as bytes: sizes here divide by the number of ranks, or
// almost.
std::uint64_t block_bytes(std::size_t bytes, int rank, int ranks) {
  const auto columns = std::min<std::size_t>(bytes / sizeof(float) / static_cast<std::size_t>(ranks), 256);
  const auto rows = static_cast<std::int64_t>(bytes / sizeof(float) / columns);
  return static_cast<std::uint64_t>(dealt(rows, rank, ranks).count()) * columns * sizeof(float);
}

std::vector<Row> measure(Communicator& world, int reps, std::size_t most) {
  Fabric fabric{
      .world = world, .reps = reps, .out = std::vector<std::byte>(most), .in = std::vector<std::byte>(4 * most)};
  const int n = world.size();
  std::vector<Row> rows;
  for (const auto& kind : {&Fabric::latency, &Fabric::bandwidth}) {
    for (const std::size_t bytes : kSizes) {
      if (bytes <= most) {
        rows.push_back((fabric.*kind)(bytes));
      }
    }
  }
  for (const std::size_t bytes : kSizes) {
    if (bytes > most || bytes / sizeof(float) < static_cast<std::size_t>(n)) {
      continue;
    }
    const std::uint64_t own = block_bytes(bytes, world.rank(), n);
    std::uint64_t all = 0;
    for (int rank = 0; rank < n; ++rank) {
      all += block_bytes(bytes, rank, n);
    }
    rows.push_back(fabric.collective(
        "all-gather of rows", bytes, [&](Rows<float> r) { all_gather_rows(world, r, false, "all-gather"); },
        own * static_cast<std::uint64_t>(n - 1)));
    if ((n & (n - 1)) == 0) {
      rows.push_back(fabric.collective(
          "reduce-scatter of rows", bytes, [&](Rows<float> r) { tree_reduce_scatter_rows(world, r, "reduce-scatter"); },
          all - own));
    }
  }
  return rows;
}

std::string table(const std::vector<Row>& rows) {
  std::string text = fmt::format("{:<26} {:>10} {:>12} {:>9} {:>14} {:>14}\n", "operation", "bytes", "us", "GB/s",
                                 "rank 0 sends", "closed form");
  for (const Row& row : rows) {
    text += fmt::format("{:<26} {:>10} {:>12.2f} {:>9.3f} {:>14} {:>14}\n", row.operation, row.bytes, row.seconds * 1e6,
                        row.gigabytes_per_second, row.sent, row.closed_form);
  }
  return text;
}

std::string json_of(const std::vector<Row>& rows) {
  json::Array all;
  for (const Row& row : rows) {
    json::Object object;
    object["operation"] = row.operation;
    object["bytes"] = row.bytes;
    object["seconds"] = row.seconds;
    object["sent"] = row.sent;
    object["closed_form"] = row.closed_form;
    all.push_back(std::move(object));
  }
  return boost::json::serialize(all) + "\n";
}

}  // namespace

int run_bench_fabric(const RunArguments& run, const BenchArguments& bench) {
  return with_ranks(run, [&](Ranks& ranks, int) {
    if (ranks.world->size() < 2) {
      refuse(Radius::kStartup,
             {"bench fabric", "1 rank", "at least 2", "start it as mpirun -n 2 zoetrope bench fabric"});
    }
    const auto rows = measure(*ranks.world, bench.quick ? 1 : bench.reps,
                              bench.quick ? std::size_t{65536} : kSizes[std::size(kSizes) - 1]);
    if (ranks.leader()) {
      std::fputs((bench.json ? json_of(rows) : table(rows)).c_str(), stdout);
    }
    return 0;
  });
}

}  // namespace zoetrope
