#include "runtime/cli/launch.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <new>
#include <optional>
#include <string>
#include <thread>

#include "monitoring/error.h"
#include "monitoring/log.h"
#include "runtime/cli/terminal.h"

namespace zoetrope {
namespace {

Layout layout_for(const RunArguments& run, int ranks) {
  const std::int64_t ring = run.ring > 0 ? run.ring : std::max(1, ranks / run.tp / run.pp);
  if (const std::int64_t wanted = run.pp * ring * run.tp; wanted != ranks) {
    const std::string stages = run.pp > 1 ? fmt::format("--pp {} x ", run.pp) : "";
    refuse(Radius::kStartup,
           {"layout",
            fmt::format("{}--ring {} x --tp {} = {} ranks, but {} were launched", stages, ring, run.tp, wanted, ranks),
            fmt::format("{}ring x tp equal to the number of ranks", run.pp > 1 ? "pp x " : ""),
            fmt::format("start {} ranks (mpirun -n {}) or change {}--ring and --tp", wanted, wanted,
                        run.pp > 1 ? "--pp, " : "")});
  }
  return {.ring = static_cast<int>(ring), .tp = run.tp, .pp = run.pp};
}

// One line for the whole job. Most failures are those of all ranks, at about the same time: the others leave rank 0 a
// moment to come out of starting MPI and to say it.
[[noreturn]] void end_job(MpiJob& job, const std::string& what) {
  if (job.rank() > 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
  }
  job.fail(what, 1);
}

}  // namespace

int cores_of_affinity_mask() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof(mask), &mask) != 0) {
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  return std::max(1, CPU_COUNT(&mask));
}

int with_ranks(const RunArguments& run, const std::function<int(Ranks&, int threads)>& body) {
  log::set_level(run.verbose ? log::Level::kInfo : log::Level::kWarning);
  const int cores = cores_of_affinity_mask();
  if (!MpiJob::launched()) {
    const Layout layout = layout_for(run, 1);
    Ranks ranks = self_ranks();
    check_eq(layout.ranks(), ranks.layout.ranks(), "one process is one rank");
    return body(ranks, run.threads > 0 ? run.threads : cores);
  }
  std::optional<MpiJob> started;
  try {
    started.emplace();
  } catch (const std::exception& error) {
    // Rank 0 says what it has in common with all; the launcher ends the others within that time, or theirs is another.
    if (MpiJob::launched_rank() > 0) {
      std::this_thread::sleep_for(std::chrono::seconds(2));
    }
    const bool memory = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
    print_failure(memory ? "out of memory while MPI starts: give the job more memory or start fewer ranks"
                         : error.what());
    return 1;
  }
  MpiJob& job = *started;
  log::set_rank(job.rank());
  try {
    Ranks ranks = job.ranks(layout_for(run, job.size()));
    return body(ranks, run.threads > 0 ? run.threads : std::max(1, cores / std::max(1, job.ranks_sharing_cores())));
  } catch (const std::bad_alloc&) {
    end_job(job, "out of memory: give less to --kv-memory, or more ranks to the model");
  } catch (const std::exception& error) {
    end_job(job, error.what());
  }
}

std::filesystem::path bundled_models() {
  if (const char* named = std::getenv("ZOETROPE_MODELS"); named != nullptr && *named != '\0') {
    return named;
  }
  std::error_code ec;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", ec);
  if (const auto installed = program.parent_path() / ".." / "share" / "zoetrope" / "models";
      !ec && std::filesystem::exists(installed, ec)) {
    return installed;
  }
  return ZOETROPE_MODELS_SOURCE;
}

std::filesystem::path model_folder(const RunArguments& run) {
  return run.model.empty() ? bundled_models() / "lantern-moe" : run.model;
}

std::string model_name(const RunArguments& run) {
  const std::filesystem::path folder = std::filesystem::absolute(model_folder(run)).lexically_normal();
  return one_line((folder.has_filename() ? folder : folder.parent_path()).filename().string());
}

std::unique_ptr<Engine> load_engine(const RunArguments& run, Ranks& ranks, int threads, bool shown) {
  EngineSettings settings;
  settings.precision = run.precision;
  settings.body = run.body;
  settings.threads = threads;
  settings.kv_bytes_per_rank = run.kv_bytes;
  settings.context_tokens_max = run.context_tokens;
  settings.chunk_tokens_max = run.chunk_tokens;
  settings.sequences_max = run.sequences;
  settings.prefix_cache = !run.no_prefix_cache;
  settings.full_chunk_context = run.full_chunk_context;
  settings.span_members = run.span;
  settings.waves_max = run.waves;
  settings.ring_transport = run.ring_transport;
  settings.experts = {run.expert_placement, run.expert_load, run.ep, run.expert_extra, run.expert_load_out};
  settings.report = {run.metrics_file, run.trace_file};
  Progress loading("loading", "%", shown);
  return std::make_unique<Engine>(model_folder(run), ranks, settings,
                                  [&](double part) { loading.update(100 * part, 100); });
}

}  // namespace zoetrope
