// The enrolled clients: their data, what they have added to the model, and what was refused.
import { experimentPath, get, post } from "./api.js";
import { choiceName } from "./config.js";
import { confirm } from "./confirm.js";
import { card, h, keyed, say } from "./dom.js";
import { count, decimals, percent, plural, seconds, when } from "./format.js";
import { labelsSection } from "./labels.js";
import { metricNames, titleOf, valueText } from "./metrics.js";
import { areHidden, figuresOf, roundsOf } from "./rounds.js";
import { t } from "./words.js";

const PAGE = 1000;
const WITH_LABELS = 200; // clients of a page that tell their labels, each up to 7 kB
const BY_COLUMN = new Set(["median", "trimmed-mean", "bulyan"]); // no update has a weight of its own in them

export function clientsSection(id) {
  const body = h("tbody");
  const note = h("p.muted");
  const measured = h("th", { scope: "col" });
  const pace = h("th", { scope: "col" });
  const column = (name) => h("th", { scope: "col" }, name || h("span.sr", {}, t("Actions")));
  const table = h("div.scroll", { tabindex: "0", role: "group", "aria-label": t("Clients") },
    h("table", {}, h("thead", {}, h("tr", {}, [t("Client"), t("Name"), t("Examples"), t("Rounds"), t("Refused"), t("Weight")].map(column),
      measured, pace, [t("Last update"), t("Enrolled"), ""].map(column))), body));
  const about = h("p.muted.small");
  const spread = h("p.small");
  const labels = labelsSection();
  const node = h("div.cards", {}, card(t("Clients"), note, spread, table, about), labels.node);
  const past = roundsOf(id);
  let clients = [];
  let seen = "0 0 "; // no client enrolled, none revoked

  const fetchAll = async (now, most = PAGE) => {
    if (now === seen) return;
    seen = now; // a new client may come between the others, because slots have no order in time
    const found = [];
    let page;
    do {
      const after = found.length ? `&after=${slotOf(found.at(-1).id)}` : "";
      page = await get(`${experimentPath(id)}/clients?limit=${most}${after}`);
      found.push(...page);
    } while (page.length === most);
    clients = found;
  };
  const update = (view, models) => {
    spread.textContent = byClient(view, models);
    const rounds = contributions(view.history);
    const [metric] = metricNames(view, []);
    const always = new Set((view.always_refused ?? []).map(({ client }) => client));
    const missing = new Map((view.left_out ?? []).map((out) => [out.client, out]));
    const strategy = choiceName(view.config.strategy);
    const show = () => {
      const figures = figuresOf(past.rounds, view.current_round?.state === "closed" ? null : view.current_round);
      const buffered = choiceName(view.config.schedule) === "buffered"; // nobody waits there, and models grow old
      pace.textContent = buffered ? t("Models behind") : t("Response");
      measured.textContent = t("{metric} on its data", { metric: titleOf(metric) });
      const several = plural(past.rounds.length, "Refused, weight and {pace} are of the last round. {metric}: the global model, before it trained.",
        "Refused, weight and {pace} are of the last {n} rounds. {metric}: the global model, before it trained.",
        { pace: pace.textContent.toLowerCase(), metric: titleOf(metric) });
      about.textContent = past.rounds.length ? several : "";
      labels.update(view, clients);
      note.textContent = clients.length ? distribution(clients) : t("Nobody has enrolled yet.");
      table.classList.toggle("hidden", !clients.length);
      const revocable = view.rights.owns && !view.ended_at;
      const rows = clients.map((c) => {
        const { share = null, seconds: took = null, behind = null, refused = 0, reason, last, metrics = {} } = figures.get(c.id) ?? {};
        const value = metrics[`${metric}_before`] ?? metrics[metric];
        return {
          ...c, hidden: areHidden(view), rounds: rounds.get(c.id) ?? 0, revocable, refused, reason, last, always: always.has(c.id), out: missing.get(c.id),
          share: BY_COLUMN.has(strategy) ? null : share, value: value === undefined ? null : valueText(metric, value),
          pace: buffered ? (behind === null ? null : decimals(behind, 1)) : took === null ? null : seconds(took),
        };
      });
      keyed(body, rows, (c) => c.id, (client) => row(client, revoke));
    };
    const asked = view.config.label_counts === "asked";
    const revoke = (client) => confirmRevoke(id, client, () => fetchAll("again").then(show));
    show();
    past.refresh(view).then((changed) => changed && show(), (error) => (note.textContent = error.message));
    // A client shares its labels a moment after it has enrolled, and no view tells that.
    const awaited = asked && clients.some((client) => !Object.keys(client.labels).length) ? `${view.round} ${view.current_round?.reported.length}` : "";
    fetchAll(`${view.enrolled} ${view.current_round?.revoked.length ?? 0} ${awaited}`, asked ? WITH_LABELS : PAGE).then(show, (error) => {
      seen = ""; // try again with the next view
      note.textContent = error.message;
    });
  };
  return { node, update };
}

