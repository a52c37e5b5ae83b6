// The charts of a job's page: which curves, in which order, in which colour and dash.

import { brief, fixed } from "./format.js";

const percent = (value) => fixed(value);
const student = { label: "Student", colour: "--student", dash: [], width: 2.2 };
const teacher = { label: "Teacher", colour: "--teacher", dash: [9, 5], width: 1.6, level: true };
const undistilled = { label: "Undistilled", colour: "--undistilled", dash: [2, 4], width: 2 };
const TERMS = [
  { colour: "--line-1", dash: [7, 3] },
  { colour: "--line-2", dash: [3, 3] },
  { colour: "--line-3", dash: [10, 3, 2, 3] },
  { colour: "--line-4", dash: [2, 2] },
];

const named = (key) => key.replace("train/loss/", "").replaceAll("_", " ");

export const CHARTS = [
  {
    id: "top1", title: "Top-1 on validation", unit: "%", format: percent, most: 100, best: Math.max,
    series: () => [
      { key: "val/top1", ...student },
      { key: "baseline/val/top1", ...undistilled },
      { key: "teacher/top1", ...teacher },
    ],
  },
  {
    id: "loss", title: "Loss and its terms", unit: "", format: brief, least: 0, best: Math.min, log: true,
    series: (curves) => {
      const terms = curves.keys("train/loss/");
      const total = { key: "train/loss", ...student, label: "Total" };
      // One term alone, with weight one, is the total itself.
      const parts = terms.length > 1 ? terms.map((key, at) => ({ key, label: named(key), width: 1.5, part: true, ...TERMS[at % TERMS.length] })) : [];
      return [total, ...parts, { key: "baseline/train/loss", ...undistilled, width: 1.5 }];
    },
  },
  {
    id: "agreement", title: "Agreement with the teacher", unit: "%", format: percent, most: 100, best: Math.max,
    series: () => [{ key: "val/agreement", ...student }, { key: "baseline/val/agreement", ...undistilled }],
  },
  {
    id: "kl", title: "KL to the teacher", unit: "nats", format: brief, least: 0, best: Math.min, log: true,
    series: () => [{ key: "val/kl_to_teacher", ...student }, { key: "baseline/val/kl_to_teacher", ...undistilled }],
  },
  {
    id: "lr", title: "Learning rate", unit: "", format: brief, least: 0,
    series: () => [{ key: "train/lr", ...student, label: "Rate" }],
  },
  {
    id: "pace", title: "Throughput", unit: "images/s", format: brief, least: 0,
    series: () => [
      { key: "train/images_per_s", ...student, width: 1.6 },
      { key: "baseline/train/images_per_s", ...undistilled, width: 1.6 },
    ],
  },
];
