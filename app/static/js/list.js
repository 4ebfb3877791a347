// The list of all experiments: filtered by text, sorted by a column, and chosen to be compared.
import { experimentPath, get, send } from "./api.js";
import { compareLink, MOST } from "./chosen.js";
import { confirm } from "./confirm.js";
import { h, keyed, say } from "./dom.js";
import { plural, stateName, usd, when } from "./format.js";
import { spent } from "./privacy.js";
import { mayCreate, onKeyChange } from "./key.js";
import { repeat } from "./live.js";
import { metricNames, mainSeries, seriesOf, titleOf, valueText } from "./metrics.js";
import { t } from "./words.js";

const PAGE = 1000;
const LOOKED_UP = 30; // experiments without a recorded best model whose newest figure is fetched
const ENDED = new Set(["completed", "failed", "stopped"]);
const COLUMNS = [
  { name: t("Experiment"), of: (e) => e.name.toLowerCase() || e.id },
  { name: t("State"), of: (e) => e.state },
  { name: t("Model"), of: (e) => e.model },
  { name: t("Data"), of: (e) => e.dataset },
  { name: t("Strategy"), of: (e) => e.strategy },
  { name: t("Result"), of: (e) => e.result?.value ?? -Infinity, descending: true },
  { name: t("Cost"), of: (e) => e.cost_usd ?? -1, descending: true },
  { name: t("Created"), of: (e) => e.created_at, descending: true },
];

/** What the reader looks at. It stays while the tab shows other views. */
const look = { text: "", column: t("Created"), descending: true, chosen: new Set() };

export function listView(main) {
  const body = h("tbody");
  const note = h("p.muted", { role: "status" }, t("Loading …"));
  const create = h("a.button.primary", { href: "#/new" }, t("New experiment"));
  const compare = h("a.button", { "aria-describedby": "compare-help" }, t("Compare"));
  const remove = h("button.danger", { type: "button" }, t("Delete …"));
  const filter = h("input", { type: "search", id: "filter", value: look.text, placeholder: t("Name, model, data, strategy, state") });
  const heads = COLUMNS.map((column) => headOf(column, () => show()));
  const table = h("div.scroll.tall", { tabindex: "0", role: "group", "aria-label": t("Experiments") },
    h("table.lined.experiments", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span.sr", {}, t("Compare"))),
      heads.map((head) => head.node))), body));
  const tools = h("div.row.tools", {},
    h("div.field", {}, h("label", { for: "filter" }, t("Filter")), filter), compare, remove,
    h("span.small.muted", { id: "compare-help" }, t("Tick two experiments or more to see their curves in one chart.")));
  const card = h("div.card", {}, tools, table);
  main.append(
    h("div.head", {}, h("div.title", {}, h("h1", {}, t("Experiments")), h("span.spacer"), create)), note, card);
  const showKey = () => [create, remove].forEach((node) => node.classList.toggle("hidden", !mayCreate()));
  showKey();

  const known = new Map();
  const results = new Map(); // by id: the newest figure of experiments that have no recorded best one
  const choose = (id, on) => {
    if (on && look.chosen.size >= MOST) {
      say(t("At most {n} experiments fit into one chart.", { n: MOST }));
      return false;
    }
    look.chosen[on ? "add" : "delete"](id);
    showChosen();
    return true;
  };
  const showChosen = () => {
    const ids = [...look.chosen].filter((id) => known.has(id));
    compare.textContent = ids.length ? t("Compare {n}", { n: ids.length }) : t("Compare");
    if (ids.length > 1) compare.setAttribute("href", compareLink(ids));
    else compare.removeAttribute("href"); // a link without an address is not to be used
    compare.setAttribute("aria-disabled", String(ids.length < 2));
    remove.disabled = !over().length;
  };
  const over = () => [...look.chosen].map((id) => known.get(id)).filter((e) => e && ENDED.has(e.state));
  remove.addEventListener("click", () => confirmDelete(over(), look.chosen.size, (id) => {
    known.delete(id);
    look.chosen.delete(id);
    show();
  }));
  const show = () => {
    const all = [...known.values()].map((e) => ({ ...e, result: resultOf(e) ?? results.get(e.id) ?? null }));
    const rows = sorted(all.filter(matches));
    note.textContent = all.length ? "" : t("There is none yet. An admin or an owner can create one.");
    if (all.length && !rows.length) note.textContent = t("No experiment has this text.");
    card.classList.toggle("hidden", !all.length);
    for (const head of heads) head.show();
    keyed(body, rows, (e) => e.id, (e) => row(e, choose));
    showChosen();
  };
  filter.addEventListener("input", () => {
    look.text = filter.value;
    show();
  });

  const refresh = async () => {
    try {
      await fetchNews(known);
      show();
      if (await lookUp(known, results)) show();
    } catch (error) {
      note.textContent = `${error.message} ${t("Trying again.")}`;
    }
  };
  const stop = repeat(refresh, () => ([...known.values()].some((e) => !ENDED.has(e.state)) ? 3 : 10));
  const unlisten = onKeyChange(showKey);
  return () => {
    stop();
    unlisten();
  };
}

