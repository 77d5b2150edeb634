// How an Inspection is printed: columns for people, one JSON object for programs.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "runtime/checkpoint/inspect.h"
#include "runtime/json/json.h"

namespace zoetrope {
namespace {

// 62141508064 -> "62 141 508 064"
std::string grouped(std::uint64_t number) {
  const std::string digits = fmt::format("{}", number);
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) {
      out += ' ';
    }
    out += digits[i];
  }
  return out;
}

std::string describe(const ModelConfig& config) {
  const TextConfig& text = config.text;
  const VisionConfig& vision = config.vision;
  const std::string feed_forward = text.moe() ? fmt::format("{} experts of {}, {} per token", text.experts,
                                                            text.expert_intermediate, text.experts_per_token)
                                              : fmt::format("dense {}", text.intermediate);
  const std::string rope = text.rope.yarn ? fmt::format("YaRN factor {} of {}, attention factor {}", text.rope.factor,
                                                        text.rope.original_positions, text.rope.attention_factor)
                                          : "no scaling";
  std::string out = fmt::format("architecture  {}{}\n", config.architecture,
                                config.fp8 ? ", FP8 weights in blocks of 128 x 128" : "");
  out += fmt::format("text          {} layers of {}, heads {} / {} of {}, {}, vocabulary {}\n", text.layers,
                     text.hidden, text.heads, text.kv_heads, text.head_dim, feed_forward, text.vocabulary);
  out += fmt::format("positions     {}, theta {}, {}\n", text.positions_max, text.rope.theta, rope);
  out += fmt::format("vision        {} blocks of {}, heads {} of {}, MLP {}, table {} x {}, DeepStack after {}\n",
                     vision.depth, vision.hidden, vision.heads, vision.head_dim(), vision.intermediate,
                     vision.position_grid, vision.position_grid, fmt::join(vision.deepstack, ", "));
  return out;
}

std::string sum_line(std::string_view name, const Inspection::Sum& sum) {
  return fmt::format("  {:<12}{:>8}{:>20}{:>20}\n", name, sum.tensors, grouped(sum.parameters), grouped(sum.bytes));
}

std::string sums(const Inspection& inspection) {
  std::string out = fmt::format("{:<14}{:>8}{:>20}{:>20}\n", "part", "tensors", "parameters", "bytes");
  for (const auto& [name, sum] : inspection.parts) {
    out += sum_line(name, sum);
  }
  out += sum_line("total", inspection.total);
  out += fmt::format("{:<14}{:>8}{:>20}{:>20}\n", "type", "tensors", "parameters", "bytes");
  for (const auto& [name, sum] : inspection.types) {
    out += sum_line(name, sum);
  }
  return out;
}

std::string layouts(const Inspection& inspection) {
  std::string out = fmt::format("KV cache      {} bytes per token (bf16)\n", grouped(inspection.kv_bytes_per_token));
  for (const SlicedMatrix& matrix : inspection.sliced) {
    out += fmt::format("slices        {}: {} of K = {} in units of {}{}\n", matrix.name, matrix.slices, matrix.k,
                       matrix.unit, matrix.cut_by_tp ? "" : " (not cut by tp)");
  }
  out += fmt::format("legal tp      {}\n", fmt::join(inspection.tp, ", "));
  for (const auto& [tp, reason] : inspection.tp_refused) {
    out += fmt::format("  not {:<3}     {}\n", tp, reason);
  }
  out += fmt::format("legal pp      1 to {}\n", inspection.config->text.layers);
  return out;
}

json::Object sum_json(const Inspection::Sum& sum) {
  return {{"tensors", sum.tensors}, {"parameters", sum.parameters}, {"bytes", sum.bytes}};
}

