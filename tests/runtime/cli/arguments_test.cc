#include "runtime/cli/arguments.h"

#include <gtest/gtest.h>

#include <limits>

#include "monitoring/error.h"

namespace zoetrope {
namespace {

Arguments parse(std::vector<std::string> words) {
  words.insert(words.begin(), "zoetrope");
  std::vector<char*> argv;
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  return parse_arguments(static_cast<int>(argv.size()), argv.data());
}

std::string complaint(const std::vector<std::string>& words) {
  try {
    parse(words);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(Arguments, MediaKeepTheirOrder) {
  const Arguments a = parse({"ask", "--video", "a.mp4", "--image", "b.png", "--video=c.mp4", "What?"});
  EXPECT_EQ(a.command, Command::kAsk);
  ASSERT_EQ(a.ask.media.size(), 3U);
  EXPECT_EQ(a.ask.media[0].reference, "a.mp4");
  EXPECT_FALSE(a.ask.media[1].video);
  EXPECT_EQ(a.ask.media[2].reference, "c.mp4");
  EXPECT_EQ(a.ask.question, "What?");
}

TEST(Arguments, RingTransportsAndBenchesHaveNames) {
  EXPECT_EQ(parse({"ask", "What?"}).run.ring_transport, RingTransport::kAuto);
  EXPECT_EQ(parse({"ask", "What?", "--ring-transport", "shared"}).run.ring_transport, RingTransport::kShared);
  EXPECT_EQ(parse({"bench", "ring", "--ring-transport", "messages"}).run.ring_transport, RingTransport::kMessages);
  EXPECT_EQ(parse({"bench", "fabric"}).bench.what, "fabric");
  EXPECT_NE(complaint({"ask", "What?", "--ring-transport", "pigeons"}), "");
  EXPECT_NE(complaint({"bench", "sing"}), "");
}

TEST(Arguments, ValuesAreRead) {
  const Arguments a = parse({"batch", "--input", "in", "--output", "out", "--precision", "fp32", "--kv-memory", "2GiB",
                             "--tp", "2", "--pp", "3", "--waves", "9"});
  EXPECT_EQ(a.run.pp, 3);
  EXPECT_EQ(a.run.waves, 9);
  EXPECT_EQ(a.run.precision, Precision::kFp32);
  EXPECT_EQ(a.run.kv_bytes, std::int64_t{2} << 30);
  EXPECT_EQ(a.run.tp, 2);
  EXPECT_EQ(a.batch.input, "in");
}

TEST(Arguments, ANegativeNumberIsNoFlag) {
  EXPECT_EQ(parse({"ask", "?", "--presence-penalty", "-1.5"}).ask.presence_penalty, -1.5);
  EXPECT_EQ(parse({"ask", "?", "--presence-penalty", "-.5"}).ask.presence_penalty, -0.5);
}

TEST(Arguments, UnknownFlagsGetTheNearestName) {
  EXPECT_NE(complaint({"ask", "--vidoe", "a", "?"}).find("'--video'"), std::string::npos);
  EXPECT_NE(complaint({"batch", "--inptu", "a"}).find("'--input'"), std::string::npos);
  EXPECT_NE(complaint({"aks", "x"}).find("'ask'"), std::string::npos);
  EXPECT_NE(complaint({"ask", "--xylophone", "?"}).find("unknown flag '--xylophone'"), std::string::npos);
}

TEST(Arguments, ABalancedPlacementNeedsALoad) {
  EXPECT_NE(complaint({"ask", "?", "--expert-placement", "auto"}).find("--expert-load"), std::string::npos);
  EXPECT_NE(complaint({"ask", "?", "--expert-load", "x"}).find("--expert-placement"), std::string::npos);
  EXPECT_NE(complaint({"ask", "?", "--expert-load", "x", "--expert-placement", "y.json"}), "");
  const Arguments a = parse({"ask", "?", "--expert-load", "x", "--expert-placement", "auto", "--expert-extra", "3"});
  EXPECT_EQ(a.run.expert_placement, "auto");
  EXPECT_EQ(a.run.expert_extra, 3);
}

TEST(Arguments, WrongValuesAreUsageErrors) {
  EXPECT_NE(complaint({"ask", "?", "--precision", "int3"}), "");
  EXPECT_NE(complaint({"ask", "?", "--threads", "0"}), "");
  EXPECT_NE(complaint({"batch", "--input", "a"}), "");
  EXPECT_NE(complaint({}), "");
  EXPECT_NE(complaint({"ask"}), "");
}

TEST(Arguments, RingSpanAndTpArePowersOfTwo) {
  for (const std::string flag : {"--ring", "--span", "--tp"}) {
    for (const std::string number : {"1", "2", "4", "8", "16", "32"}) {
      EXPECT_EQ(complaint({"ask", "?", flag, number}), "") << flag;
    }
    const std::string three = complaint({"ask", "?", flag, "3"}),
                      twelve = complaint({"batch", "--input", "i", "--output", "o", flag, "12"});
    EXPECT_EQ(three.find(flag + ": found 3, expected a power of two"), 0U) << three;
    EXPECT_NE(three.find("use " + flag + " 2 or " + flag + " 4"), std::string::npos) << three;
    EXPECT_NE(twelve.find("use " + flag + " 8 or " + flag + " 16"), std::string::npos) << twelve;
  }
  EXPECT_EQ(complaint({"ask", "?", "--pp", "3"}), "");  // stages divide layers, not halves
}

TEST(Arguments, NumbersBeyond64BitsAreShownAsWritten) {
  for (const std::string flag : {"--max-tokens", "--seed", "--num-frames"}) {
    for (const std::string number : {"9223372036854775808", "99999999999999999999", "-99999999999999999999"}) {
      const std::string message = complaint({"ask", "?", flag, number});
      EXPECT_NE(message.find("'" + number + "'"), std::string::npos) << flag << ": " << message;
      EXPECT_NE(message.find("64 bits"), std::string::npos) << flag << ": " << message;
    }
  }
  for (const std::string flag : {"--context", "--kv-memory", "--ring"}) {
    for (const std::string number : {"99999999999999999999", "-99999999999999999999"}) {
      EXPECT_NE(complaint({"ask", "?", flag, number}).find("found '" + number + "', expected"), std::string::npos)
          << flag;
    }
  }
  EXPECT_EQ(parse({"ask", "?", "--seed", "9223372036854775807"}).ask.seed, std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(parse({"ask", "?", "--kv-memory", "3GiB"}).run.kv_bytes, std::int64_t{3} << 30);
  EXPECT_NE(complaint({"ask", "?", "--kv-memory", "99999999999GiB"}), "");
}

TEST(Arguments, AFlagThatMayComeSeveralTimesTakesOneValueEachTime) {
  const AskArguments ask = parse({"ask", "--stop", "END", "What?", "--json", "--stop", "."}).ask;
  EXPECT_EQ(ask.question, "What?");
  EXPECT_EQ(ask.stop, (std::vector<std::string>{"END", "."}));
}

TEST(Arguments, WholeNumbersAreDecimal) {
  EXPECT_EQ(parse({"ask", "?", "--threads", "010"}).run.threads, 10);
  EXPECT_EQ(parse({"ask", "?", "--threads", "08"}).run.threads, 8);
  EXPECT_EQ(parse({"ask", "?", "--seed", "0755"}).ask.seed, 755);
  EXPECT_EQ(parse({"ask", "?", "--seed", "+5"}).ask.seed, 5);
  EXPECT_EQ(parse({"ask", "?", "--temperature", "+0.5"}).ask.temperature, 0.5);
  EXPECT_NE(complaint({"ask", "?", "--seed", "+-5"}).find("found '+-5', expected a whole number"), std::string::npos);
}

TEST(Arguments, WrongValuesAreShownWithWhatIsRight) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> lines = {
      {{"--context", "0"}, "--context: found '0', expected a whole number from 1 on"},
      {{"--context", "abc"}, "--context: found 'abc', expected a whole number from 1 on"},
      {{"--context", "1e3"}, "--context: found '1e3', expected a whole number from 1 on"},
      {{"--sequences", "5000"}, "--sequences: found '5000', expected a whole number from 1 to 4096"},
      {{"--max-tokens", "ten"}, "--max-tokens: found 'ten', expected a whole number"},
      {{"--temperature", "hot"}, "--temperature: found 'hot', expected a number"},
      {{"--kv-memory", "4XB"}, "--kv-memory: found '4XB', expected bytes"},
      {{"--kv-memory", "0"}, "--kv-memory: found '0', expected bytes"},
      {{"--kv-memory", "-1GiB"}, "--kv-memory: found '-1GiB', expected bytes"},
      {{"--kv-memory", "GiB"}, "--kv-memory: found 'GiB', expected bytes"},
      {{"--json=3"}, "--json: found '=3' behind it, expected the flag alone"},
      {{"--system=", "--json"},
       "--system: found nothing behind the '=', expected a value, or --system '' for an empty"},
      {{"--stop=", "--json"}, "--stop: found nothing behind the '=', expected a value; see"},
      {{"--json=true"}, "--json: found '=true' behind it, expected the flag alone"},
      {{"there", "more"}, "found 'there' behind all that belongs there, expected nothing more"},
      {{"--seed", "1", "--seed", "2"}, "--seed: found it 2 times, expected once"},
      {{"--body", "avx9"}, "--body: found 'avx9', expected one of portable|avx2|avx512|avx512bf16"},
      {{"--model", ""}, "--model: found '', expected a value"},
      {{"--image", "--video", "x"}, "--image: found '--video' behind it, expected a value"},
      {{"-.5 of what?"}, "unknown flag '-.5 of what?'"},
      {{"--", "more"}, "found 'more' behind all"},
      {{"--chunk", "64"}, "--chunk: found 64, expected more than --sequences, 64"},
      {{"--stop", ""}, "--stop: found '', expected a value"},
      {{"--fps", "3"}, "--fps: found it without a film"},
      {{"--video"}, "--video: found nothing behind it, expected a value"},
      {{"--model"}, "--model: found nothing behind it, expected a value"}};
  for (const auto& [words, expected] : lines) {
    std::vector<std::string> all{"ask", "?"};
    all.insert(all.end(), words.begin(), words.end());
    EXPECT_EQ(complaint(all).substr(0, expected.size()), expected) << complaint(all);
  }
}

TEST(Arguments, AChunkIsComparedWithSequencesOnlyWhereItWasGiven) {
  EXPECT_EQ(complaint({"ask", "?", "--sequences", "1024"}), "");
  EXPECT_EQ(complaint({"bench", "--chunk", "64"}), "");
  const std::string refusal = complaint({"batch", "--input", "i", "--output", "o", "--chunk", "64"});
  EXPECT_EQ(refusal.find("--chunk: found 64, expected more than --sequences, 64"), 0U) << refusal;
}

TEST(Arguments, ACommandTakesOnlyTheFlagsThatDoSomething) {
  for (const char* flag : {"--span", "--kv-memory", "--context", "--sequences", "--waves", "--ep", "--expert-extra"}) {
    EXPECT_EQ(complaint({"ask", "?", flag, "2"}), "");
    EXPECT_EQ(complaint({"bench", flag, "2"}).find("unknown flag"), 0U) << flag;
  }
  EXPECT_EQ(complaint({"bench", "--trace", "t"}).find("unknown flag"), 0U);
  EXPECT_EQ(complaint({"bench", "--ring", "2", "--tp", "2", "--pp", "2", "--chunk", "9", "--threads", "1"}), "");
  EXPECT_EQ(complaint({"ask", "?", "--no-prefix-cache"}).find("unknown flag"), 0U) << "one question shares with nobody";
  EXPECT_EQ(complaint({"batch", "--input", "i", "--output", "o", "--no-prefix-cache"}), "");
}

TEST(Arguments, WhatIsMissingIsNamed) {
  EXPECT_EQ(complaint({}).find("found no command, expected one of ask, batch"), 0U) << complaint({});
  EXPECT_EQ(complaint({"ask"}).find("question: found none"), 0U) << complaint({"ask"});
  EXPECT_EQ(complaint({"batch", "--input", "x"}).find("--output: found none"), 0U)
      << complaint({"batch", "--input", "x"});
  EXPECT_EQ(complaint({"bench", "foo"}).find("what: found 'foo', expected one of kernels|ring"), 0U)
      << complaint({"bench", "foo"});
  EXPECT_EQ(complaint({"ask", "?", "--system", ""}), "");  // an empty text is one
}

TEST(Arguments, BytesHaveUnitsAndFractions) {
  const std::vector<std::pair<std::string, std::int64_t>> values = {{"1", 1},
                                                                    {"512", 512},
                                                                    {"100B", 100},
                                                                    {"2k", 2048},
                                                                    {"1.5GiB", std::int64_t{3} << 29},
                                                                    {"3 MB", 3 << 20},
                                                                    {"1tib", std::int64_t{1} << 40}};
  for (const auto& [word, bytes] : values) {
    EXPECT_EQ(parse({"ask", "?", "--kv-memory", word}).run.kv_bytes, bytes) << word;
  }
}

TEST(Arguments, HelpIsForPeople) {
  EXPECT_NE(parse({"--help"}).help.find("mpirun"), std::string::npos);
  EXPECT_NE(parse({"ask", "--help"}).help.find("--video"), std::string::npos);
}

}  // namespace
}  // namespace zoetrope
