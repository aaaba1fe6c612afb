// How long a mask may be acted on, and what its values mean: the part of the decision module that needs no ROS.
// The same in Python: trust, track, ids_of and how_to_listen in examples/decision_module.py.

#ifndef DECISION_MODULE_CPP__TRUST_HPP_
#define DECISION_MODULE_CPP__TRUST_HPP_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

using Values = std::map<std::string, std::string>;

// Milliseconds by which a stamp may be ahead of the node's clock: clocks that are synchronised differ by less.
constexpr double kAheadMs = 100.0;
constexpr double kDayMs = 86'400'000.0;
// Times of records are rounded.
constexpr double kRoundingMs = 1.0;

// Milliseconds for which a mask can be trusted from now on, or 0 and why it cannot.
struct Trust
{
  double ms = 0.0;
  std::string why_not;
};

// Which mask values are meant, by their value.
using Ids = std::array<bool, 256>;

// Names of the mask values, by default.
inline const std::vector<std::string> kCategories{
  "void", "flat", "construction", "object", "nature", "sky", "human", "vehicle"};

// Mask values of some categories; throws where there is no such category.
inline Ids ids_of(const std::vector<std::string> & names, const std::vector<std::string> & categories)
{
  Ids ids{};
  for (const auto & name : names) {
    const auto found = std::find(categories.begin(), categories.end(), name);
    if (found == categories.end()) {
      std::string all;
      for (const auto & category : categories) {
        all += (all.empty() ? "" : ", ") + category;
      }
      throw std::invalid_argument("no category " + name + "; categories are " + all);
    }
    ids[static_cast<std::size_t>(found - categories.begin())] = true;
  }
  return ids;
}

// A finite number of a record; nothing where it has none.
inline std::optional<double> finite(const Values & record, const std::string & name)
{
  const auto found = record.find(name);
  if (found == record.end()) {
    return std::nullopt;
  }
  try {
    std::size_t end = 0;
    const double number = std::stod(found->second, &end);
    if (end == found->second.size() && std::isfinite(number)) {
      return number;
    }
  } catch (const std::invalid_argument &) {
  } catch (const std::out_of_range &) {
  }
  return std::nullopt;
}

inline std::string rounded(double number)
{
  char text[32];
  std::snprintf(text, sizeof(text), "%.0f", number);
  return text;
}

// record: values of the mask's timing record; budget_ms: age beyond which a mask is not to be trusted.
inline Trust trust(const Values & record, double budget_ms)
{
  const auto age = finite(record, "age");
  const auto total = finite(record, "total");
  if (!age) {
    return {0.0, "the last mask has no age: its frame has no stamp, or the node's clock no time"};
  }
  if (!total || *total < 0) {
    return {0.0, "the last mask's record does not say how long it took"};
  }
  if (*age < -kAheadMs) {
    return {0.0, "the stamps are ahead of the node's clock, by " + rounded(-*age) + " ms"};
  }
  if (*age > kDayMs) {
    return {0.0, "the last mask was stamped in the past, " + rounded(*age / kDayMs) +
      " days ago: for a recorded drive, start the node with use_sim_time:=true and the drive with --clock"};
  }
  // The node measures the total on a steady clock, so it holds whatever the stamps are worth.
  const double oldest = std::max(*age, *total);
  const auto late = record.find("late");
  if (late == record.end() || late->second != "false") {
    return {0.0, "the last mask was late, " + rounded(oldest) + " ms old"};
  }
  if (!(oldest < budget_ms)) {
    return {0.0, "the last mask was " + rounded(oldest) + " ms old, budget_ms is " + rounded(budget_ms)};
  }
  return {budget_ms - oldest, ""};
}

// How long a mask of now may be tracked with: until what it was carried from is too old, or 0 and why it may not.
// record: values of its record on timing_now; budget_ms: age beyond which what was inferred is not to be trusted.
inline Trust track(const Values & record, double budget_ms)
{
  const auto age = finite(record, "keyframe_age");
  const auto ahead = finite(record, "horizon_ms");
  const auto total = finite(record, "total");
  if (!age || !ahead) {
    return {0.0, "the last mask of now does not say how old its source is"};
  }
  if (!total || *total < 0) {
    return {0.0, "the last mask of now does not say how long it took"};
  }
  if (*age < 0 || *ahead < 0 || *ahead > *age + kRoundingMs) {
    return {0.0, "the last mask of now is of a time before its source"};
  }
  if (*age > kDayMs) {
    return {0.0, "the source of the last mask of now is " + rounded(*age / kDayMs) + " days old"};
  }
  // The age is that at the time for which the mask holds; that time may be past, or still to come.
  const double oldest = std::max(*age, *age - *ahead + *total);
  if (!(oldest < budget_ms)) {
    return {0.0, "the source of the last mask of now was " + rounded(oldest) + " ms old, budget_ms is " + rounded(budget_ms)};
  }
  return {budget_ms - oldest, ""};
}

// Arguments with which this module listens to a mask topic elsewhere.
inline std::string how_to_listen(const std::string & mask_topic)
{
  const std::string usual = "/segmentation/mask";
  const auto found = mask_topic.find(usual);
  if (found != std::string::npos && found + usual.size() == mask_topic.size()) {
    return "-r __ns:=" + (found ? mask_topic.substr(0, found) : "/");
  }
  const std::string folder = mask_topic.substr(0, mask_topic.rfind('/'));
  return "-r segmentation/mask:=" + mask_topic + " -r segmentation/timing:=" + folder + "/timing";
}

#endif  // DECISION_MODULE_CPP__TRUST_HPP_
