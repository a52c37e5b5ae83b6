import { decimal } from "/static/js/format.js";
import { Curves, dataTable, position, summarize, valueAt } from "/static/js/charts/series.js";
import { equal, test } from "./testing.js";

const point = (step, values) => ({ step, epoch: step / 10, wall_s: step * 2, values });
const create = (...points) => {
  const curves = new Curves();
  for (const item of points) curves.add(item);
  return curves;
};

test("points are stored by key and axis", () => {
  const curves = create(point(1, { "train/loss": 2, "val/top1": 10 }), point(2, { "train/loss": 1 }));
  const loss = curves.get("train/loss");
  equal([loss.step, loss.epoch, loss.wall_s, loss.value], [[1, 2], [0.1, 0.2], [2, 4], [2, 1]]);
  equal([curves.points, curves.keys("val/")], [3, ["val/top1"]]);
});

test("repeated steps of a resumed run replace the earlier ones", () => {
  const curves = create(point(1, { loss: 5 }), point(2, { loss: 4 }), point(3, { loss: 3 }), point(2, { loss: 9 }));
  equal([curves.get("loss").step, curves.get("loss").value], [[1, 2], [5, 9]]);
});

test("values that are not finite become gaps", () => {
  equal(create(point(1, { loss: NaN }), point(2, { loss: 1 })).get("loss").value, [null, 1]);
});

test("a long curve is thinned, but keeps its peaks and its end", () => {
  const curves = new Curves();
  for (let step = 1; step <= 4001; step += 1) curves.add(point(step, { loss: step === 1234 ? 1e6 : step % 7 }));
  const { step, value } = curves.get("loss");
  equal(value.length <= 2002, true);
  equal([Math.max(...value), step.at(-1), value.length === step.length], [1e6, 4001, true]);
  equal([...step].sort((a, b) => a - b), step);
});

test("columns of the server replace a curve", () => {
  const curves = new Curves();
  curves.load("step", { loss: { step: [1, 2], value: [3, 4] } });
  equal([curves.has("step"), curves.has("epoch")], [true, false]);
  curves.load("epoch", { loss: { epoch: [0.5, 1], value: [3, 4] } });
  equal([curves.has("step"), curves.has("epoch")], [true, true]);
  curves.load("step", { loss: { step: [1, 2, 3], value: [3, 4, 5] } });
  equal([curves.has("step"), curves.has("epoch"), curves.get("loss").value], [true, false, [3, 4, 5]]);
});

test("curves of different steps share their x values", () => {
  const curves = create(point(1, { a: 1, b: 5 }), point(2, { a: 2 }), point(3, { b: 6 }));
  equal(curves.align(["a", "b"], "step"), [[1, 2, 3], [1, 2, undefined], [5, undefined, 6]]);
  equal(curves.align(["a", "b"], "step", ["b"]), [[1, 2], [1, 2], [6, 6]]);
});

test("a resumed run begins at the first point after its step", () => {
  const curves = create(point(1, { "train/loss": 1 }), point(5, { "train/loss": 1 }));
  equal([curves.firstAfter(1, "step"), curves.firstAfter(1, "epoch"), curves.firstAfter(5, "step")], [5, 0.5, null]);
});

test("the value at an index is the last measured one", () => {
  equal([valueAt([1, undefined, null, 4], 2), valueAt([undefined, 2], 0), valueAt([1, 2], 1)], [1, null, 2]);
});

test("positions depend on the axis", () => {
  equal([position("step", 12), position("epoch", 2), position("epoch", 1.25), position("wall_s", 61)], ["12", "2", "1.3", "1 m 1 s"]);
});

const chart = { title: "Top-1", format: decimal, best: Math.max };
const line = { key: "val/top1", label: "Student" };
const summary = (values, options = {}) => summarize({ ...chart, ...options }, { axis: "epoch", series: [line], data: [values.map((_, index) => index), values] });

test("a summary says how a curve changed", () => {
  equal(summary([20, 95, 90]), "Student rose from 20.0 to 90.0, best 95.0 at epoch 1.");
  equal(summary([90, 20]), "Student fell from 90.0 to 20.0.");
  equal(summary([50, 50]), "Student stayed at 50.0.");
  equal(summary([50]), "Student 50.0 so far.");
});

test("a curve without a best value is described by its range", () => {
  equal(summary([3, 9, 4], { best: undefined }), "Student lay between 3.0 and 9.0, last 4.0.");
});

test("levels, parts and marks are in the summary", () => {
  const series = [line, { key: "teacher", label: "Teacher", level: true }, { key: "kd", label: "KD", part: true }];
  const data = [[0, 1], [10, 20], [93, 93], [1, 2]];
  equal(summarize(chart, { axis: "epoch", series, data, marks: [{ x: 1, label: "Run 2" }] }), "Student rose from 10.0 to 20.0. Teacher 93.0. Run 2 begins at epoch 1.");
});

test("a long table shows at most about 100 rows and the last one", () => {
  const xs = Array.from({ length: 1000 }, (_, index) => index);
  const [note, table] = dataTable(chart, { axis: "step", series: [line], data: [xs, xs] });
  equal([note.textContent, table.querySelectorAll("tbody tr").length], ["Showing 101 of 1,000 points.", 101]);
  equal(table.querySelector("tbody tr:last-child").textContent, "999999.0");
});
