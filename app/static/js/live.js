// Follows an experiment: by server-sent events where the coordinator streams, else by polling.
import { address, experimentPath, get } from "./api.js";
import { t } from "./words.js";

const AFTERMATH = [2, 5, 15, 60]; // seconds after the end, because the last evaluations come late
const LONGEST_PAUSE = 30;

/**
 * Calls `show(view)` with every new view, with its whole history. `skew` in it are the milliseconds
 * that this machine's clock is ahead. Calls `fail(error)` when the coordinator does not answer.
 * Rests while the tab is hidden. Gives a function that ends it.
 */
export function follow(id, show, fail) {
  const rounds = new Map();
  let closed = 0; // the last closed round in the history
  let stream = document.documentElement.dataset.live === "on";
  let source = null;
  let timer = 0;
  let faults = 0;
  let ends = 0;
  let running = 0; // counts starts, to drop a late answer to an earlier start

  const take = (view) => {
    faults = 0;
    for (const round of view.history) {
      rounds.set(round.number, round);
      if (round.closed_at) closed = Math.max(closed, round.number);
    }
    const history = [...rounds.values()].sort((a, b) => a.number - b.number);
    show({ ...view, history, skew: Date.now() - Date.parse(view.now) });
    return view;
  };

  const poll = async (turn) => {
    let pause;
    try {
      const view = await get(`${experimentPath(id)}?after_round=${closed}`);
      if (turn !== running) return;
      take(view);
      if (view.ended_at && ends >= AFTERMATH.length) return;
      pause = view.ended_at ? AFTERMATH[ends++] : view.retry_after;
    } catch (error) {
      if (turn !== running) return;
      fail(error);
      if (error.status === 404) return;
      pause = error.retryAfter ?? Math.min(2 ** faults++, LONGEST_PAUSE);
    }
    timer = setTimeout(poll, pause * 1000, turn);
  };

  const listen = (turn) => {
    source = new EventSource(address(`${experimentPath(id)}/events?after_round=${closed}`));
    source.addEventListener("experiment", (event) => {
      if (take(JSON.parse(event.data)).ended_at === null) return;
      source.close();
      timer = setTimeout(poll, AFTERMATH[ends++] * 1000, turn);
    });
    source.addEventListener("error", () => {
      if (turn !== running) return;
      if (source.readyState !== EventSource.CLOSED) return fail({ status: 0, message: t("The connection is lost; trying again.") });
      stream = false; // the coordinator does not stream, but it may answer polls
      poll(turn);
    });
  };

  const rest = () => {
    running += 1;
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const start = () => {
    rest();
    if (document.hidden) return;
    if (stream && !ends) listen(running);
    else poll(running);
  };
  document.addEventListener("visibilitychange", start);
  start();
  return () => {
    document.removeEventListener("visibilitychange", start);
    rest();
  };
}

/** Calls an async function again and again, `pause()` seconds apart, while the tab is visible. */
export function repeat(work, pause) {
  let timer = 0;
  let over = false;
  const turn = async () => {
    clearTimeout(timer);
    if (over || document.hidden) return;
    await work();
    if (!over) timer = setTimeout(turn, pause() * 1000);
  };
  document.addEventListener("visibilitychange", turn);
  turn();
  return () => {
    over = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", turn);
  };
}
