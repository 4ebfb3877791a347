// The last closed rounds in full: what each client sent, and what was refused.
import { experimentPath, get } from "./api.js";

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
 * By client: `{share, refused, reason, last, metrics}` of these rounds. `share` is its mean share of
 * the weight: by the strategy's own weights, else by examples; null before its first update.
 */
export function figuresOf(rounds, open) {
  const found = new Map();
  const of = (client) => {
    if (!found.has(client)) found.set(client, { shares: 0, refused: 0, reason: "", last: null, metrics: {} });
    return found.get(client);
  };
  for (const { updates, refused } of open ? [...rounds, open] : rounds) {
    for (const { client, received_at, metrics } of updates) Object.assign(of(client), { last: received_at, metrics });
    for (const { client, reason } of refused) {
      of(client).refused += 1;
      of(client).reason = reason;
    }
  }
  for (const { updates } of rounds) {
    const weightOf = (update) => update.weight ?? update.num_examples;
    const total = updates.reduce((sum, update) => sum + weightOf(update), 0);
    for (const update of updates) if (total) of(update.client).shares += weightOf(update) / total;
  }
  for (const one of found.values()) one.share = rounds.length && one.last ? one.shares / rounds.length : null;
  return found;
}
