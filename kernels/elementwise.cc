#include "kernels/elementwise.h"

#include <algorithm>
#include <vector>

#include "kernels/body_table.h"
#include "kernels/patch_order.h"
#include "kernels/row_pieces.h"

namespace zoetrope {
namespace {

// x = f(x), row by row.
void in_place(const Compute& compute, Elementary function, Rows<float> x) {
  const auto entry = compute.body->row.elementary;
  over_rows(compute, x.rows, x.columns, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      entry(function, x.row(r), x.row(r), x.columns);
    }
  });
}

// Where patch `index` of a side lies between two entries of the table: 0 .. side - 1 spread over `count` patches, both
// ends exact: torch.linspace in fp32, which counts from the nearer end.
struct Between {
  int low = 0;
  int high = 0;
  float fraction = 0.0f;  // of the way from low to high
};

Between between(int index, int count, int side) {
  const auto last = static_cast<float>(side - 1);
  const float step = last / static_cast<float>(count - 1);
  const float place =
      index < count / 2 ? static_cast<float>(index) * step : last - step * static_cast<float>(count - 1 - index);
  const int low = static_cast<int>(place);
  return {low, low + 1 < side ? low + 1 : side - 1, place - static_cast<float>(low)};
}

}  // namespace

void add_rows(const Compute& compute, Rows<float> h, Rows<const float> x) {
  check_eq(x.rows, h.rows, "rows added");
  check_eq(x.columns, h.columns, "columns added");
  const auto entry = compute.body->row.add;
  over_rows(compute, h.rows, h.columns, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      entry(h.row(r), x.row(r), h.columns);
    }
  });
}

void add_selected_rows(const Compute& compute, Rows<float> h, std::span<const std::int64_t> rows, Rows<const float> x) {
  check_eq(x.rows, static_cast<std::int64_t>(rows.size()), "rows added to selected rows");
  check_eq(x.columns, h.columns, "columns added to selected rows");
  std::vector<std::int64_t> sorted(rows.begin(), rows.end());
  std::sort(sorted.begin(), sorted.end());
  check(sorted.empty() || (sorted.front() >= 0 && sorted.back() < h.rows), "selected rows outside the matrix");
  check(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end(), "a row selected twice");
  const auto entry = compute.body->row.add;
  over_rows(compute, x.rows, h.columns, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      entry(h.row(rows[static_cast<std::size_t>(i)]), x.row(i), h.columns);
    }
  });
}

void gelu_tanh(const Compute& compute, Rows<float> x) { in_place(compute, Elementary::kGeluTanh, x); }

void gelu_erf(const Compute& compute, Rows<float> x) { in_place(compute, Elementary::kGeluErf, x); }

void embed(const Compute& compute, Rows<const Bf16> table, std::span<const std::int32_t> ids, Rows<float> out) {
  check_eq(out.rows, static_cast<std::int64_t>(ids.size()), "rows of an embedding");
  check_eq(out.columns, table.columns, "columns of an embedding");
  for (const std::int32_t id : ids) {
    check(id >= 0 && id < table.rows, "a token id outside the embedding table");
  }
  const auto entry = compute.body->row.widen;
  over_rows(compute, out.rows, out.columns, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      entry(table.row(ids[static_cast<std::size_t>(i)]), out.row(i), out.columns);
    }
  });
}

void interpolate_positions(const Compute& compute, Rows<const Bf16> table, int side, int gh, int gw, Rows<float> out) {
  check(side > 0, "a position table without a side");
  check_eq(table.rows, static_cast<std::int64_t>(side) * side, "rows of a square position table");
  check(gh >= 2 && gw >= 2 && gh % 2 == 0 && gw % 2 == 0, "a frame is cut in merge blocks of 2 x 2 patches");
  check_eq(out.rows, static_cast<std::int64_t>(gh) * gw, "rows of interpolated positions");
  check_eq(out.columns, table.columns, "columns of interpolated positions");
  const auto entry = compute.body->row.interpolate;
  over_rows(compute, out.rows, 4 * out.columns, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const PatchPlace place = merge_block_place(i, gw);
      const Between r = between(place.row, gh, side);
      const Between c = between(place.column, gw, side);
      Corners corners;
      const int rows[2] = {r.low, r.high};
      const int columns[2] = {c.low, c.high};
      const float row_weights[2] = {1.0f - r.fraction, r.fraction};
      const float column_weights[2] = {1.0f - c.fraction, c.fraction};
      for (int k = 0; k < 4; ++k) {  // (low, low), (low, high), (high, low), (high, high)
        corners.row[k] = table.row(static_cast<std::int64_t>(rows[k / 2]) * side + columns[k % 2]);
        corners.weight[k] = row_weights[k / 2] * column_weights[k % 2];
      }
      entry(corners, out.row(i), out.columns);
    }
  });
}

}  // namespace zoetrope
