# How every target of the house is declared: language level, warnings, the arithmetic rules and the test runner.
include(GNUInstallDirs)

option(ZOETROPE_TESTS "build the tests" ON)
option(ZOETROPE_FUZZ "build the libFuzzer targets (needs clang)" OFF)
set(ZOETROPE_SANITIZE "" CACHE STRING "sanitizers for every target: empty, 'address,undefined' or 'thread'")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

find_program(ZOETROPE_CCACHE ccache)
if(ZOETROPE_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${ZOETROPE_CCACHE})
endif()

# Flags that every source of the house is compiled with. Contraction is off because fused multiply-adds are explicit:
# the bits of an answer are part of the contract (docs/one-answer.md, rule 0).
add_library(zoetrope_flags INTERFACE)
target_compile_options(zoetrope_flags INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Werror -ffp-contract=off -fno-fast-math)
target_include_directories(zoetrope_flags INTERFACE ${CMAKE_SOURCE_DIR})
if(ZOETROPE_SANITIZE)
  target_compile_options(zoetrope_flags INTERFACE -fsanitize=${ZOETROPE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(zoetrope_flags INTERFACE -fsanitize=${ZOETROPE_SANITIZE})
endif()

# zoetrope_library(<name> SOURCES ... DEPENDS ...): a static library zoetrope_<name>, alias zoetrope::<name>.
function(zoetrope_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(zoetrope_${name} STATIC ${ARG_SOURCES})
  add_library(zoetrope::${name} ALIAS zoetrope_${name})
  target_link_libraries(zoetrope_${name} PUBLIC zoetrope_flags ${ARG_DEPENDS} PRIVATE ${ARG_PRIVATE_DEPENDS})
endfunction()

# zoetrope_test(<name> SOURCES ... DEPENDS ... [MPI_RANKS n ...] [LABELS ...] [ENVIRONMENT ...] [TIMEOUT s]):
# a GoogleTest program. With MPI_RANKS it is run under mpirun once for each number, without it once as it is.
function(zoetrope_test name)
  cmake_parse_arguments(ARG "NO_GTEST_MAIN" "TIMEOUT" "SOURCES;DEPENDS;MPI_RANKS;LABELS;ENVIRONMENT" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE zoetrope_flags ${ARG_DEPENDS} GTest::gtest zoetrope_test_source_folder)
  if(NOT ARG_NO_GTEST_MAIN)
    target_link_libraries(${name} PRIVATE GTest::gtest_main)
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set(runs)
  if(ARG_MPI_RANKS)
    foreach(ranks IN LISTS ARG_MPI_RANKS)
      add_test(NAME ${name}.mpi${ranks}
        COMMAND ${CMAKE_SOURCE_DIR}/deploy/mpi/launch.sh ${ranks} $<TARGET_FILE:${name}>)
      set_tests_properties(${name}.mpi${ranks} PROPERTIES PROCESSORS 2)
      list(APPEND runs ${name}.mpi${ranks})
    endforeach()
  else()
    add_test(NAME ${name} COMMAND ${name})
    list(APPEND runs ${name})
  endif()
  set_tests_properties(${runs} PROPERTIES TIMEOUT ${ARG_TIMEOUT})
  if(ARG_LABELS)
    set_tests_properties(${runs} PROPERTIES LABELS "${ARG_LABELS}")
  endif()
  if(ARG_ENVIRONMENT)
    set_tests_properties(${runs} PROPERTIES ENVIRONMENT "${ARG_ENVIRONMENT}")
  endif()
endfunction()
