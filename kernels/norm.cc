#include "kernels/norm.h"

#include "kernels/body_table.h"
#include "kernels/row_pieces.h"

namespace zoetrope {
namespace {

using Entry = void (*)(const NormArgs&, std::int64_t, std::int64_t);

void norm(const Compute& compute, Entry entry, const NormArgs& args) {
  check_eq(args.out.rows, args.x.rows, "rows of a norm's output");
  check_eq(args.out.columns, args.x.columns, "columns of a norm's output");
  check(args.weight != nullptr, "a norm without a weight");
  check(args.group > 0 && args.x.columns % args.group == 0, "a norm over groups that do not fill the row");
  over_rows(compute, args.x.rows, args.x.columns,
            [&](std::int64_t first, std::int64_t last) { entry(args, first, last); });
}

}  // namespace

void rms_norm(const Compute& compute, Rows<const float> x, const float* weight, float eps, Rows<float> out) {
  norm(compute, compute.body->row.rms_norm,
       {.x = x, .out = out, .group = x.columns, .weight = weight, .eps = eps});
}

void head_rms_norm(const Compute& compute, Rows<float> x, int head_dim, const float* weight, float eps) {
  norm(compute, compute.body->row.rms_norm,
       {.x = x, .out = x, .group = head_dim, .weight = weight, .eps = eps});
}

void layer_norm(const Compute& compute, Rows<const float> x, const float* weight, const float* bias, float eps,
                Rows<float> out) {
  check(bias != nullptr, "a layer norm without a bias");
  norm(
      compute, compute.body->row.layer_norm,
      {.x = x, .out = out, .group = x.columns, .weight = weight, .bias = bias, .eps = eps});
}

}  // namespace zoetrope
