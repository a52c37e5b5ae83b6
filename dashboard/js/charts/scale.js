// The scale of an axis and its ticks.

const MIN_RATIO = 8; // between the values of a logarithmic scale

/** `logarithmic`: permit a logarithmic scale. `at(value)`: position from 0 to 1; `value(position)`: the inverse;
 * `ticks(count)`: about so many round values. */
export function scale(values, { logarithmic = false } = {}) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  const log = logarithmic && low > 0 && high / low > MIN_RATIO;
  if (low === high) [low, high] = low === 0 ? [0, 1] : [low - Math.abs(low) * 0.1, high + Math.abs(high) * 0.1];
  const to = log ? Math.log10 : (value) => value;
  const back = log ? (value) => 10 ** value : (value) => value;
  const width = to(high) - to(low);
  return {
    low,
    high,
    log,
    at: (value) => (value <= 0 && log ? 0 : (to(value) - to(low)) / width),
    value: (position) => back(to(low) + position * width),
    ticks: (count) => (log ? logTicks(low, high, count) : ticks(low, high, count)),
  };
}

function ticks(low, high, count) {
  const raw = (high - low) / count;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((candidate) => candidate >= raw * 0.7);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, index) => (first + index) * step);
}

function logTicks(low, high, count) {
  const decades = Array.from({ length: Math.ceil(Math.log10(high)) - Math.floor(Math.log10(low)) + 1 }, (_, index) => Math.floor(Math.log10(low)) + index);
  const inside = (steps) => decades.flatMap((power) => steps.map((step) => step * 10 ** power)).filter((value) => value >= low * 0.999 && value <= high * 1.001);
  return [[1, 2, 5], [1, 3], [1]].map(inside).find((values) => values.length <= count + 1) ?? inside([1]);
}
