// The curves of a job, from its metrics events, in bounded memory.

const MOST = 4000;
export const AXES = { step: "Step", epoch: "Epoch", wall_s: "Time" };

class Curve {
  constructor() {
    this.step = [];
    this.epoch = [];
    this.wall_s = [];
    this.value = [];
  }

  get length() {
    return this.value.length;
  }

  add(point, value) {
    // A resumed run makes some steps again: the later run's are the ones that count.
    while (this.length && this.step.at(-1) >= point.step) for (const column of this.columns) column.pop();
    this.step.push(point.step);
    this.epoch.push(point.epoch);
    this.wall_s.push(point.wall_s);
    this.value.push(Number.isFinite(value) ? value : null);
    if (this.length > MOST) this.thin();
  }

  get columns() {
    return [this.step, this.epoch, this.wall_s, this.value];
  }

  /** Keep the lowest and the highest of every four points. */
  thin() {
    const kept = [];
    for (let start = 0; start < this.length; start += 4) {
      const four = Array.from({ length: Math.min(4, this.length - start) }, (_, at) => start + at);
      four.sort((a, b) => (this.value[a] ?? -Infinity) - (this.value[b] ?? -Infinity));
      kept.push(...new Set([four[0], four.at(-1)].sort((a, b) => a - b)));
    }
    for (const name of ["step", "epoch", "wall_s", "value"]) this[name] = kept.map((at) => this[name][at]);
  }
}

export class Curves {
  constructor() {
    this.byKey = new Map();
    this.points = 0;
  }

  add(data) {
    for (const [key, value] of Object.entries(data.values)) {
      if (!this.byKey.has(key)) this.byKey.set(key, new Curve());
      this.byKey.get(key).add(data, value);
      this.points += 1;
    }
  }

  get(key) {
    return this.byKey.get(key);
  }

  keys(prefix) {
    return [...this.byKey.keys()].filter((key) => key.startsWith(prefix));
  }

  /** One column of x and one of y for each key. A key in `levels` is drawn from end to end. */
  aligned(keys, axis, levels = []) {
    const curves = keys.map((key) => this.byKey.get(key));
    const xs = new Set();
    curves.forEach((curve, at) => levels.includes(keys[at]) || curve?.[axis].forEach((x) => xs.add(x)));
    const sorted = [...xs].sort((a, b) => a - b);
    const place = new Map(sorted.map((x, at) => [x, at]));
    return [sorted, ...curves.map((curve, at) => {
      if (levels.includes(keys[at])) return sorted.map(() => curve?.value.at(-1) ?? null);
      const ys = new Array(sorted.length).fill(undefined); // undefined: not measured here; null: a gap
      curve?.[axis].forEach((x, from) => { ys[place.get(x)] = curve.value[from]; });
      return ys;
    })];
  }
}
