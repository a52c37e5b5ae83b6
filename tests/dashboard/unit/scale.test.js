import { scale } from "/static/js/charts/scale.js";
import { equal, test } from "./testing.js";

test("values are mapped to positions and back", () => {
  const { at, value } = scale([10, 20, 30]);
  equal([at(10), at(20), at(30), value(0.25)], [0, 0.5, 1, 15]);
});

test("a logarithmic scale is used only for values far apart", () => {
  equal([scale([1, 1000], { logarithmic: true }).log, scale([1, 5], { logarithmic: true }).log, scale([0, 1000], { logarithmic: true }).log, scale([1, 1000]).log], [true, false, false, false]);
  const { at, value } = scale([1, 100], { logarithmic: true });
  equal([at(10), Math.round(value(0.5)), at(0)], [0.5, 10, 0]);
});

test("a single value lies in the middle", () => {
  equal([scale([5]).at(5), scale([0]).at(0)], [0.5, 0]);
});

test("ticks are round", () => {
  equal(scale([0, 100]).ticks(5), [0, 20, 40, 60, 80, 100]);
  equal(scale([3, 300], { logarithmic: true }).ticks(5), [5, 10, 20, 50, 100, 200]);
  equal(scale([1, 1000], { logarithmic: true }).ticks(3), [1, 10, 100, 1000]);
});
