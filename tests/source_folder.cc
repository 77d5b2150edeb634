#include "tests/source_folder.h"

namespace zoetrope::test {

std::filesystem::path source_folder() { return ZOETROPE_SOURCE_DIR; }

}  // namespace zoetrope::test
