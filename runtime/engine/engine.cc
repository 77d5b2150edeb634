#include "runtime/engine/engine.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <bit>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "kernels/body.h"
#include "monitoring/check.h"
#include "monitoring/error.h"
#include "monitoring/log.h"
#include "monitoring/trace.h"
#include "parallel/collectives.h"
#include "parallel/control_channel.h"
#include "parallel/ring_rates.h"
#include "runtime/engine/answer_builder.h"
#include "runtime/engine/start_checks.h"
#include "runtime/engine/step_cost.h"
#include "runtime/engine/step_message.h"
#include "runtime/engine/step_runner.h"
#include "runtime/prompt/token_checks.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"
#include "scheduler/stretches.h"

namespace zoetrope {
namespace {

using namespace std::chrono_literals;

// A step of a large model on few cores takes minutes; a rank that died is noticed by the launcher, not by this
// deadline.
constexpr auto kExchangeDeadline = 1800s;
// How often an idle leader tells its followers that it lives.
constexpr auto kBeat = 5s;

HostShare share_of(const Ranks& ranks) {
  return {ranks.host_name, std::max(1, ranks.host->local_ranks()), host_room()};
}

// Headers are read, and what can be refused by arithmetic is refused; no weight is touched yet.
Checkpoint checked_checkpoint(const std::filesystem::path& folder, const Ranks& ranks, const EngineSettings& settings) {
  Checkpoint checkpoint = Checkpoint::open(folder);
  check_start(checkpoint.config(), ranks.layout, settings, share_of(ranks));
  return checkpoint;
}

// What a rank's part of a stretch may take: as many bytes of pixels or, once it is encoded, of features. There may be
// four: three of pixels, of which one is being encoded or kept as memory for those to come, and one of features.
constexpr std::int64_t kStretchBytes = std::int64_t{16} << 20;
constexpr std::int64_t kPixelBytesOfToken = 2 * 32 * 32 * 3;  // two frames

std::int64_t stretch_tokens_for(const EngineSettings& settings, const Model& model) {
  const std::int64_t feature_bytes = model.feature_columns() * static_cast<std::int64_t>(sizeof(float));
  return settings.stretch_tokens > 0
             ? settings.stretch_tokens
             : std::max<std::int64_t>(1, kStretchBytes / std::max(feature_bytes, kPixelBytesOfToken));
}

// A long prompt goes through buffers of twice its size that are free again: the allocator would keep them.
void trim_memory_after(std::size_t message_bytes) {
  constexpr std::size_t kLong = std::size_t{1} << 20;
  if (message_bytes >= kLong) {
    ::malloc_trim(0);
  }
}

// What this rank has sent on every axis, and how long it waited.
void log_traffic(const Ranks& ranks) {
  for (const auto& [axis, book] : books_of(ranks)) {
    for (const TrafficEntry& entry : book->entries()) {
      log::info("traffic", {{"axis", axis},
                            {"operation", entry.what},
                            {"exchanges", entry.exchanges},
                            {"messages", entry.sent.messages},
                            {"bytes", entry.sent.bytes},
                            {"exposed_seconds", entry.exposed_seconds},
                            {"hidden_seconds", entry.hidden_seconds}});
    }
  }
}

std::int32_t smallest_over_ranks(Communicator& world, std::int32_t value, std::string_view what) {
  return std::ranges::min(all_gather_value(world, value, what));
}

}  // namespace

struct Engine::State {
  struct Submission {
    RequestId id{};
    ChatRequest request;
    Prompt prompt;
    RequestCallbacks callbacks;
    AnswerBuilder::Clock::time_point submitted_at = AnswerBuilder::Clock::now();
  };
  struct Live {
    std::unique_ptr<AnswerBuilder> answer;
    std::int64_t prompt_tokens = 0, tokens_max = 0;  // tokens_max: with the longest answer
    SequencePayload payload;                         // until the sequence starts
    std::string failure;                             // why it is being cancelled
  };

