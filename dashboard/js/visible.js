// Nothing is asked for while nobody looks.

/** Call `tick` again and again, `wait()` ms after the last one ended; only while the tab is seen. */
export function whileVisible(tick, wait) {
  let timer = 0;
  let stopped = false;
  let busy = false;

  async function run() {
    clearTimeout(timer);
    if (stopped || busy || document.hidden) return;
    busy = true;
    try {
      await tick();
    } finally {
      busy = false;
      if (!stopped && !document.hidden) timer = setTimeout(run, wait());
    }
  }

  const changed = () => (document.hidden ? clearTimeout(timer) : run());
  document.addEventListener("visibilitychange", changed);
  addEventListener("online", changed);
  timer = setTimeout(run, wait());
  return {
    now: run,
    stop() {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", changed);
      removeEventListener("online", changed);
    },
  };
}