/** The newest model that clients have reported on: mean, worst and spread over the clients. */
function byClient(view, models) {
  const [metric] = metricNames(view, models);
  const valuesOf = ({ evaluations }) => evaluations.filter((e) => e.source !== "central" && metric in e.metrics)
    .map((e) => ({ source: e.source, value: e.metrics[metric] }));
  const newest = models.findLast((model) => valuesOf(model).length > 1);
  if (!newest) return "";
  const values = valuesOf(newest);
  const mean = values.reduce((sum, { value }) => sum + value, 0) / values.length;
  const spread = Math.sqrt(values.reduce((sum, { value }) => sum + (value - mean) ** 2, 0) / values.length);
  const higher = view.goal ? view.goal.better === "higher" : !/loss/.test(metric);
  const worst = values.reduce((a, b) => ((higher ? b.value < a.value : b.value > a.value) ? b : a));
  const text = (value) => valueText(metric, value);
  return t("{metric} of model {version} on each client’s own held-out data: mean {mean}, worst {worst} ({client}), spread {spread} ({n} clients).", {
    metric: titleOf(metric), version: newest.version, mean: text(mean), worst: text(worst.value), client: worst.source, spread: text(spread),
    n: count(values.length),
  });
}

/** How the examples are spread over the clients. */
function distribution(clients) {
  const sizes = clients.map((c) => c.shard_size).sort((a, b) => a - b);
  const all = sizes.reduce((a, b) => a + b);
  const [least, most] = [sizes[0], sizes.at(-1)];
  const each = least === most ? t("{n} each", { n: count(least) })
    : t("{least} to {most} each, the largest {share} of all", { least: count(least), most: count(most), share: percent(most / all) });
  return `${plural(sizes.length, "{all} examples of {n} client", "{all} examples of {n} clients", { all: count(all) })}: ${each}.`;
}

const slotOf = (id) => Number(id.replace("client-", ""));

/** Maps each client to the number of closed rounds with its update. */
function contributions(history) {
  const rounds = new Map();
  for (const { state, contributors } of history) {
    if (state !== "closed") continue;
    for (const id of contributors) rounds.set(id, (rounds.get(id) ?? 0) + 1);
  }
  return rounds;
}

/** The fingerprint of a client's identity, of which the parties have the whole. */
function identityOf({ identity }) {
  return identity ? h("code.small", { title: identity }, ` ${identity.slice(0, 10)}…`) : null;
}

function row(client, revoke) {
  const button = h("button.tiny.danger",
    { type: "button", "aria-label": t("Revoke {client}", { client: client.id }), onclick: () => revoke(client) }, t("Revoke …"));
  const end = client.revoked_at ? h("span.muted", {}, t("revoked")) : client.revocable && button;
  return h("tr", {}, h("td", {}, client.id), h("td", {}, client.name || "–", identityOf(client)), h("td", {}, count(client.shard_size)),
    h(client.out ? "td.bad" : "td", { title: client.out?.reason || null },
      client.hidden ? "–" : count(client.rounds), client.out && h("span.small", {}, t(", left out of {n}", { n: count(client.out.rounds) }))),
    h(client.refused ? "td.bad" : "td", { title: client.reason || null },
      client.always ? t("always") : client.hidden ? "–" : count(client.refused)),
    h("td", {}, client.share === null ? "–" : percent(client.share)), h("td", {}, client.value ?? "–"),
    h("td", {}, client.pace ?? "–"),
    h("td.date", {}, client.last ? when(client.last) : "–"), h("td.date", {}, when(client.enrolled_at)), h("td.right", {}, end));
}

function confirmRevoke(id, { id: client, name }, done) {
  const question = {
    title: t("Revoke {client}?", { client: name ? `${client} (${name})` : client }),
    text: t("Its token stops working and no cohort includes it any more. That cannot be undone."),
    yes: t("Revoke it"),
    no: t("Keep it"),
  };
  confirm(question, async () => {
    await post(`${experimentPath(id)}/clients/${encodeURIComponent(client)}/revoke`);
    say(t("{client} is revoked.", { client }));
    await done();
  });
}
