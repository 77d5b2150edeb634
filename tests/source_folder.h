// Where the sources are: tests read data beside them. In one small library, so that no other object depends on the
// folder and a compiler cache serves every clone.
#pragma once

#include <filesystem>

namespace zoetrope::test {

std::filesystem::path source_folder();

}  // namespace zoetrope::test
