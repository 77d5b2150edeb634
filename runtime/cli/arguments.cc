#include "runtime/cli/arguments.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <cctype>
#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "monitoring/error.h"
#include "runtime/prompt/nearest_name.h"

namespace zoetrope {
namespace {

constexpr const char* kAbout =
    "Zoetrope answers questions about pictures and films with Qwen3-VL, on one core or on many machines.\n"
    "Put mpirun in front and every command runs on all ranks: mpirun -n 4 zoetrope batch ...";

// One of a few words, which stays a word.
CLI::Validator word_of(const std::vector<std::string>& words) {
  const std::string names = fmt::format("{}", fmt::join(words, "|"));
  return CLI::Validator(
      [words, names](std::string& word) {
        return std::ranges::find(words, word) != words.end()
                   ? std::string()
                   : fmt::format("found {}, expected one of {}", zoetrope::quoted(word), names);
      },
      names);
}

// A name of an enumerator, handed on as its number; the number is no name.
template <typename T>
CLI::Validator one_of(const std::map<std::string, T>& values) {
  std::vector<std::string> names;
  std::ranges::transform(values, std::back_inserter(names), [](const auto& value) { return value.first; });
  const CLI::Validator known = word_of(names);
  return CLI::Validator(
      [values, known](std::string& word) {
        std::string refusal = known(word);
        if (refusal.empty()) {
          word = std::to_string(static_cast<std::int64_t>(values.at(word)));
        }
        return refusal;
      },
      known.get_description());
}

// The whole number in decimal that `word` is from its first to its last character; nothing else is one.
std::optional<std::int64_t> whole_number(std::string_view word) {
  if (word.starts_with('+') && !word.starts_with("+-")) {
    word.remove_prefix(1);
  }
  std::int64_t number = 0;
  const auto read = std::from_chars(word.data(), word.data() + word.size(), number);
  return read.ec == std::errc() && read.ptr == word.data() + word.size() ? std::optional(number) : std::nullopt;
}

// Handed on without zeros in front, with which the parser would take it for octal.
CLI::Validator whole(std::int64_t least, std::int64_t most) {
  const bool bounded = most < std::numeric_limits<std::int64_t>::max();
  const std::string range = bounded ? fmt::format("from {} to {}", least, most) : fmt::format("from {} on", least);
  return CLI::Validator(
      [least, most, range](std::string& word) {
        const std::optional<std::int64_t> number = whole_number(word);
        if (!number || *number < least || *number > most) {
          return fmt::format("found {}, expected a whole number {}", zoetrope::quoted(word), range);
        }
        word = std::to_string(*number);
        return std::string();
      },
      range);
}

// Bytes as people write them; units are powers of 1024 with or without the i. Handed on as a whole number.
CLI::Validator bytes() {
  return CLI::Validator(
      [](std::string& word) {
        double number = 0;
        const char* end = word.data() + word.size();
        const auto read = std::from_chars(word.data(), end, number);
        std::string unit;
        std::transform(read.ptr, end, std::back_inserter(unit),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        static const std::map<std::string, int> powers{
            {"", 0},    {"b", 0},    {"k", 10}, {"kb", 10}, {"kib", 10}, {"m", 20}, {"mb", 20}, {"mib", 20}, {"g", 30},
            {"gb", 30}, {"gib", 30}, {"t", 40}, {"tb", 40}, {"tib", 40}, {"p", 50}, {"pb", 50}, {"pib", 50}};
        const auto power = powers.find(unit.substr(std::min(unit.size(), unit.find_first_not_of(' '))));
        if (read.ec == std::errc() && power != powers.end()) {
          number = std::ldexp(number, power->second);
          if (number >= 1 && number < 0x1p63) {
            word = std::to_string(static_cast<std::int64_t>(number));
            return std::string();
          }
        }
        return fmt::format(
            "found {}, expected bytes from 1 on, e.g. 512MiB or 1.5GiB (units: B, KiB, MiB, GiB, TiB, PiB)",
            zoetrope::quoted(word));
      },
      "");
}

// Of whatever computes over ranks: the benchmarks take these.
void add_rank_options(CLI::App* app, RunArguments& run) {
  app->add_option("--model", run.model,
                  "folder of a Qwen3-VL checkpoint as published (left out: the small bundled one)");
  static const std::map<std::string, Precision> precisions{{"bf16", Precision::kBf16}, {"fp32", Precision::kFp32}};
  app->add_option("--precision", run.precision, "bf16 (products of bf16 numbers, sums in fp32) or fp32; default bf16")
      ->transform(one_of(precisions));
  app->add_option(
         "--body", run.body,
         "kernels: portable, avx2, avx512 or avx512bf16 (left out: the best this CPU has; all give the same bits)")
      ->check(word_of({"portable", "avx2", "avx512", "avx512bf16"}));
  app->add_option("--threads", run.threads, "threads of each rank (left out: the cores it may use; of bench kernels 1)")
      ->transform(whole(1, 1024));
  app->add_option("--tp", run.tp, "ranks that share one sequence's heads and vocabulary, a power of two; default 1")
      ->transform(whole(1, 1024));
  app->add_option(
         "--ring", run.ring,
         "ring members among which sequences are dealt, a power of two (left out: ranks / pp / tp, any number)")
      ->transform(whole(1, 65536));
  app->add_option("--pp", run.pp,
                  "stages of a pipeline, each with a part of the layers and a ring of its own; default 1")
      ->transform(whole(1, 1024));
  app->add_option("--chunk", run.chunk_tokens, "rows of one member in one step; default 1024")
      ->transform(whole(2, 1 << 20));
  static const std::map<std::string, RingTransport> transports{
      {"auto", RingTransport::kAuto}, {"shared", RingTransport::kShared}, {"messages", RingTransport::kMessages}};
  app->add_option("--ring-transport", run.ring_transport,
                  "auto, shared (KV pages of a host's ranks in memory that they share) or messages; all give the same "
                  "bits; default auto")
      ->transform(one_of(transports));
  app->add_flag("--verbose", run.verbose, "log what is loaded and chosen");
}

// Of the engine that answers requests.
void add_engine_options(CLI::App* app, RunArguments& run) {
  app->add_option("--waves", run.waves,
                  "most waves of a step that follow each other through the stages (left out: 4 for each stage)")
      ->transform(whole(1, 1024));
  app->add_option("--kv-memory", run.kv_bytes,
                  "bytes of KV pages of each rank, e.g. 4GiB (left out: its share of half of the host's free memory, "
                  "at most what --sequences of the longest context fill)")
      ->transform(bytes());
  app->add_option("--context", run.context_tokens, "longest prompt + answer in tokens (left out: the model's)")
      ->transform(whole(1, std::numeric_limits<std::int64_t>::max()));
  app->add_option(
         "--span", run.span,
         "ring members over which the context of every sequence is spread, a power of two (left out: chosen for each)")
      ->transform(whole(1, 64));
  app->add_option("--sequences", run.sequences, "sequences running at once on one member; default 64")
      ->transform(whole(1, 4096));
  app->add_option("--full-chunk-context", run.full_chunk_context,
                  "while others decode, a prefill beyond so many tokens of context takes smaller chunks, each of the "
                  "same time; default 32768")
      ->transform(whole(0, 1 << 24));
  app->add_option("--ep", run.ep,
                  "groups of ranks of a stage that share its experts; half of them: each expert is cut over two ranks "
                  "(left out: as many as ranks)")
      ->transform(whole(1, 65536));
  app->add_option("--expert-placement", run.expert_placement,
                  "which ranks of a stage hold which experts: a JSON file {\"all_layers\": {\"0\": 1, \"1\": [0, 2], "
                  "...}} or {\"layers\": {\"0\": {...}, ...}}, or 'auto' "
                  "(from --expert-load); left out: dealt in order. The answers are the same");
  app->add_option("--expert-load", run.expert_load, "for --expert-placement auto: the counts that a former run wrote");
  app->add_option("--expert-load-out", run.expert_load_out, "write how many tokens chose each expert, at the end");
  app->add_option("--expert-extra", run.expert_extra,
                  "for --expert-placement auto: replicas a rank may hold beyond its share; default 1")
      ->transform(whole(0, 65536));
  app->add_option("--metrics-file", run.metrics_file,
                  "write counters in Prometheus' text format every 10 seconds and at the end");
  app->add_option("--trace", run.trace_file, "write what every rank did when, for chrome://tracing or ui.perfetto.dev");
}

void add_video_options(CLI::App* app, AskArguments& ask) {
  app->add_option("--fps", ask.fps, "frames sampled for every second of film (default: the model's, usually 2)");
  app->add_option("--num-frames", ask.num_frames, "sample exactly so many frames");
  app->add_option("--max-frames", ask.max_frames, "sample at most so many frames (default: the model's, usually 768)");
  app->add_option("--min-pixels", ask.min_pixels, "least pixels of a picture or frame");
  app->add_option("--max-pixels", ask.max_pixels, "most pixels of a picture or frame");
  app->add_option("--total-pixels", ask.total_pixels, "most pixels of all sampled frames of a film together");
  app->add_option("--video-start", ask.video_start, "seconds: leave out what is before");
  app->add_option("--video-end", ask.video_end, "seconds: leave out what is after");
  app->add_flag("--reference-timestamps", ask.reference_timestamps,
                "frame times as index / fps, also where the film's clock differs");
  app->add_flag("--no-rotate", ask.no_rotate, "do not turn the film as its display matrix says");
}

void add_sampling_options(CLI::App* app, AskArguments& ask) {
  app->add_option("--max-tokens", ask.max_tokens, "longest answer in tokens (left out: the rest of the context)");
  app->add_option("--temperature", ask.temperature,
                  "0 is greedy (left out: the checkpoint's generation_config.json, as for the next four)");
  app->add_option("--top-k", ask.top_k, "draw from the k likeliest tokens");
  app->add_option("--top-p", ask.top_p, "draw from the likeliest tokens that make up p");
  app->add_option("--min-p", ask.min_p, "drop tokens below this share of the likeliest");
  app->add_option("--repetition-penalty", ask.repetition_penalty, "above 1 avoids what stands in prompt and answer");
  app->add_option("--presence-penalty", ask.presence_penalty, "-2..2, once for each token of the answer");
  app->add_option("--frequency-penalty", ask.frequency_penalty, "-2..2, for each time a token stands in the answer");
  app->add_option("--seed", ask.seed, "the same seed gives the same answer (left out: one is drawn and told)");
  app->add_option("--stop", ask.stop, "end the answer before this text; up to 4 times")->allow_extra_args(false);
}

// The media in the order they stand on the command line, pictures and films mixed.
void take_media(CLI::App* app, const CLI::Option* image, const CLI::Option* video, AskArguments& ask) {
  std::map<const CLI::Option*, std::size_t> taken;
  for (const CLI::Option* option : app->parse_order()) {
    if (option == image || option == video) {
      ask.media.push_back({option == video, option->results().at(taken[option]++)});
    }
  }
}

bool may_be_empty(const CLI::Option& option) { return option.check_name("question") || option.check_name("--system"); }

// An unknown flag is answered with the nearest known one before CLI11 speaks; so is one that stands where another one
// needs a value.
void refuse_unknown_flags(const CLI::App& app, int argc, char** argv) {
  const CLI::App* command = &app;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--") {
      return;
    }
    if (word.empty() || word[0] != '-' || word.size() < 2 || std::isdigit(static_cast<unsigned char>(word[1])) != 0) {
      if (command == &app) {
        const auto named = app.get_subcommands([&](const CLI::App* sub) { return sub->get_name() == word; });
        if (!named.empty()) {
          command = named[0];
        } else if (i == 1) {
          static constexpr std::string_view commands[] = {"ask", "batch", "inspect", "bench", "version"};
          const std::string nearest = nearest_name(word, commands);
          throw UsageError(fmt::format(
              "unknown command {}: expected {}; see zoetrope --help", zoetrope::quoted(word),
              nearest.empty() ? "one of ask, batch, inspect, bench, version" : "perhaps '" + nearest + "'"));
        }
      }
      continue;
    }
    const std::string name(word.substr(0, word.find('=')));
    const CLI::Option* option = command->get_option_no_throw(name);
    if (option != nullptr && option->get_expected_min() > 0 && name == word && i + 1 < argc) {
      const std::string_view behind = argv[i + 1];
      if (behind.starts_with("--")) {
        throw UsageError(fmt::format("{}: found {} behind it, expected a value; see zoetrope --help", name,
                                     zoetrope::quoted(behind)));
      }
      i += behind.starts_with("-.") ? 1 : 0;  // a negative fraction, no flag
    }
    if (option != nullptr && option->get_expected_min() > 0 && word.size() == name.size() + 1) {
      // The parser would take the next word, whatever it is.
      throw UsageError(fmt::format("{}: found nothing behind the '=', expected a value{}; see zoetrope --help", name,
                                   may_be_empty(*option) ? ", or " + name + " '' for an empty one" : ""));
    }
    if (option != nullptr && option->get_expected_max() == 0 && name != word) {
      throw UsageError(fmt::format("{}: found {} behind it, expected the flag alone; see zoetrope --help", name,
                                   zoetrope::quoted(word.substr(name.size()))));
    }
    if (name == "--help" || name == "-h" || name == "--version" || option != nullptr) {
      continue;
    }
    std::vector<std::string> names;
    for (const CLI::Option* known : command->get_options()) {
      names.push_back(known->get_name());
    }
    const std::vector<std::string_view> candidates(names.begin(), names.end());
    const std::string nearest = nearest_name(name, candidates);
    throw UsageError(fmt::format("unknown flag {}: expected {}; see zoetrope{} --help", zoetrope::quoted(name),
                                 nearest.empty() ? "a flag of this command" : "perhaps '" + nearest + "'",
                                 command == &app ? "" : " " + command->get_name()));
  }
}

bool has_validator(CLI::Option& option) {
  try {
    (void)option.get_validator();
    return true;
  } catch (const CLI::OptionNotFound&) {
    return false;
  }
}

// What is asked of every flag: a number that is one from its first to its last character and within 64 bits (the parser
// would take a larger one for the largest there is), and a text that is not empty.
void check_values(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    for (CLI::Option* option : command->get_options()) {
      if (option->get_type_name().starts_with("INT") && !has_validator(*option)) {  // others say what they take
        option->transform(CLI::Validator(
            [](std::string& word) {
              const std::optional<std::int64_t> number = whole_number(word);
              if (!number) {
                return fmt::format("found {}, expected a whole number within 64 bits", zoetrope::quoted(word));
              }
              word = std::to_string(*number);
              return std::string();
            },
            ""));
      } else if (option->get_type_name().starts_with("TEXT") && !may_be_empty(*option)) {
        option->check(CLI::Validator(
            [](std::string& word) { return word.empty() ? std::string("found '', expected a value") : std::string(); },
            ""));
      } else if (option->get_type_name().starts_with("FLOAT")) {
        option->check(CLI::Validator(
            [](std::string& word) {
              double number = 0;
              const char* begin = word.data() + (word.starts_with('+') && !word.starts_with("+-") ? 1 : 0);
              const auto read = std::from_chars(begin, word.data() + word.size(), number);
              return read.ec == std::errc() && read.ptr == word.data() + word.size()
                         ? std::string()
                         : fmt::format("found {}, expected a number", zoetrope::quoted(word));
            },
            ""));
      }
    }
  }
}

