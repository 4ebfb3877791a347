// The last closed rounds in full: what each client sent, and what was refused.
import { experimentPath, get } from "./api.js";

/** Says whether the coordinator hides the rounds from this caller. Their costs and counts are unknown then, not 0. */
export const areHidden = ({ cost }) => cost === null;

const KEPT = 10; // a long experiment has more than a page should fetch

/** `rounds` are the last closed ones, ascending; `refresh(view)` fetches those that are new. */
export function roundsOf(id) {
  const known = new Map();
  let seen = "";
  const catalogue = {
    rounds: [],
    async refresh({ history }) {
      const wanted = history.filter((r) => r.state === "closed").map((r) => r.number).slice(-KEPT);
      const now = wanted.join();
      if (now === seen) return false;
      seen = now;
      try {
        const missing = wanted.filter((number) => !known.has(number));
        const found = await Promise.all(missing.map((number) => get(`${experimentPath(id)}/rounds/${number}`)));
        for (const round of found) known.set(round.number, round);
      } catch (error) {
        seen = ""; // try again with the next view
        throw error;
      }
      for (const number of known.keys()) if (!wanted.includes(number)) known.delete(number);
      catalogue.rounds = [...known.values()].sort((a, b) => a.number - b.number);
      return true;
    },
  };
  return catalogue;
}

/**
 * By client: `{share, refused, reason, last, metrics, seconds, behind}` of these rounds. `share` is its
 * mean share of the weight: by the strategy's own weights, else by examples. `seconds` is the mean time
 * from a round's opening to its update, and `behind` how many models older than the round's its base was
 * on average. The three are null before its first update.
 */
export function figuresOf(rounds, open) {
  const found = new Map();
  const of = (client) => {
    if (!found.has(client)) found.set(client, { shares: 0, took: [], older: [], refused: 0, reason: "", last: null, metrics: {} });
    return found.get(client);
  };
  for (const { updates, refused } of open ? [...rounds, open] : rounds) {
    for (const { client, received_at, metrics } of updates) Object.assign(of(client), { last: received_at, metrics });
    for (const { client, reason } of refused) {
      of(client).refused += 1;
      of(client).reason = reason;
    }
  }
  for (const { updates, opened_at, base_version } of rounds) {
    const weightOf = (update) => update.weight ?? update.num_examples;
    const total = updates.reduce((sum, update) => sum + weightOf(update), 0);
    for (const update of updates) {
      if (total) of(update.client).shares += weightOf(update) / total;
      of(update.client).took.push((Date.parse(update.received_at) - Date.parse(opened_at)) / 1000);
      of(update.client).older.push(base_version - (update.base_version ?? base_version));
    }
  }
  for (const one of found.values()) {
    one.share = rounds.length && one.last ? one.shares / rounds.length : null;
    one.seconds = mean(one.took);
    one.behind = mean(one.older);
  }
  return found;
}

const mean = (values) => (values.length ? values.reduce((a, b) => a + b) / values.length : null);