/** Asks, and deletes the chosen experiments that have ended; `gone(id)` is called for each. */
function confirmDelete(experiments, chosen, gone) {
  const names = experiments.map(({ id, name }) => name || id).join(", ");
  const left = chosen - experiments.length;
  const question = {
    title: plural(experiments.length, "Delete {n} experiment?", "Delete {n} experiments?"),
    text: [t("{names}: the models, updates, clients and records are deleted and cannot be brought back.", { names }),
      left && plural(left, "{n} chosen experiment has not ended, and will stay.", "{n} chosen experiments have not ended, and will stay.")].filter(Boolean).join(" "),
    yes: t("Delete"),
    no: t("Keep"),
  };
  confirm(question, async () => {
    for (const { id } of experiments) {
      await send("DELETE", experimentPath(id));
      gone(id);
    }
    say(experiments.length > 1 ? t("The experiments are deleted.") : t("The experiment is deleted."));
  });
}

/** Fetches the experiments from the first one on that has not ended; the others when the list is opened again. */
async function fetchNews(known) {
  let after = "";
  for (const experiment of known.values()) {
    if (!ENDED.has(experiment.state)) break;
    after = experiment.id;
  }
  let page;
  do {
    page = await get(`v1/experiments?limit=${PAGE}&after=${encodeURIComponent(after)}`);
    for (const experiment of page) known.set(experiment.id, experiment);
    after = page.at(-1)?.id;
  } while (page.length === PAGE);
}

/** The best model's value, if the coordinator has recorded one. */
function resultOf({ best, goal }) {
  return best && { metric: goal.metric, value: best.value, note: t("best, model {version}", { version: best.version }) };
}

/** Fetches the newest figures of experiments that do not report the goal's metric; says whether there are any. */
async function lookUp(known, results) {
  const asked = [...known.values()].reverse()
    .filter((e) => !e.best && e.model_version > 0 && results.get(e.id)?.round !== e.round).slice(0, LOOKED_UP);
  for (const { id, round } of asked) {
    const view = await get(`${experimentPath(id)}?after_round=${Math.max(0, round - 2)}`);
    const [metric] = metricNames(view, []);
    const point = mainSeries(seriesOf(view, [], metric))?.points.at(-1);
    results.set(id, { round, metric, value: point?.[1], note: point && t("newest, model {version}", { version: point[0] }) });
  }
  return asked.length > 0;
}

function matches({ name, id, model, dataset, strategy, state }) {
  const all = [name, id, model, dataset, strategy, stateName(state)].join(" ").toLowerCase();
  return look.text.toLowerCase().split(/\s+/).every((word) => all.includes(word));
}

function sorted(experiments) {
  const { of } = COLUMNS.find(({ name }) => name === look.column);
  const sign = look.descending ? -1 : 1;
  return experiments.sort((a, b) => {
    const [x, y] = [of(a), of(b)];
    return x === y ? b.created_at.localeCompare(a.created_at) : sign * (x < y ? -1 : 1);
  });
}

/** A column's head: a button that sorts by it, and the other way round if it does already. */
function headOf({ name, descending = false }, changed) {
  const arrow = h("span", { "aria-hidden": "true" });
  const press = () => {
    look.descending = look.column === name ? !look.descending : descending;
    look.column = name;
    changed();
  };
  const node = h("th", { scope: "col" }, h("button.sort", { type: "button", onclick: press }, name, arrow));
  const show = () => {
    const on = look.column === name;
    node.setAttribute("aria-sort", !on ? "none" : look.descending ? "descending" : "ascending");
    arrow.textContent = !on ? "" : look.descending ? "↓" : "↑";
  };
  return { node, show };
}

function row(experiment, choose) {
  const { id, name, state, round, rounds, model, dataset, data, strategy, result, cost_usd, privacy, expires_at } = experiment;
  const done = state === "completed" ? rounds : (experiment.model_version ?? 0);
  const title = name || id;
  const box = h("input", {
    type: "checkbox", "aria-label": t("Compare {title}", { title }), checked: look.chosen.has(id),
    onchange: (event) => (event.target.checked = choose(id, event.target.checked) && event.target.checked),
  });
  const cell = (kind, label, ...content) => h(`td.${kind}`, { "data-label": label }, ...content);
  return h("tr", {}, h("td.tick", {}, h("label", {}, box)),
    h("td.wrap.name", {}, h("a", { href: `#/experiments/${encodeURIComponent(id)}` }, h("strong", {}, title),
      h("span.mono.small.muted", {}, id))),
    cell("state", t("State"), h(`span.badge.${state}`, {}, stateName(state)),
      h("progress", { max: rounds, value: done, "aria-label": t("Rounds done of {title}", { title }) }),
      h("span.small.muted", {}, round ? t("Round {round} of {rounds}", { round, rounds }) : t("{rounds} rounds, none begun", { rounds }))),
    cell("model", t("Model"), model), cell("data", t("Data"), dataset, data === "own" && h("span.small.muted", {}, t("parties’ own"))),
    cell("strategy", t("Strategy"), strategy, privacy && h("span.small.muted", { title: privacy.meaning }, t("privacy: {spent}", { spent: spent(privacy) }))),
    cell("result", t("Result"), result?.value === undefined ? "–" : [h("b", {}, valueText(result.metric, result.value)),
      h("span.small.muted", {}, `${titleOf(result.metric)}, ${result.note}`)]),
    cell("cost", t("Cost"), cost_usd === null ? "–" : usd(cost_usd)), cell("created", t("Created"), when(experiment.created_at),
      expires_at && h("span.small.muted", {}, t("deleted on {when}", { when: when(expires_at) }))));
}
