// Unicode normal form C, in time proportional to n log n even for one endless run of combining marks.
#pragma once

#include <string>
#include <string_view>

namespace zoetrope {

// NFC of valid UTF-8 as the published tokenizer's normaliser computes it: with the combining classes of Unicode 9.0, so
// that marks and compositions added later stay where they stand.
std::string nfc(std::string_view valid_utf8);

}  // namespace zoetrope