// What the parser refuses, in the words of all other refusals. It says "--video: 1 required TEXT missing", "--seed: At
// Most 1 required but received 2", "json was given a disallowed flag override", "--input is required", "A subcommand is
// required", "The following argument was not expected: there".
std::string refusal_of(const CLI::ParseError& error, const CLI::App& app) {
  const std::string said = error.what();
  const std::string name = said.substr(0, said.find_first_of(": "));
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    return name == "A" ? "found no command, expected one of ask, batch, inspect, bench, version"
                       : fmt::format("{}: found none, expected one", name);
  }
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    const std::vector<std::string> words = app.remaining(/*recurse=*/true);
    const auto first = std::ranges::find_if(words, [](const std::string& word) { return word != "--"; });
    return fmt::format(
        "found {} behind all that belongs there, expected nothing more; put a text of several words in quotes",
        zoetrope::quoted(first == words.end() ? said : *first));
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    if (said.find("missing") != std::string::npos) {
      return fmt::format("{}: found nothing behind it, expected a value", name);
    }
    if (const std::size_t times = said.find("received "); times != std::string::npos) {
      return fmt::format("{}: found it {} times, expected once", name, said.substr(times + 9));
    }
  }
  return said;
}

// What is spread over members or cut over ranks is halved again and again.
void check_powers_of_two(const RunArguments& run) {
  const auto check_one = [](const char* flag, int value, const char* why, const char* otherwise) {
    if (value > 0 && !std::has_single_bit(static_cast<unsigned>(value))) {
      const unsigned below = std::bit_floor(static_cast<unsigned>(value));
      throw UsageError(fmt::format("{}: found {}, expected a power of two ({}); use {} {} or {} {}{}", flag, value, why,
                                   flag, below, flag, 2 * below, otherwise));
    }
  };
  check_one("--ring", run.ring, "a context spans 1, 2, 4 ... members",
            ", or leave it out: then sequences are dealt over any number of members, and those that span some span a "
            "power of two of them");
  check_one("--span", run.span, "a context spans 1, 2, 4 ... members", ", or leave it out");
  check_one("--tp", run.tp, "heads and canonical slices are halved", "");
}

