#include "monitoring/trace.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <fstream>
#include <set>
#include <sstream>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

namespace fs = std::filesystem;

TEST(Trace, RecordsNestedSpansAndNothingWhenOff) {
  { const Traced off(nullptr, TracePhase::kStep); }
  TraceRecorder recorder;
  {
    const Traced outer(&recorder, TracePhase::kForward);
    const Traced inner(&recorder, TracePhase::kAttention, 3);
  }
  const std::vector<TraceSpan> spans = recorder.take();
  ASSERT_EQ(spans.size(), 2U);
  EXPECT_TRUE(recorder.take().empty());
  EXPECT_EQ(spans[0].phase, TracePhase::kAttention);
  EXPECT_EQ(spans[0].index, 3);
  EXPECT_EQ(spans[1].phase, TracePhase::kForward);
  EXPECT_LE(spans[1].begin_ns, spans[0].begin_ns);
  EXPECT_LE(spans[0].begin_ns, spans[0].end_ns);
  EXPECT_LE(spans[0].end_ns, spans[1].end_ns);
}

TEST(Trace, NotesThePhaseWhileItLasts) {
  PhaseNote note;
  EXPECT_EQ(described(note), "'start of MPI', before the first step");
  TraceRecorder recorder(&note, /*keeps_spans=*/false);
  {
    const Traced step(&recorder, TracePhase::kStep, 12);
    EXPECT_EQ(described(note), "'step', step 12");
    {
      const Traced attention(&recorder, TracePhase::kAttention, 0);
      EXPECT_EQ(described(note), "'attention', layer 0, step 12");
      const Traced ring(&recorder, TracePhase::kRing);
      EXPECT_EQ(described(note), "'ring', layer 0, step 12");
    }
    const Traced head(&recorder, TracePhase::kHead);
    EXPECT_EQ(described(note), "'head', step 12");
  }
  EXPECT_EQ(described(note), "'start of MPI', step 12");
  EXPECT_TRUE(recorder.take().empty());
  note.enter(1000, -1);
  EXPECT_EQ(described(note), "'an unknown phase', step 12");
}

TEST(Trace, EveryPhaseHasAName) {
  std::set<std::string_view> names;
  for (std::int32_t phase = 0; phase < static_cast<std::int32_t>(TracePhase::kCount); ++phase) {
    names.insert(name_of(static_cast<TracePhase>(phase)));
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(TracePhase::kCount));
  EXPECT_EQ(names.count(""), 0U);
}

// The format: an object with traceEvents; complete events (ph X) with name, pid, tid, ts and dur in microseconds.
TEST(TraceFileTest, IsAChromeTrace) {
  const fs::path file = fs::temp_directory_path() / ("trace." + std::to_string(::getpid()));
  {
    TraceFile trace(file, std::vector<std::string>{"rank 0 on a\"b\\c", "rank 1\n"});
    const TraceSpan first[] = {{TracePhase::kDispatch, 7, 1'234'567, 2'000'000}, {TracePhase::kStep, -1, 0, 5'000'001}};
    trace.add(1, first);
    trace.add(0, {});
  }
  std::ifstream in(file);
  std::ostringstream text;
  text << in.rdbuf();
  fs::remove(file);
  const auto parsed = boost::json::parse(text.str()).as_object();
  const auto& events = parsed.at("traceEvents").as_array();
  ASSERT_EQ(events.size(), 7U);
  EXPECT_EQ(events[1].at("args").at("name").as_string(), "rank 0 on a\"b\\c");
  EXPECT_EQ(events[3].at("tid").as_int64(), 1);
  EXPECT_EQ(events[3].at("args").at("name").as_string(), "rank 1\n");
  const auto& dispatch = events[5].as_object();
  EXPECT_EQ(dispatch.at("ph").as_string(), "X");
  EXPECT_EQ(dispatch.at("name").as_string(), "dispatch");
  EXPECT_EQ(dispatch.at("tid").as_int64(), 1);
  EXPECT_DOUBLE_EQ(dispatch.at("ts").to_number<double>(), 1234.567);
  EXPECT_DOUBLE_EQ(dispatch.at("dur").to_number<double>(), 765.433);
  EXPECT_EQ(dispatch.at("args").at("index").as_int64(), 7);
  EXPECT_FALSE(events[6].as_object().contains("args"));
}

TEST(TraceFileTest, WithoutSpansIsValidToo) {
  const fs::path file = fs::temp_directory_path() / ("trace-empty." + std::to_string(::getpid()));
  { const TraceFile trace(file, {}); }
  std::ifstream in(file);
  std::ostringstream text;
  text << in.rdbuf();
  fs::remove(file);
  EXPECT_EQ(boost::json::parse(text.str()).at("traceEvents").as_array().size(), 1U);
}

TEST(TraceFileTest, SaysWhyItCannotBeMade) { EXPECT_THROW(TraceFile("/proc/no/such/place", {}), Error); }

}  // namespace
}  // namespace zoetrope
