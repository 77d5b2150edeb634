#include "runtime/engine/film_rounds.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iterator>
#include <memory>
#include <new>
#include <utility>

#include "monitoring/check.h"
#include "monitoring/error.h"
#include "monitoring/trace.h"
#include "runtime/media/patches.h"

namespace zoetrope {
namespace {

// Patches that go through the vision tower together: enough rows to keep the kernels busy, bounded memory.
constexpr std::int64_t kVisionBatchPatches = 1024;
constexpr std::int64_t kPatchValues = 1536;  // 3 channels x 2 frames x 16 x 16
// Before their step, units are encoded from so many patches on: fewer read the tower's weights for little.
constexpr std::int64_t kAheadPatches = 1024;
// How long a step without anything to compute waits for frames before it looks what else has come.
constexpr auto kFramesPatience = std::chrono::milliseconds(20);

std::int64_t patches_of(const Grid& grid) { return static_cast<std::int64_t>(grid.h) * grid.w; }

std::int64_t tokens_in(const std::vector<Range>& runs) {
  std::int64_t tokens = 0;
  for (const Range& run : runs) {
    tokens += run.count();
  }
  return tokens;
}

}  // namespace

FilmRounds::FilmRounds(Model& model, Ranks& ranks, const Compute& compute)
    : model_(model), ranks_(ranks), trace_(compute.trace), decoders_(compute.pool->threads()) {}

void FilmRounds::begin(RequestId id, const Prompt& prompt, const Span& span) {
  Film film;
  film.prompt = &prompt;
  film.media = std::make_shared<const std::vector<Medium>>(prompt.media);
  film.span = span;
  check(films_.emplace(id, std::move(film)).second, "a sequence started twice");
}

void FilmRounds::end(RequestId id) {
  decoders_.drop(id);
  std::erase_if(own_, [id](const EncodeUnit& unit) { return unit.id == id; });
  check(films_.erase(id) == 1, "a sequence ended that this rank does not know");
}

void FilmRounds::announce(const std::vector<EncodeUnit>& ahead) {
  for (const EncodeUnit& unit : ahead) {
    if (unit.rank == ranks_.place.rank) {
      const Film& film = films_.at(unit.id);
      decoders_.add(unit.id, film.media, unit.unit, film.unit(unit.unit));
      own_.push_back(unit);
    }
  }
}

void FilmRounds::grow(RequestId id, const Span& span, std::int64_t computed) {
  Film& film = films_.at(id);
  const Span before = std::exchange(film.span, span);
  const int own = ranks_.place.member;
  if (!span.contains(own)) {
    return;
  }
  const std::int64_t columns = columns_for(ranks_.place.rank).count();
  if (columns == 0) {
    return;  // layers of this stage add no features
  }
  std::map<std::int32_t, std::vector<float>> features;
  std::vector<SendPart> sends;
  std::vector<ReceivePart> receives;
  for (std::int32_t index = 0; index <= film.units_seen; ++index) {
    const VisualUnit& unit = film.unit(index);
    const std::int64_t end = unit.first_token + unit.tokens;
    if (end <= computed) {
      continue;
    }
    std::vector<float>& kept = features[index];
    kept.resize(static_cast<std::size_t>(span.rows_of(span.slot_of(own), unit.first_token, end) * columns));
    // Runs of tokens that one member computed before and one computes from now on.
    for (std::int64_t first = unit.first_token, next = 0; first < end; first = next) {
      next = std::min(end, (first / Span::kRunRows + 1) * Span::kRunRows);
      const int from = before.computes(first), to = span.computes(first);
      const auto bytes = static_cast<std::size_t>((next - first) * columns) * sizeof(float);
      const auto row = [&](const Span& of) { return of.rows_of(of.slot_of(own), unit.first_token, first) * columns; };
      if (from == own) {
        const float* had = film.features.at(index).data() + row(before);
        if (to == own) {
          std::memcpy(kept.data() + row(span), had, bytes);
        } else {
          sends.push_back({to, std::as_bytes(std::span(had, bytes / sizeof(float)))});
        }
      } else if (to == own) {
        receives.push_back({from, std::as_writable_bytes(std::span(kept.data() + row(span), bytes / sizeof(float)))});
      }
    }
  }
  if (!sends.empty() || !receives.empty()) {
    ranks_.ring->exchange(sends, receives, "features of a span that grows");
  }
  std::erase_if(features, [](const auto& entry) { return entry.second.empty(); });
  film.features = std::move(features);
}

void FilmRounds::encode(const StepPlan& plan, StepResult& result) {
  const auto started = std::chrono::steady_clock::now();
  announce(plan.ahead);
  decoders_.hurry(plan.frames != FramesWanted::kInTime);
  if (!plan.encode.empty()) {
    for (const EncodeUnit& unit : plan.encode) {
      std::int32_t& seen = films_.at(unit.id).units_seen;
      check(seen < 0 || unit.unit == seen + 1, "units of a film are encoded in order, each once");
      seen = unit.unit;
    }
    std::vector<EncodeUnit> missing;
    std::ranges::copy_if(own_, std::back_inserter(missing),
                         [&](const EncodeUnit& unit) { return unit.unit <= films_.at(unit.id).units_seen; });
    encode_own(missing, result);
    std::vector<std::vector<float>> rows(plan.encode.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (plan.encode[i].rank == ranks_.place.rank) {
        auto encoded = films_.at(plan.encode[i].id).encoded.extract(plan.encode[i].unit);
        check(!encoded.empty(), "a rank encodes the units that it was told to decode");
        rows[i] = std::move(encoded.mapped());
      }
    }
    exchange(plan.encode, rows);
  }
  if (plan.frames == FramesWanted::kNow) {
    encode_ahead(result);
  }
  const DecodeAhead::Times times = decoders_.take_times();
  result.film_decode_seconds = times.busy_seconds;
  result.film_wait_seconds = times.waited_seconds;
  result.film_cpu_seconds = times.cpu_seconds;
  result.encode_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count() - times.waited_seconds;
}

void FilmRounds::read(const EncodeUnit& unit, std::span<float> patches, StepResult& result) {
  const Traced traced(trace_, TracePhase::kDecodeFilm);
  // The request fails as a whole; its rows of this step are computed on zeros and thrown away.
  const auto fail = [&](std::string_view why) {
    std::fill(patches.begin(), patches.end(), 0.0f);
    if (std::ranges::none_of(result.failed, [&](const FailedSequence& f) { return f.id == unit.id; })) {
      result.failed.push_back({unit.id, fmt::format("{} (rank {} on {})", why, ranks_.place.rank, ranks_.host_name)});
    }
  };
  try {
    std::vector<std::uint8_t> bytes = decoders_.take(unit.id, unit.unit);
    normalise_patches(bytes, patches);
    decoders_.give_back(std::move(bytes));
  } catch (const Error& error) {
    if (error.radius() != Radius::kRequest) {
      throw;
    }
    fail(error.what());
  } catch (const std::bad_alloc&) {
    fail(
        fmt::format("pictures and films: found no memory for the {} bytes of a picture or frame pair or for its "
                    "decoder, expected as much; use fewer pixels or free memory",
                    patches.size()));
  }
}

// Units whose frames are there, worth a pass through the vision tower: waits for them until `deadline`, or until all
// that this rank was told to decode are there.
std::vector<EncodeUnit> FilmRounds::next_batch(std::chrono::steady_clock::time_point deadline) {
  for (;;) {
    std::vector<EncodeUnit> batch;
    std::int64_t patches = 0;
    const std::vector<DecodeAhead::UnitName> there = decoders_.decoded();
    for (std::size_t i = 0; i < there.size() && patches < kVisionBatchPatches; ++i) {
      batch.push_back({there[i].id, there[i].unit, ranks_.place.rank});
      patches += patches_of(films_.at(there[i].id).grid(there[i].unit));
    }
    if (patches >= kAheadPatches || there.size() == own_.size()) {
      return batch;
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      return {};
    }
    const Traced traced(trace_, TracePhase::kDecodeFilm);
    decoders_.wait_for_more(there.size(), deadline);
  }
}

void FilmRounds::encode_ahead(StepResult& result) {
  const auto deadline = std::chrono::steady_clock::now() + kFramesPatience;
  std::vector<EncodeUnit> batch;
  do {
    batch = next_batch(deadline);
    encode_own(batch, result);
  } while (!batch.empty() && std::chrono::steady_clock::now() < deadline);
}

// Units of this rank, in any order of sequences: to Film::encoded.
void FilmRounds::encode_own(const std::vector<EncodeUnit>& units, StepResult& result) {
  const std::int64_t columns = model_.feature_columns();
  const auto grid_of = [&](std::size_t i) { return films_.at(units[i].id).grid(units[i].unit); };
  for (std::size_t at = 0; at < units.size();) {
    const Grid grid = grid_of(at);
    const std::int64_t each = patches_of(grid);
    std::size_t end = at;
    while (end < units.size() && grid_of(end).h == grid.h && grid_of(end).w == grid.w &&
           (end == at || static_cast<std::int64_t>(end - at + 1) * each <= kVisionBatchPatches)) {
      ++end;
    }
    const auto count = static_cast<std::int64_t>(end - at);
    patches_.resize(static_cast<std::size_t>(count * each * kPatchValues));
    for (std::size_t i = at; i < end; ++i) {
      read(units[i],
           {patches_.data() + static_cast<std::int64_t>(i - at) * each * kPatchValues,
            static_cast<std::size_t>(each * kPatchValues)},
           result);
    }
    const Traced traced(trace_, TracePhase::kEncode);
    std::vector<float> features(static_cast<std::size_t>(count * each / 4 * columns));
    model_.encode({{patches_.data(), count * each, kPatchValues}, static_cast<int>(count), grid.h, grid.w},
                  {features.data(), count * each / 4, columns});
    for (std::size_t i = at; i < end; ++i) {
      const auto first = features.begin() + static_cast<std::int64_t>(i - at) * each / 4 * columns;
      films_.at(units[i].id).encoded[units[i].unit].assign(first, first + each / 4 * columns);
      std::erase_if(own_, [&](const EncodeUnit& own) { return own.id == units[i].id && own.unit == units[i].unit; });
    }
    at = end;
  }
}

// Rows of the unit that `rank` needs, as runs of its tokens.
std::vector<Range> FilmRounds::runs_for(const EncodeUnit& unit, int rank) const {
  const Film& film = films_.at(unit.id);
  const std::int64_t first = film.unit(unit.unit).first_token;
  const std::int64_t tokens = columns_for(rank).count() > 0 ? tokens_of(unit) : 0;
  const int member = place_of(ranks_.layout, rank).member;
  std::vector<Range> runs;
  for (std::int64_t token = 0; token < tokens; ++token) {
    if (film.span.computes(first + token) != member) {
      continue;
    }
    if (runs.empty() || runs.back().end != token) {
      runs.push_back({token, token});
    }
    ++runs.back().end;
  }
  return runs;
}

// The values of the runs that `rank` needs, one after the other.
std::vector<float> FilmRounds::gathered(const std::vector<float>& unit, const std::vector<Range>& runs,
                                        int rank) const {
  const Range wanted = columns_for(rank);
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(tokens_in(runs) * wanted.count()));
  for (const Range& run : runs) {
    for (std::int64_t token = run.first; token < run.end; ++token) {
      const float* row = unit.data() + token * model_.feature_columns();
      values.insert(values.end(), row + wanted.first, row + wanted.end);
    }
  }
  return values;
}

