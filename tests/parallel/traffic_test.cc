#include "parallel/traffic.h"

#include <gtest/gtest.h>

namespace zoetrope {
namespace {

TEST(TrafficBook, AddsUpByOperationInOrderOfFirstUse) {
  TrafficBook book;
  book.add("rows", {.messages = 2, .bytes = 100}, 0.5, 0);
  book.add("pages", {.messages = 1, .bytes = 7}, 0.25, 1);
  book.add("rows", {.messages = 1, .bytes = 11}, 0.25, 2);
  EXPECT_EQ(book.total().messages, 4U);
  EXPECT_EQ(book.total().bytes, 118U);
  EXPECT_EQ(book.seconds(), (TransferSeconds{.exposed = 1, .hidden = 3}));
  ASSERT_EQ(book.entries().size(), 2U);
  EXPECT_EQ(book.entries()[0].what, "rows");
  EXPECT_EQ(book.entries()[0].exchanges, 2U);
  EXPECT_EQ(book.entries()[0].sent.bytes, 111U);
  EXPECT_DOUBLE_EQ(book.entries()[0].exposed_seconds, 0.75);
  EXPECT_DOUBLE_EQ(book.entries()[0].hidden_seconds, 2);
  const std::string table = traffic_table({{"ring", &book}});
  EXPECT_NE(table.find("ring   rows "), std::string::npos) << table;
  EXPECT_NE(table.find("750.00"), std::string::npos) << table;
}

}  // namespace
}  // namespace zoetrope
