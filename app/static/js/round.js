// The current round: its cohort, the clients that reported or were refused, and the time left.
import { card, h, keyed, once } from "./dom.js";
import { bytes, plural, seconds, stateName } from "./format.js";
import { areHidden } from "./rounds.js";
import { t } from "./words.js";

export function roundSection() {
  const left = h("span.countdown");
  const about = h("p.muted.small");
  const members = h("ul.members");
  const earlier = h("div.small.muted");
  const node = card(t("Current round"), about, members, earlier);
  node.firstChild.append(left);

  let deadline = null; // in the time of this machine's clock
  const tick = () => {
    left.textContent = deadline === null ? "" : t("{time} left", { time: seconds((deadline - Date.now()) / 1000) });
  };
  const timer = setInterval(tick, 1000);
  const tell = once(({ text, lines }) => {
    about.textContent = text;
    earlier.replaceChildren(...lines.map((line) => h("p", {}, line)));
  });
  const update = (view) => {
    const round = view.current_round;
    node.querySelector("h2").textContent = view.ended_at || view.state === "paused" ? t("Last round") : t("Current round");
    if (!round) {
      const { clients, min_clients } = view.config;
      if (areHidden(view)) {
        tell({ text: t("Who takes part is secret: the key of the admin or of the owner shows it."), lines: [] });
        return;
      }
      const text = view.ended_at ? t("No round was opened.")
        : plural(min_clients ?? clients, "The first round opens when {n} client is enrolled.", "The first round opens when {n} clients are enrolled.");
      tell({ text, lines: [] });
      return;
    }
    const collecting = round.state === "collecting" && !view.ended_at;
    deadline = collecting ? Date.parse(round.deadline) + view.skew : null;
    tick();
    const values = {
      round: round.number, rounds: view.config.rounds, attempt: round.attempt, state: stateName(round.state),
      reported: round.reported.length, cohort: round.cohort.length, size: bytes(round.update_bytes || sum(round.updates)),
    };
    tell({
      text: round.attempt > 1
        ? t("Round {round} of {rounds}, attempt {attempt}: {state}. {reported} of {cohort} updates, {size}.", values)
        : t("Round {round} of {rounds}: {state}. {reported} of {cohort} updates, {size}.", values),
      lines: round.earlier_attempts.map(attemptLine).concat(round.wrong_shares?.length
        ? [t("Left out: shares of {names} that did not fit the others’.", { names: round.wrong_shares.join(", ") })] : []),
    });
    keyed(members, membersOf(round), (m) => m.id, member);
  };
  return { node, update, end: () => clearInterval(timer) };
}

function attemptLine({ attempt, reported, cohort, missing }) {
  const values = { attempt, reported: reported.length, cohort: cohort.length, names: missing.join(", ") };
  return missing.length ? t("Attempt {attempt} got {reported} of {cohort} updates; missing: {names}.", values)
    : t("Attempt {attempt} got {reported} of {cohort} updates.", values);
}

const sum = (updates) => updates.reduce((total, update) => total + update.size, 0);

function membersOf(round) {
  const updates = new Map(round.updates.map((u) => [u.client, u]));
  const refusals = new Map(round.refused.map((r) => [r.client, r]));
  const all = [...new Set([...round.cohort, ...round.reported])];
  return all.map((id) => {
    if (round.masked && !round.helped && PHASES.includes(round.state)) return inPhase(round, id);
    if (updates.has(id)) return { id, what: "reported", note: noteOf(round, updates.get(id)) };
    if (refusals.has(id)) return { id, what: "refused", note: t("refused: {reason}", { reason: refusals.get(id).reason }) };
    if (round.revoked.includes(id)) return { id, what: "refused", note: t("revoked by the admin") };
    const open = round.state === "collecting";
    return { id, what: "missing", note: open ? t("in training") : t("did not report in time") };
  });
}

// Secure aggregation has phases before and after the training, in which clients send no updates.
const PHASES = ["advertising", "sharing", "confirming", "unmasking"];

function inPhase(round, id) {
  const awaited = round.missing.includes(id);
  if (!awaited && !round.awaited.includes(id)) return { id, what: "missing", note: t("not awaited") };
  return awaited ? { id, what: "missing", note: t("awaited") } : { id, what: "reported", note: t("has done its part") };
}

function noteOf(round, update) {
  return round.masked ? t("sent a masked update") : plural(update.num_examples, "trained on {n} example", "trained on {n} examples");
}

function member({ id, what, note }) {
  const mark = { reported: "✓", refused: "✕", missing: "…" }[what];
  return h(`li.${what}`, {}, h("span.mark", { "aria-hidden": "true" }, mark), h("span", {}, id), h("span.note", {}, note));
}
