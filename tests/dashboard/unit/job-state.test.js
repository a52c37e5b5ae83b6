import { isLive, LIVE, phaseWords, stateChip, stateWord, TERMINAL } from "/static/js/job-state.js";
import { canCancel, jobName } from "/static/js/job-actions.js";
import { equal, test } from "./testing.js";

const ALL = [...LIVE, "paused", ...TERMINAL];

test("states have a word, an icon and a tone", () => {
  for (const state of ALL) {
    const chip = stateChip(state);
    equal([chip.textContent, chip.dataset.state], [stateWord(state), state]);
    equal(chip.querySelectorAll("path").length > 0, true);
    equal(["quiet", "wait", "live", "good", "bad"].includes(chip.dataset.tone), true);
  }
  equal(new Set(ALL.map(stateWord)).size, ALL.length);
});

test("an unknown state is shown by its name", () => {
  equal([stateWord("dreaming"), stateChip("dreaming").textContent, stateChip("dreaming").dataset.tone], ["dreaming", "dreaming", "quiet"]);
});

test("a job is live until it is paused or has ended", () => {
  equal(ALL.filter((state) => isLive({ state })), LIVE);
});

test("jobs can be cancelled until they end or are cancelling", () => {
  equal(ALL.filter((state) => canCancel({ state })), ["queued", "starting", "running", "pausing", "paused"]);
});

test("phases have words", () => {
  equal([phaseWords("training"), phaseWords("caching_teacher"), phaseWords("new_phase"), phaseWords(null)], ["training", "filling the teacher cache", "new_phase", ""]);
});

test("a job without a name is called by its resolved name or id", () => {
  equal([jobName({ id: "job_1", resolved: { name: "a" }, name: "b" }), jobName({ id: "job_1", name: "b" }), jobName({ id: "job_1" })], ["a", "b", "job_1"]);
});
