#include <fmt/format.h>

#include <cstdio>

#include "kernels/body.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/launch.h"

namespace zoetrope {

int run_version() {
  if (MpiJob::launched_rank() != 0) {
    return 0;
  }
  std::string out = fmt::format("zoetrope {}\nkernels of this CPU:", ZOETROPE_VERSION);
  for (const BodyKind kind : bodies_here()) {
    if (kind != BodyKind::kReference) {
      out += fmt::format(" {}", body_name(kind));
    }
  }
  out += fmt::format(" (chosen: {})\ncores of this process: {}\nbundled models: {}\n", body_name(best_body()),
                     cores_of_affinity_mask(), bundled_models().string());
  std::fputs(out.c_str(), stdout);
  return 0;
}

}  // namespace zoetrope