// Features travel to the ranks that compute their tokens, in fp32: they become rows of the residual stream.
void FilmRounds::exchange(const std::vector<EncodeUnit>& units, std::vector<std::vector<float>>& rows) {
  const Traced traced(trace_, TracePhase::kExchangeFeatures);
  const auto own = ranks_.place.rank;
  const auto size = static_cast<std::size_t>(ranks_.world->size());
  const std::int64_t columns = columns_for(own).count();
  const auto bytes_of = [&](std::int64_t values) { return static_cast<std::size_t>(values) * sizeof(float); };
  std::vector<std::vector<std::byte>> outgoing(size), incoming(size);
  for (std::size_t i = 0; i < units.size(); ++i) {
    const EncodeUnit& unit = units[i];
    for (int rank = 0; rank < ranks_.world->size(); ++rank) {
      if (rank == own || unit.rank != own) {
        continue;
      }
      auto& out = outgoing[static_cast<std::size_t>(rank)];
      const std::vector<float> values = gathered(rows[i], runs_for(unit, rank), rank);
      const auto bytes = std::as_bytes(std::span(values));
      out.insert(out.end(), bytes.begin(), bytes.end());
    }
    if (unit.rank != own) {
      auto& in = incoming[static_cast<std::size_t>(unit.rank)];
      in.resize(in.size() + bytes_of(tokens_in(runs_for(unit, own)) * columns));
    }
  }
  std::vector<SendPart> sends;
  std::vector<ReceivePart> receives;
  for (std::size_t rank = 0; rank < size; ++rank) {
    if (!outgoing[rank].empty()) {
      sends.push_back({static_cast<int>(rank), outgoing[rank]});
    }
    if (!incoming[rank].empty()) {
      receives.push_back({static_cast<int>(rank), incoming[rank]});
    }
  }
  ranks_.world->exchange(sends, receives, "visual features to their owners");
  std::vector<std::size_t> taken(size, 0);
  for (std::size_t i = 0; i < units.size(); ++i) {
    const EncodeUnit& unit = units[i];
    const std::vector<Range> runs = runs_for(unit, own);
    if (runs.empty()) {
      continue;
    }
    const std::int64_t values = tokens_in(runs) * columns;
    std::vector<float>& kept = films_.at(unit.id).features[unit.unit];
    if (unit.rank != own) {
      const auto from = static_cast<std::size_t>(unit.rank);
      kept.resize(static_cast<std::size_t>(values));
      std::memcpy(kept.data(), incoming[from].data() + taken[from], bytes_of(values));
      taken[from] += bytes_of(values);
    } else if (values == static_cast<std::int64_t>(rows[i].size())) {
      kept = std::move(rows[i]);
    } else {
      kept = gathered(rows[i], runs, own);
    }
  }
}

