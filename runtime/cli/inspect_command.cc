#include <cstdio>

#include "monitoring/error.h"
#include "runtime/checkpoint/inspect.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/launch.h"
#include "runtime/prompt/token_checks.h"
#include "runtime/text/tokenizer.h"

namespace zoetrope {

// Needs one process only; under mpirun rank 0 does it.
int run_inspect(const RunArguments& run, const InspectArguments& inspect) {
  if (MpiJob::launched_rank() != 0) {
    return 0;
  }
  const std::filesystem::path folder = inspect.folder.empty() ? model_folder(run) : inspect.folder;
  Inspection inspection = inspect_checkpoint(folder, {.digests = inspect.digests});
  if (inspection.config) {
    try {
      check_tokens(Tokenizer::load(folder), *inspection.config);
    } catch (const Error& error) {
      inspection.problems.emplace_back(error.what());
      inspection.digest.clear();
    }
  }
  std::fputs((inspect.json ? inspection_json(inspection) : inspection_text(inspection)).c_str(), stdout);
  return inspection.exit_status();
}

}  // namespace zoetrope