// A step has a row for every sequence that decodes, and one of a prompt.
void check_chunk(const RunArguments& run) {
  if (run.chunk_tokens <= run.sequences) {
    throw UsageError(
        fmt::format("--chunk: found {}, expected more than --sequences, {} (a step has a row for each of "
                    "them and one of a prompt); use --chunk {} or --sequences {}",
                    run.chunk_tokens, run.sequences, run.sequences + 1, run.chunk_tokens - 1));
  }
}

// What is said of films is said in vain without one.
void check_films(const AskArguments& ask) {
  const std::pair<const char*, bool> flags[] = {{"--fps", ask.fps.has_value()},
                                                {"--num-frames", ask.num_frames.has_value()},
                                                {"--max-frames", ask.max_frames.has_value()},
                                                {"--total-pixels", ask.total_pixels.has_value()},
                                                {"--video-start", ask.video_start.has_value()},
                                                {"--video-end", ask.video_end.has_value()},
                                                {"--reference-timestamps", ask.reference_timestamps},
                                                {"--no-rotate", ask.no_rotate}};
  const bool film = std::ranges::any_of(ask.media, &AskMedium::video);
  for (const auto& [flag, given] : flags) {
    if (given && !film) {
      throw UsageError(fmt::format("{}: found it without a film, expected --video FILM beside it; leave it out", flag));
    }
  }
}