  Ranks& ranks;
  EngineSettings settings;
  ThreadPool pool;
  Compute compute;
  Checkpoint checkpoint;
  Tokenizer tokenizer;
  ChatTemplate chat_template;
  PromptWriter writer;
  std::unique_ptr<Model> model;
  std::unique_ptr<StepRunner> runner;
  std::unique_ptr<Planner> planner;
  TraceRecorder recorder;
  std::unique_ptr<StepReport> report;  // leader
  ControlChannel control;
  std::map<RequestId, Live> live;       // engine thread
  AnswerBuilder::VisualSeconds visual;  // of the steps since units were encoded last

  std::mutex mutex;  // guards what follows
  std::condition_variable arrived;
  std::deque<Submission> submissions;
  std::vector<RequestId> cancellations;
  std::uint64_t next_id = 1;
  bool finished = false;

  State(const std::filesystem::path& folder, Ranks& ranks_, const EngineSettings& settings_)
      : ranks(ranks_),
        settings(settings_),
        pool(std::max(1, settings_.threads)),
        checkpoint(checked_checkpoint(folder, ranks_, settings_)),
        tokenizer(Tokenizer::load(folder)),
        chat_template(ChatTemplate::load(folder)),
        recorder(ranks_.note, !settings_.report.trace_file.empty()),
        control(*ranks_.world) {
    check_tokens(tokenizer, checkpoint.config());
    compute = {&body(settings.body.empty() ? best_body() : body_named(settings.body)), &pool, settings.precision};
    compute.trace = &recorder;
  }