void FilmRounds::stage(const Chunk& chunk, std::int64_t first_row, StepInputs& inputs, std::vector<float>& visual) {
  Film& film = films_.at(chunk.id);
  const std::int64_t columns = model_.stage().feature_columns.count();
  const std::int64_t end = chunk.first_token + chunk.tokens;
  const int slot = film.span.slot_of(ranks_.place.member);
  for (auto at = film.features.begin(); at != film.features.end();) {
    const VisualUnit& unit = film.unit(at->first);
    const std::int64_t from = std::max(unit.first_token, chunk.first_token);
    const std::int64_t to = std::min(unit.first_token + unit.tokens, end);
    for (std::int64_t token = from; token < to; ++token) {
      if (film.span.computes(token) == ranks_.place.member) {
        inputs.visual_rows.push_back(first_row + film.span.rows_of(slot, chunk.first_token, token));
      }
    }
    if (from < to) {
      const auto row_of = [&](std::int64_t token) {
        return film.span.rows_of(slot, unit.first_token, token) * columns;
      };
      const float* rows = at->second.data();
      visual.insert(visual.end(), rows + row_of(from), rows + row_of(to));
    }
    at = unit.first_token + unit.tokens <= end ? film.features.erase(at) : std::next(at);
  }
}

}  // namespace zoetrope
