#include "runtime/cli/cli.h"

int main(int argc, char** argv) { return zoetrope::run_command_line(argc, argv); }
