import { devicesOf, nameDevice, pointsOf } from "/static/js/pages/frontier-page/controls.js";
import { equal, test } from "./testing.js";

test("points are shown under words for a device that the report does not name", () => {
  const data = [{ role: "student", x: 1, y: 2, device: null }, { role: "student", x: 2, y: 3, device: "cpu" }].map(nameDevice);
  equal(devicesOf(data), ["an unknown device", "cpu"]);
  equal(pointsOf({ x: "latency_ms", data }, "an unknown device").map(({ x }) => x), [1]);
});
