#include <cstdio>

#include "runtime/checkpoint/inspect.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/launch.h"

namespace zoetrope {

// Needs one process only; under mpirun rank 0 does it.
int run_inspect(const RunArguments& run, const InspectArguments& inspect) {
  if (MpiJob::launched_rank() != 0) {
    return 0;
  }
  const Inspection inspection =
      inspect_checkpoint(inspect.folder.empty() ? model_folder(run) : inspect.folder, {.digests = inspect.digests});
  std::fputs((inspect.json ? inspection_json(inspection) : inspection_text(inspection)).c_str(), stdout);
  return inspection.exit_status();
}

}  // namespace zoetrope
