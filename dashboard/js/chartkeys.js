// The keyboard on a chart: arrows move along the curve, and the value is read out.

export function cursorKeys(plot, { length, text, move }) {
  let at = null;
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };

  plot.addEventListener("keydown", (event) => {
    if (!(event.key in steps) || !length()) return;
    event.preventDefault();
    const last = length() - 1;
    at = Math.min(last, Math.max(0, (at ?? last) + steps[event.key]));
    show();
  });
  plot.addEventListener("focus", () => {
    if (!length()) return;
    at ??= length() - 1;
    show();
  });
  plot.addEventListener("blur", () => move(null));

  function show() {
    plot.setAttribute("aria-valuemax", length() - 1);
    plot.setAttribute("aria-valuenow", at);
    plot.setAttribute("aria-valuetext", text(at));
    move(at);
  }
  return { reset: () => { at = null; } };
}
