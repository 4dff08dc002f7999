// When to ask the gateway again: every two seconds while somebody looks, less often while it does not answer.
//
// Owns the clock of it. What is asked, and what becomes of the answer, is given by `app.js`.

const EVERY_MS = 2000;
const WAITS_MS = [2000, 4000, 8000, 15_000];

/**
 * Ask now and again. `ask()` returns a promise; `settled(answer, failure, nextInMs)` hears of each end.
 * Only one request is on its way at a time; an answer to a request from before `restart` or `stop` is dropped.
 */
export function polling({ ask, settled }) {
  let timer = 0;
  let round = 0;
  let failures = 0;
  let isRunning = false;

  async function once() {
    const mine = (round += 1);
    clearTimeout(timer);
    let answer = null;
    let failure = null;
    try {
      answer = await ask();
    } catch (error) {
      failure = error;
    }
    if (mine !== round || !isRunning) return;
    failures = failure ? failures + 1 : 0;
    const wait = failure ? WAITS_MS[Math.min(failures, WAITS_MS.length) - 1] : EVERY_MS;
    if (!document.hidden) timer = setTimeout(once, wait);
    settled(answer, failure, wait);
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (isRunning && !document.hidden) once();
  });

  return {
    /** Ask at once, and go on asking. */
    restart() {
      isRunning = true;
      once();
    },
    stop() {
      isRunning = false;
      round += 1;
      failures = 0;
      clearTimeout(timer);
    },
  };
}