json::Object config_json(const ModelConfig& config) {
  const TextConfig& text = config.text;
  const VisionConfig& vision = config.vision;
  json::Object rope{{"theta", text.rope.theta},
                    {"yarn", text.rope.yarn},
                    {"factor", text.rope.factor},
                    {"attention_factor", text.rope.attention_factor}};
  return {{"architecture", config.architecture},
          {"fp8", config.fp8},
          {"text", json::Object{{"hidden", text.hidden},
                                {"layers", text.layers},
                                {"heads", text.heads},
                                {"kv_heads", text.kv_heads},
                                {"head_dim", text.head_dim},
                                {"intermediate", text.intermediate},
                                {"experts", text.experts},
                                {"experts_per_token", text.experts_per_token},
                                {"expert_intermediate", text.expert_intermediate},
                                {"vocabulary", text.vocabulary},
                                {"positions_max", text.positions_max},
                                {"tied", text.tied},
                                {"rope", std::move(rope)}}},
          {"vision", json::Object{{"depth", vision.depth},
                                  {"hidden", vision.hidden},
                                  {"heads", vision.heads},
                                  {"intermediate", vision.intermediate},
                                  {"position_grid", vision.position_grid},
                                  {"deepstack", json::Array(vision.deepstack.begin(), vision.deepstack.end())}}}};
}

json::Array texts(const std::vector<std::string>& lines) { return json::Array(lines.begin(), lines.end()); }

json::Object layouts_json(const Inspection& inspection) {
  json::Array sliced;
  for (const SlicedMatrix& matrix : inspection.sliced) {
    sliced.push_back(json::Object{{"matrix", matrix.name},
                                  {"k", matrix.k},
                                  {"unit", matrix.unit},
                                  {"slices", matrix.slices},
                                  {"cut_by_tp", matrix.cut_by_tp}});
  }
  json::Array refused;
  for (const auto& [tp, reason] : inspection.tp_refused) {
    refused.push_back(json::Object{{"tp", tp}, {"reason", reason}});
  }
  return {{"tp", json::Array(inspection.tp.begin(), inspection.tp.end())},
          {"tp_refused", std::move(refused)},
          {"pp_max", inspection.config->text.layers},
          {"sliced", std::move(sliced)}};
}

}  // namespace

std::string inspection_text(const Inspection& inspection) {
  std::string out = fmt::format("checkpoint    {}\n", one_line(inspection.folder.string()));
  if (inspection.config) {
    out += describe(*inspection.config) + sums(inspection) + layouts(inspection);
  }
  if (!inspection.head.empty()) {
    out += fmt::format("head          {}\n", inspection.head);
  }
  if (!inspection.digest.empty()) {
    out += fmt::format("digest        {}\n", inspection.digest);
  }
  for (const Inspection::File& file : inspection.files) {
    out += fmt::format("file          {:<40}{:>18}  {}{}\n", one_line(file.name), grouped(file.bytes), file.sha256,
                       file.sha256.empty() ? "(not hashed: --digests)" : "");
  }
  for (const std::string& note : inspection.notes) {
    out += fmt::format("note          {}\n", one_line(note));
  }
  for (const std::string& problem : inspection.problems) {
    out += fmt::format("problem       {}\n", one_line(problem));
  }
  return out + (inspection.ok() ? "ok\n"
                                : fmt::format("not ok: {} problem{}\n", inspection.problems.size(),
                                              inspection.problems.size() == 1 ? "" : "s"));
}

std::string inspection_json(const Inspection& inspection) {
  json::Object out{{"folder", inspection.folder.string()}, {"ok", inspection.ok()}};
  if (inspection.config) {
    out["config"] = config_json(*inspection.config);
    out["total"] = sum_json(inspection.total);
    json::Object parts;
    for (const auto& [name, sum] : inspection.parts) {
      parts[name] = sum_json(sum);
    }
    json::Object types;
    for (const auto& [name, sum] : inspection.types) {
      types[name] = sum_json(sum);
    }
    out["parts"] = std::move(parts);
    out["types"] = std::move(types);
    out["kv_bytes_per_token"] = inspection.kv_bytes_per_token;
    out["layouts"] = layouts_json(inspection);
  }
  if (!inspection.digest.empty()) {
    out["head"] = inspection.head;
    out["digest"] = inspection.digest;
  }
  json::Array files;
  for (const Inspection::File& file : inspection.files) {
    json::Object row{{"name", file.name}, {"bytes", file.bytes}, {"tensors", file.tensors}};
    if (!file.sha256.empty()) {
      row["sha256"] = file.sha256;
    }
    files.push_back(std::move(row));
  }
  out["files"] = std::move(files);
  out["notes"] = texts(inspection.notes);
  out["problems"] = texts(inspection.problems);
  return boost::json::serialize(out) + "\n";
}

}  // namespace zoetrope
