#include "runtime/cli/cli.h"

#include <fmt/format.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <thread>

#include "monitoring/error.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/launch.h"

namespace zoetrope {
namespace {

int run_bench(const RunArguments& run, const BenchArguments& bench) {
  if (bench.what == "kernels") {
    return run_bench_kernels(run, bench);
  }
  if (bench.what == "ring") {
    return run_bench_ring(run, bench);
  }
  if (bench.what == "exchange") {
    return run_bench_exchange(run, bench);
  }
  if (bench.what == "pipeline") {
    return run_bench_pipeline(run, bench);
  }
  return bench.what == "fabric" ? run_bench_fabric(run, bench) : run_bench_model(run, bench);
}

int dispatch(const Arguments& arguments) {
  switch (arguments.command) {
    case Command::kAsk:
      return run_ask(arguments.run, arguments.ask);
    case Command::kBatch:
      return run_batch(arguments.run, arguments.batch);
    case Command::kInspect:
      return run_inspect(arguments.run, arguments.inspect);
    case Command::kBench:
      return run_bench(arguments.run, arguments.bench);
    case Command::kVersion:
      return run_version();
  }
  return 2;
}

// Under mpirun every rank reads the same command line; rank 0 says what is wrong with it. The others stay a moment,
// because the launcher ends the whole job as soon as the first process leaves with an error.
void say(const std::string& line) {
  if (MpiJob::launched_rank() == 0) {
    print_failure(line);
  } else {
    std::this_thread::sleep_for(std::chrono::milliseconds(1000));
  }
}

// What was printed has left the program, or it is said: a full disk behind a redirection must not look like an answer.
int printed(int code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) {
    return code;
  }
  print_failure(fmt::format("standard output: {}, expected room for everything that is printed; print to another place",
                            std::strerror(errno)));
  return 1;
}

}  // namespace

int run_command_line(int argc, char** argv) {
  ::signal(SIGXFSZ, SIG_IGN);  // a file beyond `ulimit -f` fails with its name instead
  try {
    const Arguments arguments = parse_arguments(argc, argv);
    if (!arguments.help.empty()) {
      if (MpiJob::launched_rank() == 0) {
        std::fputs(arguments.help.c_str(), stdout);
      }
      return printed(0);
    }
    return printed(dispatch(arguments));
  } catch (const UsageError& error) {
    say(error.what());
    return 2;
  } catch (const std::bad_alloc&) {
    say("out of memory: give less to --kv-memory, or more ranks to the model");
    return 1;
  } catch (const std::exception& error) {
    say(error.what());
    return 1;
  }
}

}  // namespace zoetrope