  void agree();
  void load(const std::function<void(double)>& progress);
  void measure_work(SchedulerLimits& limits) const;
  void start_report(std::int32_t pages);
  void lead();
  void follow();
  void take_in();
  void admit(Submission submission);
  StepMessage message_of(StepPlan plan);
  std::size_t send(const StepMessage& message);  // bytes
  StepMessage received(std::size_t& bytes);
  void log_memory(const SequenceStart& start) const;
  std::vector<std::vector<std::byte>> collected(const StepResult& own);
  std::vector<Drawn> deliver(const StepPlan& plan, const std::vector<StepResult>& results);
  static std::vector<PendingFrames> pending_of(const std::vector<StepResult>& results);
  void conclude(const std::vector<Finished>& done);
};

// Ranks that would not give the same bits must not start together.
void Engine::State::agree() {
  if (settings.body.empty()) {  // hosts differ, and the fastest body of each is measured: all take the oldest of them
    const auto oldest =
        smallest_over_ranks(*ranks.world, static_cast<std::int32_t>(best_body()), "agreeing on kernels");
    compute.body = &body(static_cast<BodyKind>(oldest));
  }
  const std::string identity = fmt::format("{} {} {}", checkpoint.digest(), compute.body->name,
                                           settings.precision == Precision::kBf16 ? "bf16" : "fp32");
  if (!all_equal(*ranks.world, std::as_bytes(std::span(identity)), "comparing checkpoints and kernels")) {
    refuse(Radius::kStartup, {fmt::format("rank {} on {}", ranks.place.rank, ranks.host_name), identity,
                              "the same checkpoint, kernels and precision on every rank",
                              "copy the checkpoint to every host and name one body for all (--body)"});
  }
}

void Engine::State::load(const std::function<void(double)>& progress) {
  ranks.world->set_deadline(kExchangeDeadline);
  ranks.tp->set_deadline(kExchangeDeadline);
  ranks.ring->set_deadline(kExchangeDeadline);
  agree();
  const std::int64_t chunk_tokens = std::max<std::int64_t>(settings.chunk_tokens_max, settings.sequences_max + 1);
  Model::Options options;
  options.compute = compute;
  options.progress = progress;
  options.ring_pass = settings.ring_pass;
  options.shared_rows_max = chunk_tokens + chunk_tokens / 2;
  options.experts = placed_experts(settings.experts, checkpoint.config(), ranks, ranks.layout.stage_ranks());
  model = Model::load(checkpoint, ranks, options);
  const ModelConfig& config = checkpoint.config();
  const std::int64_t context = context_of(config, settings);
  const std::int32_t pages = smallest_over_ranks(
      *ranks.world, kv_pages(config, ranks.layout, settings, share_of(ranks)), "agreeing on KV pages");
  check_context_fits(config, ranks.layout, settings, pages);
  writer.tokenizer = &tokenizer;
  writer.chat_template = &chat_template;
  writer.image = ImageProcessor::load(checkpoint.folder());
  writer.video = VideoProcessor::load(checkpoint.folder());
  writer.image_token = config.image_token;
  writer.video_token = config.video_token;
  writer.vision_start = config.vision_start;
  writer.vision_end = config.vision_end;
  writer.context_tokens_max = context;
  writer.fingerprints = settings.prefix_cache;
  runner = std::make_unique<StepRunner>(*model, ranks, compute, pages, settings.ring_transport);
  SchedulerLimits limits{.context_tokens_max = context,
                         .pages_per_member = pages,
                         .chunk_tokens_max = chunk_tokens,
                         .sequences_max = settings.sequences_max,
                         .span_pages = settings.span_pages,
                         .stretch_tokens = stretch_tokens_for(settings, *model),
                         .look_ahead = settings.look_ahead,
                         .span_members = settings.span_members,
                         .waves_max = ranks.layout.pp == 1     ? 1
                                      : settings.waves_max > 0 ? settings.waves_max
                                                               : 4 * ranks.layout.pp,
                         .wave_cost = wave_cost(config.text),
                         .full_chunk_context = settings.full_chunk_context};
  measure_work(limits);
  if (settings.work) {
    limits.work = limits.host_work = *settings.work;
  }
  const WorkModel work = limits.work, host_work = limits.hosts.empty() ? limits.work : limits.host_work;
  planner = std::make_unique<Planner>(ranks.layout, std::move(limits));
  start_report(pages);
  log::info("engine ready",
            {{"body", compute.body->name},
             {"threads", pool.threads()},
             {"layout", zoetrope::described(ranks.layout)},
             {"ring_transport", runner->ring_transport()},
             // In tokens of context that a row attends to (scheduler/work.h).
             {"page_visit_tokens", work.shared ? 0 : work.page_visit},
             {"row_visit_tokens", work.row_visit},
             {"exchange_tokens", work.exchange},
             {"host_exchange_tokens", host_work.exchange},  // of spans within a host
             {"kv_pages", pages},
             {"kv_bytes", static_cast<std::int64_t>(pages) *
                              static_cast<std::int64_t>(KvCache::bytes_per_page(model->kv_layout(), model->layers()))},
             {"weights_bytes", model->resident_bytes()},
             {"context_tokens", context}});
}

// What spans cost: of one host where all members share one, else over the network, and within the hosts that have
// several.
void Engine::State::measure_work(SchedulerLimits& limits) const {
  const TextConfig& text = model->config().text;
  const int heads = text.heads / ranks.layout.tp;
  const auto priced = [&](const RingRates& rates, bool shared) {
    RingJob job;
    job.span = {.members = 1, .first_member = 0, .ring = ranks.layout.ring};
    return work_model(text, rates, RingAttention::step_of(model->kv_layout(), heads, job, shared));
  };
  const std::vector<std::int32_t>& hosts = runner->hosts();
  const bool one_host = !hosts.empty() && std::ranges::count(hosts, hosts[0]) == std::ssize(hosts);
  limits.work = priced(model->ring_rates(), one_host);
  if (hosts.empty() || one_host) {
    return;
  }
  const RingRates rates =
      rates_within_hosts(*ranks.ring, compute, model->kv_layout(), heads, model->ring_rates(), hosts);
  if (rates.known()) {
    model->set_host_rates(rates);
    limits.hosts = hosts;
    limits.host_work = priced(rates, true);
  }
}

void Engine::State::start_report(std::int32_t pages) {
  const std::string own = fmt::format("rank {} on {}", ranks.place.rank, ranks.host_name);
  std::vector<std::string> lanes;
  for (const auto& lane : all_gather(*ranks.world, std::as_bytes(std::span(own)), "names of ranks")) {
    lanes.emplace_back(reinterpret_cast<const char*>(lane.data()), lane.size());
  }
  if (ranks.leader()) {
    report = std::make_unique<StepReport>(settings.report, ranks.layout, pages, lanes);
  }
  barrier(*ranks.world, "a common origin of time");
  recorder.restart();
}

void Engine::State::admit(Submission submission) {
  Request request;
  request.id = submission.id;
  request.prompt_tokens = static_cast<std::int64_t>(submission.prompt.tokens.size());
  request.new_tokens_max = submission.request.new_tokens_max.value_or(
      std::max<std::int64_t>(1, writer.context_tokens_max - request.prompt_tokens));
  for (const VisualUnit& unit : submission.prompt.units) {
    const Medium& medium = submission.prompt.media[static_cast<std::size_t>(unit.medium)];
    request.units.push_back(
        {unit.first_token, unit.tokens, unit.clean != 0, unit.fingerprint, medium.kind == Medium::Kind::kFilm});
  }
  if (settings.prefix_cache) {
    request.tokens = submission.prompt.tokens;
  }
  Live entry;
  entry.answer = std::make_unique<AnswerBuilder>(submission.id, submission.request, submission.prompt, tokenizer,
                                                 checkpoint.generation().eos, std::move(submission.callbacks),
                                                 submission.submitted_at);
  if (const auto why = planner->refusal(request)) {
    entry.answer->finish(FinishReason::kAborted, *why);
    return;
  }
  entry.prompt_tokens = request.prompt_tokens;
  entry.tokens_max = request.prompt_tokens + request.new_tokens_max;
  entry.payload = {std::move(submission.prompt), submission.request.sampling};
  live.emplace(submission.id, std::move(entry));
  planner->submit(request);
}

// Waits until there is something to do or a beat is due; moves what arrived to the planner.
void Engine::State::take_in() {
  std::deque<Submission> taken;
  std::vector<RequestId> cancelled;
  {
    std::unique_lock lock(mutex);
    if (planner->idle()) {
      arrived.wait_for(lock, kBeat, [&] { return finished || !submissions.empty() || !cancellations.empty(); });
    }
    taken.swap(submissions);
    cancelled.swap(cancellations);
  }
  for (Submission& submission : taken) {
    admit(std::move(submission));
  }
  for (const RequestId id : cancelled) {
    planner->cancel(id);
  }
}

// What a sequence will take of the leader or of the busiest member of its span: its pages at its longest (of which a
// growth leaves a member fewer) and memory for those that visit by messages, the prompt, what the planner and the
// prefix cache know of it, and of its film what is decoded ahead, as patches or as features already, and held as
// features: when nothing is encoded yet or when a whole stretch is, whichever is more. Ahead is the stretch that the
// step encodes, and what the planner lets decoders have beside it: room for two of the most tokens. (Features on their
// way between ranks and the message that brings the prompt are not counted: they are freed before the step computes.)
void Engine::State::log_memory(const SequenceStart& start) const {
  const Live& entry = live.at(start.id);
  const Prompt& prompt = entry.payload.prompt;
  const std::int64_t all_pages = div_ceil<std::int64_t>(entry.tokens_max, kPageTokens);
  std::int64_t unit_tokens = 0, film_tokens = 0;
  for (const VisualUnit& unit : prompt.units) {
    if (unit.first_token + unit.tokens > start.cached_tokens) {
      unit_tokens = std::max(unit_tokens, unit.tokens);
      film_tokens += unit.tokens;
    }
  }
  const std::int64_t size = ranks.layout.ranks(), part = stretch_tokens_for(settings, *model);
  const std::int64_t units_max = kLongStretch * SchedulerLimits{}.stretch_units * size;
  const std::int64_t stretch = std::max(unit_tokens, std::min(part * size, units_max * unit_tokens));
  const std::int64_t feature_bytes = model->feature_columns() * static_cast<std::int64_t>(sizeof(float));
  const auto film_bytes = [&](std::int64_t held) {
    const std::int64_t others = film_tokens - held;
    const std::int64_t ahead = std::min(std::max(div_ceil(others, size), std::min(others, unit_tokens)),
                                        std::max(2 * part + div_ceil(stretch, size), unit_tokens));
    return ahead * std::max(kPixelBytesOfToken, feature_bytes) +
           div_ceil<std::int64_t>(held, start.span.members) * feature_bytes;
  };
  // At every rank; and at the leader with the planner, and page by page with the prefix cache.
  std::size_t prompt_bytes =
      prompt.tokens.size() * (sizeof(TokenId) + sizeof(Position)) + prompt.units.size() * sizeof(VisualUnit);
  prompt_bytes += prompt.units.size() * sizeof(UnitSpan);
  if (settings.prefix_cache) {
    prompt_bytes += 2 * (prompt.tokens.size() * sizeof(TokenId) + prompt.units.size() * sizeof(UnitSpan));
  }
  for (const Medium& medium : prompt.media) {  // the prompt's and the decoders'
    prompt_bytes += 2 * medium.frames.size() * sizeof(medium.frames[0]);
  }
  log::info(
      "memory planned",
      {{"request", static_cast<std::int64_t>(start.id)},
       {"members", start.span.members},
       {"prompt_tokens", entry.prompt_tokens},
       {"kv_bytes", runner->kv_bytes(start.span.pages_of(0, all_pages))},
       {"visiting_bytes",
        runner->sends_pages(start.span) ? RingAttention::visiting_bytes(model->kv_layout(), start.span, all_pages) : 0},
       {"weights_bytes", model->resident_bytes()},
       {"prompt_bytes", prompt_bytes},
       {"film_bytes", std::max(film_bytes(0), film_bytes(std::min(film_tokens, stretch)))}});
}

StepMessage Engine::State::message_of(StepPlan plan) {
  StepMessage message;
  for (const SequenceStart& start : plan.starts) {
    log_memory(start);
    Live& entry = live.at(start.id);
    entry.answer->started(start.span.members, start.cached_tokens);
    message.payloads.push_back(std::move(entry.payload));
  }
  for (const Growth& growth : plan.growths) {
    live.at(growth.id).answer->grown(growth.span.members);
  }
  message.plan = std::move(plan);
  return message;
}

// Tokens, failures and times of one step to their requests.
std::vector<Drawn> Engine::State::deliver(const StepPlan& plan, const std::vector<StepResult>& results) {
  AnswerBuilder::VisualSeconds step;
  std::vector<Drawn> drawn;
  for (const StepResult& result : results) {
    step.encode = std::max(step.encode, result.encode_seconds);
    step.decode = std::max(step.decode, result.film_decode_seconds);
    step.wait = std::max(step.wait, result.film_wait_seconds);
    step.cpu += result.film_cpu_seconds;
    for (const FailedSequence& failure : result.failed) {
      if (const auto at = live.find(failure.id); at != live.end() && at->second.failure.empty()) {
        at->second.failure = failure.why;
        planner->fail(failure.id);
      }
    }
  }
  // What is decoded ahead is counted with the units that come next.
  visual.encode += step.encode;
  visual.decode += step.decode;
  visual.wait += step.wait;
  visual.cpu += step.cpu;
  for (const EncodeUnit& unit : plan.encode) {
    live.at(unit.id).answer->encoded_for(visual, 1 / static_cast<double>(plan.encode.size()));
  }
  if (!plan.encode.empty()) {
    visual = {};
  }
  for (const Chunk& chunk : plan.chunks) {
    Live& entry = live.at(chunk.id);
    if (chunk.first_token < entry.prompt_tokens) {
      entry.answer->prefilled_to(chunk.first_token + chunk.tokens);
    }
  }
  for (const StepResult& result : results) {
    for (const DrawnRow& row : result.drawn) {
      Live& entry = live.at(row.id);
      const bool ended = entry.failure.empty() && entry.answer->add(row.sampled);
      drawn.push_back({row.id, {row.sampled.token}, ended});
    }
  }
  return drawn;
}

std::vector<PendingFrames> Engine::State::pending_of(const std::vector<StepResult>& results) {
  std::vector<PendingFrames> pending;
  for (const StepResult& result : results) {
    pending.insert(pending.end(), result.pending.begin(), result.pending.end());
  }
  return pending;
}

void Engine::State::conclude(const std::vector<Finished>& done) {
  for (const Finished& finish : done) {
    const auto at = live.find(finish.id);
    check(at != live.end(), "a request finished that nobody submitted");
    at->second.answer->finish(finish.reason, std::move(at->second.failure));
    live.erase(at);
  }
}

// What a step gave, of every rank at the leader.
std::vector<std::vector<std::byte>> Engine::State::collected(const StepResult& own) {
  const Traced traced(compute.trace, TracePhase::kCollect);
  return control.collect(encoded(own));
}

std::size_t Engine::State::send(const StepMessage& message) {
  const std::vector<std::byte> bytes = encoded(message);
  control.send(bytes);
  return bytes.size();
}

StepMessage Engine::State::received(std::size_t& bytes) {
  const std::vector<std::byte> message = control.receive();
  bytes = message.size();
  return decoded_message(message);
}

void Engine::State::lead() {
  for (;;) {
    {
      const Traced idle(compute.trace, TracePhase::kIdle);
      take_in();
    }
    bool ending = false;
    {
      const std::lock_guard lock(mutex);
      ending = finished && submissions.empty() && planner->idle();
    }
    const auto started = std::chrono::steady_clock::now();
    std::optional<Traced> planning(std::in_place, compute.trace, TracePhase::kPlan);
    StepMessage message = message_of(planner->plan());
    message.plan.stop = ending;
    const std::size_t message_bytes = send(message);
    planning.reset();
    if (ending) {
      return;
    }
    const StepResult own = runner->run(message);
    std::vector<StepResult> results;
    for (const auto& bytes : collected(own)) {
      results.push_back(decoded_result(bytes));
    }
    report->step(message.plan, results,
                 std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
    const std::vector<Finished> done = planner->commit(deliver(message.plan, results), pending_of(results));
    conclude(done);
    report->committed(done, *planner);
    trim_memory_after(message_bytes);
  }
}

void Engine::State::follow() {
  for (;;) {
    std::optional<Traced> idle(std::in_place, compute.trace, TracePhase::kIdle);
    std::size_t message_bytes = 0;
    StepMessage message = received(message_bytes);
    idle.reset();
    if (message.plan.stop) {
      return;
    }
    const StepResult own = runner->run(message);
    collected(own);
    trim_memory_after(message_bytes);
  }
}

Engine::Engine(const std::filesystem::path& checkpoint, Ranks& ranks, const EngineSettings& settings,
               std::function<void(double)> load_progress) {
  const FpEnvironment environment;
  TraceRecorder notes(ranks.note, /*keeps_spans=*/false);  // the common origin of time comes with the end of loading
  const Traced loading(&notes, TracePhase::kLoad);
  state_ = std::make_unique<State>(checkpoint, ranks, settings);
  state_->load(load_progress);
}

Engine::~Engine() = default;

const PromptWriter& Engine::prompt_writer() const { return state_->writer; }
const GenerationConfig& Engine::generation() const { return state_->checkpoint.generation(); }
const ModelConfig& Engine::config() const { return state_->checkpoint.config(); }

std::string Engine::fingerprint() const {
  return fmt::format("{}-{}-p{}-c{}", state_->checkpoint.digest().substr(0, 16),
                     state_->settings.precision == Precision::kBf16 ? "bf16" : "fp32", kPageTokens, kPageClasses);
}

std::string Engine::described() const {
  return fmt::format("{}, {} thread{} per rank, {}, {}", state_->compute.body->name, state_->pool.threads(),
                     state_->pool.threads() == 1 ? "" : "s",
                     state_->settings.precision == Precision::kBf16 ? "bf16" : "fp32",
                     zoetrope::described(state_->ranks.layout));
}

RequestId Engine::submit(ChatRequest request, Prompt prompt, RequestCallbacks callbacks) {
  const std::lock_guard lock(state_->mutex);
  check(!state_->finished, "a request was submitted after finish()");
  const RequestId id{state_->next_id++};
  state_->submissions.push_back({id, std::move(request), std::move(prompt), std::move(callbacks)});
  state_->arrived.notify_one();
  return id;
}

void Engine::cancel(RequestId id) {
  const std::lock_guard lock(state_->mutex);
  state_->cancellations.push_back(id);
  state_->arrived.notify_one();
}

void Engine::finish() {
  const std::lock_guard lock(state_->mutex);
  state_->finished = true;
  state_->arrived.notify_one();
}

void Engine::run() {
  const FpEnvironment environment;
  if (state_->ranks.leader()) {
    state_->lead();
  } else {
    state_->follow();
  }
  log_traffic(state_->ranks);
  if (const auto& file = state_->settings.experts.load_out; !file.empty()) {
    write_expert_load(file, state_->model->expert_counts(), state_->ranks);
  }
}

}  // namespace zoetrope
