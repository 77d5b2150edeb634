// The one catalogue of metric names. Who knows a value is given a reference to it; labels are small closed sets (axes,
// ranks, members, stages), never anything that comes with a request.
#pragma once

#include <array>

#include "monitoring/metrics.h"

namespace zoetrope::catalogue {

// Seconds of one step or one phase: 1 ms to 2 minutes.
inline constexpr std::array<double, 12> kStepBuckets{0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 120};

inline constexpr MetricInfo kSteps{"zoetrope_steps_total", MetricKind::kCounter,
                                   "Steps that had rows to compute or pictures to encode."};
inline constexpr MetricInfo kPrefillTokens{"zoetrope_prefill_tokens_total", MetricKind::kCounter,
                                           "Prompt tokens computed."};
inline constexpr MetricInfo kCachedTokens{"zoetrope_prefix_cached_tokens_total", MetricKind::kCounter,
                                          "Prompt tokens that the prefix cache had, so that nobody computed them."};
inline constexpr MetricInfo kDecodeTokens{"zoetrope_decode_tokens_total", MetricKind::kCounter,
                                          "Drawn tokens computed."};
inline constexpr MetricInfo kVisualUnits{"zoetrope_visual_units_total", MetricKind::kCounter,
                                         "Pictures and pairs of frames encoded."};
inline constexpr MetricInfo kRequests{"zoetrope_requests_total", MetricKind::kCounter,
                                      "Requests that ended, by how: stop, length, aborted.", "outcome"};
inline constexpr MetricInfo kWaiting{"zoetrope_sequences_waiting", MetricKind::kGauge,
                                     "Sequences admitted and not started."};
inline constexpr MetricInfo kRunning{"zoetrope_sequences_running", MetricKind::kGauge, "Sequences running."};
inline constexpr MetricInfo kPagesInUse{"zoetrope_kv_pages_in_use", MetricKind::kGauge,
                                        "KV pages handed out or promised, of each member of the ring.", "member"};
inline constexpr MetricInfo kPagesKept{
    "zoetrope_kv_pages_kept", MetricKind::kGauge,
    "KV pages that only the prefix cache keeps, until a sequence needs them, of each member of the ring.", "member"};
inline constexpr MetricInfo kPages{"zoetrope_kv_pages", MetricKind::kGauge, "KV pages of each member of the ring.",
                                   "member"};
inline constexpr MetricInfo kGrowths{"zoetrope_span_growths_total", MetricKind::kCounter,
                                     "Growths of spans: a sequence was spread over more members of the ring."};
inline constexpr MetricInfo kPagesMoved{"zoetrope_kv_pages_moved_total", MetricKind::kCounter,
                                        "KV pages that growths handed to other members."};
inline constexpr MetricInfo kAttentionPairs{
    "zoetrope_attention_pairs_total", MetricKind::kCounter,
    "Pairs of a row and a token that it attends to, of the rows that each member of the ring computed.", "member"};
inline constexpr MetricInfo kEncodeSeconds{"zoetrope_encode_seconds",
                                           MetricKind::kHistogram,
                                           "Reading and encoding the pictures of a step, at the slowest rank.",
                                           {},
                                           kStepBuckets};
inline constexpr MetricInfo kFilmDecodeSeconds{"zoetrope_film_decode_seconds_total", MetricKind::kCounter,
                                               "Seconds in which ranks decoded pictures, summed over ranks."};
inline constexpr MetricInfo kFilmWaitSeconds{"zoetrope_film_wait_seconds_total", MetricKind::kCounter,
                                             "Of them, seconds in which encoding waited, summed over ranks."};
inline constexpr MetricInfo kPrefillStepSeconds{
    "zoetrope_prefill_step_seconds", MetricKind::kHistogram, "Steps that computed prompt tokens.", {}, kStepBuckets};
inline constexpr MetricInfo kDecodeStepSeconds{
    "zoetrope_decode_step_seconds", MetricKind::kHistogram, "Steps that computed drawn tokens only.", {}, kStepBuckets};
inline constexpr MetricInfo kExpertRows{"zoetrope_expert_rows_total", MetricKind::kCounter,
                                        "Pairs of a token and an expert computed by each rank.", "rank"};
inline constexpr MetricInfo kExpertImbalance{
    "zoetrope_expert_load_max_over_mean_ratio", MetricKind::kGauge,
    "Expert rows of the busiest rank over the mean of its stage, since the start."};
inline constexpr MetricInfo kCollectiveBytes{"zoetrope_collective_bytes_total", MetricKind::kCounter,
                                             "Bytes that all ranks sent, by axis.", "axis"};
inline constexpr MetricInfo kCollectiveMessages{"zoetrope_collective_messages_total", MetricKind::kCounter,
                                                "Messages that all ranks sent, by axis.", "axis"};
inline constexpr MetricInfo kTransferExposed{
    "zoetrope_transfer_exposed_seconds_total", MetricKind::kCounter,
    "Seconds that ranks stood still for messages, by axis, summed over ranks. Those that wait "
    "for the leader's next plan do so on the axis world.",
    "axis"};
inline constexpr MetricInfo kTransferHidden{
    "zoetrope_transfer_hidden_seconds_total", MetricKind::kCounter,
    "Seconds that messages were under way while their rank did other work, by axis, summed over "
    "messages and ranks.",
    "axis"};
inline constexpr MetricInfo kPipelineWait{
    "zoetrope_pipeline_wait_seconds_total", MetricKind::kCounter,
    "Seconds that the ranks of each stage waited for the rows of the stage before, or for room in the next one.",
    "stage"};
inline constexpr MetricInfo kPipelineBubble{
    "zoetrope_pipeline_bubble_ratio", MetricKind::kGauge,
    "Share of their time from tokens to logits in which the ranks of all stages had no rows to compute, "
    "since the start."};

// What a catalogue test walks, and what docs can be checked against.
inline constexpr std::array<const MetricInfo*, 27> kAll{&kSteps,
                                                        &kPrefillTokens,
                                                        &kCachedTokens,
                                                        &kDecodeTokens,
                                                        &kVisualUnits,
                                                        &kRequests,
                                                        &kWaiting,
                                                        &kRunning,
                                                        &kPagesInUse,
                                                        &kPagesKept,
                                                        &kPages,
                                                        &kGrowths,
                                                        &kPagesMoved,
                                                        &kAttentionPairs,
                                                        &kEncodeSeconds,
                                                        &kFilmDecodeSeconds,
                                                        &kFilmWaitSeconds,
                                                        &kPrefillStepSeconds,
                                                        &kDecodeStepSeconds,
                                                        &kExpertRows,
                                                        &kExpertImbalance,
                                                        &kCollectiveBytes,
                                                        &kCollectiveMessages,
                                                        &kTransferExposed,
                                                        &kTransferHidden,
                                                        &kPipelineWait,
                                                        &kPipelineBubble};

}  // namespace zoetrope::catalogue