// A balanced placement needs a load to be balanced from, and nothing else reads one.
void check_experts(const RunArguments& run) {
  if ((run.expert_placement == "auto") == run.expert_load.empty()) {
    throw UsageError(
        fmt::format("--expert-placement {} {} --expert-load: expected both 'auto' and a load file or neither; see "
                    "zoetrope ask --help",
                    zoetrope::quoted(run.expert_placement.string()), run.expert_load.empty() ? "without" : "with"));
  }
}

}  // namespace

Arguments parse_arguments(int argc, char** argv) {
  Arguments arguments;
  CLI::App app(kAbout, "zoetrope");
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);

  CLI::App* ask = app.add_subcommand("ask", "answer one question about pictures and films");
  const CLI::Option* image =
      ask->add_option("--image", "a picture (JPEG, PNG, WebP, BMP, GIF); may be given several times")
          ->expected(1)
          ->take_all()
          ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  const CLI::Option* video = ask->add_option("--video", "a film; may be given several times")
                                 ->expected(1)
                                 ->take_all()
                                 ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  ask->add_option("question", arguments.ask.question, "the question")->required();
  ask->add_option("--system", arguments.ask.system, "a system message in front");
  ask->add_flag("--add-vision-id", arguments.ask.add_vision_id, "number the media for the model: Picture 1, Video 1");
  ask->add_flag("--json", arguments.ask.json, "print one JSON object instead of the text");
  add_video_options(ask, arguments.ask);
  add_sampling_options(ask, arguments.ask);
  add_rank_options(ask, arguments.run);
  add_engine_options(ask, arguments.run);

  CLI::App* batch =
      app.add_subcommand("batch", "answer a file of OpenAI batch lines; a rerun continues where it was cut off");
  batch->add_option("--input", arguments.batch.input, "the lines; media paths are relative to this file")->required();
  batch->add_option("--output", arguments.batch.output, "the answers, appended as they finish")->required();
  batch->add_flag("--retry-errors", arguments.batch.retry_errors,
                  "answer lines again that an earlier run recorded as errors");
  batch->add_flag("--no-prefix-cache", arguments.run.no_prefix_cache,
                  "compute every prompt from its first token, also where another one began with the same film");
  add_rank_options(batch, arguments.run);
  add_engine_options(batch, arguments.run);

  CLI::App* inspect = app.add_subcommand("inspect", "sizes, totals, legal layouts and faults of a checkpoint");
  inspect->add_option("folder", arguments.inspect.folder, "folder of a checkpoint (left out: the bundled one)");
  inspect->add_flag("--json", arguments.inspect.json, "print one JSON object");
  inspect->add_flag("--digests", arguments.inspect.digests, "read every byte and print a SHA-256 of each file");

  CLI::App* bench = app.add_subcommand(
      "bench",
      "measure the kernels, the ring, the pipeline, the exchange of experts, messages between ranks, or a model");
  bench
      ->add_option("what", arguments.bench.what,
                   "kernels; ring (attention over all ranks); fabric (messages and collectives); exchange (tokens to "
                   "experts and home); pipeline (idle stages, with --pp); "
                   "left out: the model of --model")
      ->check(word_of({"kernels", "ring", "fabric", "exchange", "pipeline"}));
  bench->add_option("--test", arguments.bench.test, "pp: prefill, tg: one stream decodes, batch: many streams decode")
      ->check(word_of({"pp", "tg", "batch"}));
  bench
      ->add_option("--tokens", arguments.bench.tokens,
                   "tokens to prefill or to decode, of a step of the ring; default 512")
      ->transform(whole(1, 1 << 24));
  bench
      ->add_option("--depth", arguments.bench.depth,
                   "tokens of context before them; default 0. Of the ring: context with them, without the steps that "
                   "follow (left out: 16384, 32768, 65536)")
      ->transform(whole(0, 1 << 24));
  bench->add_option("--streams", arguments.bench.streams, "sequences that decode together (--test batch); default 1")
      ->transform(whole(1, 4096));
  bench->add_option("--reps", arguments.bench.reps, "repetitions; default 5")->transform(whole(1, 1000));
  bench->add_flag("--quick", arguments.bench.quick, "fewer shapes and repetitions (kernels, ring, fabric, exchange)");
  bench->add_flag("--json", arguments.bench.json, "print JSON");
  add_rank_options(bench, arguments.run);

  CLI::App* version = app.add_subcommand("version", "version, kernels of this CPU, libraries");
  app.set_version_flag("--version", ZOETROPE_VERSION);

  check_values(app);
  refuse_unknown_flags(app, argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    const auto chosen = app.get_subcommands();
    arguments.help = chosen.empty() ? app.help() : chosen[0]->help();
    return arguments;
  } catch (const CLI::CallForVersion&) {
    arguments.help = std::string("zoetrope ") + ZOETROPE_VERSION + "\n";
    return arguments;
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("{}; see zoetrope --help", refusal_of(error, app)));
  }
  check_powers_of_two(arguments.run);
  check_experts(arguments.run);
  for (const CLI::App* command : {ask, batch}) {
    if (command->parsed() && command->get_option("--chunk")->count() > 0) {
      check_chunk(arguments.run);
    }
  }
  if (ask->parsed()) {
    arguments.command = Command::kAsk;
    take_media(ask, image, video, arguments.ask);
    check_films(arguments.ask);
  } else if (batch->parsed()) {
    arguments.command = Command::kBatch;
  } else if (inspect->parsed()) {
    arguments.command = Command::kInspect;
  } else if (bench->parsed()) {
    arguments.command = Command::kBench;
  } else if (version->parsed()) {
    arguments.command = Command::kVersion;
  }
  return arguments;
}

}  // namespace zoetrope
