import { ago, brief, bytes, capital, pluralize, duration, decimal, integer, ms, percent, points, readable, secondsBetween, si, timeLeft, times } from "/static/js/format.js";
import { equal, test } from "./testing.js";

test("numbers that are not finite become a dash", () => {
  for (const format of [decimal, points, percent, ms, brief, si, bytes, times, duration]) {
    equal([undefined, null, NaN, Infinity].map((value) => format(value)), ["–", "–", "–", "–"]);
  }
});

test("negative numbers have a minus sign instead of a hyphen", () => {
  equal([decimal(-1.25), brief(-0.5), points(-2), brief(-0.00002)], ["−1.3", "−0.5", "−2.0 pt", "−2.0e−5"]);
});

test("differences have a sign, also around zero", () => {
  equal([points(1.26), points(-0.01), points(0)], ["+1.3 pt", "±0.0 pt", "±0.0 pt"]);
});

test("prefixes keep three significant digits", () => {
  equal([si(0), si(999), si(1234), si(278324), si(22_500_000), si(1e15)], ["0", "999", "1.23 k", "278 k", "22.5 M", "1000 T"]);
  equal([bytes(78_000), bytes(12)], ["78 kB", "12 B"]);
});

test("numbers keep three digits, large ones are grouped", () => {
  equal([brief(0), brief(0.12345), brief(12.345), brief(1234.5), brief(0.00012)], ["0", "0.123", "12.3", "1,235", "1.2e−4"]);
  equal(integer(1234567), "1,234,567");
  equal(integer(null), "–");
});

test("counts have singular and plural", () => {
  equal([pluralize(1, "job"), pluralize(2, "job"), pluralize(1200, "entry", "entries")], ["1 job", "2 jobs", "1,200 entries"]);
});

test("durations have at most two units", () => {
  equal([0, 59.6, 61, 3600, 3660, 90_000, -5].map(duration), ["0 s", "1 m", "1 m 1 s", "1 h", "1 h 1 m", "1 d 1 h", "0 s"]);
});

test("the remaining time is rounded", () => {
  equal([3, 11, 54, 61, 5400, NaN].map(timeLeft), ["a few seconds left", "about 15 s left", "about 55 s left", "about 1 min left", "about 1.5 h left", ""]);
});

test("ages have one unit", () => {
  const now = Date.parse("2026-01-02T00:00:00Z");
  const ages = ["2026-01-01T23:59:55Z", "2026-01-01T23:59:10Z", "2026-01-01T23:00:01Z", "2026-01-01T01:00:00Z", "2025-12-30T00:00:00Z"];
  equal(ages.map((iso) => ago(iso, now)), ["just now", "50 s ago", "59 min ago", "23 h ago", "3 d ago"]);
  equal(secondsBetween("2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z"), 90);
});

test("ratios and latencies have digits by size", () => {
  equal([times(1.26), times(12.6), times(0)], ["1.3×", "13×", "–"]);
  equal([ms(1.234), ms(12.34), percent(93.456, 1)], ["1.23 ms", "12.3 ms", "93.5 %"]);
});

test("names become words", () => {
  equal([readable("born_again"), capital("size in bytes"), capital("")], ["born again", "Size in bytes", ""]);
});
