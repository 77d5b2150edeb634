// JSON values written the way Python writes them: the published templates were rendered by Python.
#pragma once

#include <string>

#include "runtime/json/json.h"

namespace zoetrope {

// json.dumps(value, ensure_ascii=False): separators ", " and ": ", insertion order, floats as repr.
std::string to_python_json(const json::Value& value);

// repr of a float: the shortest digits that read back the same, "1.0", "1e-05", "1e+16".
std::string python_float(double value);

}  // namespace zoetrope
