// The current round: its cohort, the clients that reported or were refused, and the time left.
import { card, h, keyed, once } from "./dom.js";
import { bytes, count, seconds } from "./format.js";

export function roundSection() {
  const left = h("span.countdown");
  const about = h("p.muted.small");
  const members = h("ul.members");
  const earlier = h("div.small.muted");
  const node = card("Current round", about, members, earlier);
  node.firstChild.append(left);

  let deadline = null; // in the time of this machine's clock
  const tick = () => {
    left.textContent = deadline === null ? "" : `${seconds((deadline - Date.now()) / 1000)} left`;
  };
  const timer = setInterval(tick, 1000);
  const tell = once(({ text, lines }) => {
    about.textContent = text;
    earlier.replaceChildren(...lines.map((line) => h("p", {}, line)));
  });
  const update = (view) => {
    const round = view.current_round;
    node.querySelector("h2").textContent = view.ended_at || view.state === "paused" ? "Last round" : "Current round";
    if (!round) {
      const { clients, min_clients } = view.config;
      if (view.config.selection === "secret" && view.round) {
        tell({ text: "Who takes part is secret: the key of the admin or of the owner shows it.", lines: [] });
        return;
      }
      const text = view.ended_at ? "No round was opened." : `The first round opens when ${min_clients ?? clients} clients are enrolled.`;
      tell({ text, lines: [] });
      return;
    }
    const collecting = round.state === "collecting" && !view.ended_at;
    deadline = collecting ? Date.parse(round.deadline) + view.skew : null;
    tick();
    const attempt = round.attempt > 1 ? `, attempt ${round.attempt}` : "";
    tell({
      text: `Round ${round.number} of ${view.config.rounds}${attempt}: ${round.state}. `
        + `${round.reported.length} of ${round.cohort.length} updates, ${bytes(round.update_bytes || sum(round.updates))}.`,
      lines: round.earlier_attempts.map((a) => `Attempt ${a.attempt} got ${a.reported.length} of ${a.cohort.length} updates`
        + (a.missing.length ? `; missing: ${a.missing.join(", ")}.` : "."))
        .concat(round.wrong_shares?.length ? [`Left out: shares of ${round.wrong_shares.join(", ")} that did not fit the others’.`] : []),
    });
    keyed(members, membersOf(round), (m) => m.id, member);
  };
  return { node, update, end: () => clearInterval(timer) };
}

const sum = (updates) => updates.reduce((total, update) => total + update.size, 0);

function membersOf(round) {
  const updates = new Map(round.updates.map((u) => [u.client, u]));
  const refusals = new Map(round.refused.map((r) => [r.client, r]));
  const all = [...new Set([...round.cohort, ...round.reported])];
  return all.map((id) => {
    if (round.masked && !round.helped && PHASES.includes(round.state)) return inPhase(round, id);
    if (updates.has(id)) return { id, what: "reported", note: noteOf(round, updates.get(id)) };
    if (refusals.has(id)) return { id, what: "refused", note: `refused: ${refusals.get(id).reason}` };
    if (round.revoked.includes(id)) return { id, what: "refused", note: "revoked by the admin" };
    const open = round.state === "collecting";
    return { id, what: "missing", note: open ? "in training" : "did not report in time" };
  });
}

// Secure aggregation has phases before and after the training, in which clients send no updates.
const PHASES = ["advertising", "sharing", "confirming", "unmasking"];

function inPhase(round, id) {
  const awaited = round.missing.includes(id);
  if (!awaited && !round.awaited.includes(id)) return { id, what: "missing", note: "not awaited" };
  return awaited ? { id, what: "missing", note: "awaited" } : { id, what: "reported", note: "has done its part" };
}

function noteOf(round, update) {
  return round.masked ? "sent a masked update" : `trained on ${count(update.num_examples)} examples`;
}

function member({ id, what, note }) {
  const mark = { reported: "✓", refused: "✕", missing: "…" }[what];
  return h(`li.${what}`, {}, h("span.mark", { "aria-hidden": "true" }, mark), h("span", {}, id), h("span.note", {}, note));
}
