// The command line: zoetrope ask | batch | inspect | bench | version.
#pragma once

namespace zoetrope {

// Exit code: 0 done, 2 wrong usage, 1 anything else. One line on standard error says what was wrong.
int run_command_line(int argc, char** argv);

}  // namespace zoetrope
