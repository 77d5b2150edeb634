// From the way the program was started to its ranks: alone, or as one of the processes that mpirun or srun launched.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "parallel/ranks.h"
#include "runtime/cli/arguments.h"
#include "runtime/engine/engine.h"

namespace zoetrope {

// Runs `body` with this process's ranks and returns its exit code. An error of any rank ends all of them: one line on
// standard error, exit code 1.
int with_ranks(const RunArguments& run, const std::function<int(Ranks&, int threads)>& body);

// Cores this process may use.
int cores_of_affinity_mask();

// The bundled checkpoint and samples: $ZOETROPE_MODELS, else ../share/zoetrope/models beside the program, else the
// source tree.
std::filesystem::path bundled_models();

// The checkpoint to load, and what answers call it: the folder's name.
std::filesystem::path model_folder(const RunArguments& run);
std::string model_name(const RunArguments& run);

// The engine with its checkpoint loaded; progress on standard error when `shown`. Collective.
std::unique_ptr<Engine> load_engine(const RunArguments& run, Ranks& ranks, int threads, bool shown);

}  // namespace zoetrope
