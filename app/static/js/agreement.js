// The terms of an experiment whose parties bring data of their own: classes, columns, their scales.
import { experimentPath, get } from "./api.js";
import { card, h, once } from "./dom.js";
import { count, rounded } from "./format.js";
import { t } from "./words.js";

const CLASS = /^class \d+$/;
const COLUMN = /^column /;

export function agreementSection(id) {
  const note = h("p.muted.small");
  const facts = h("dl.facts");
  const body = h("tbody");
  const heads = [t("Column"), t("Kind"), t("Mean"), t("Deviation"), t("Values")].map((name) => h("th", { scope: "col" }, name));
  const table = h("div.scroll", { tabindex: "0", role: "group", "aria-label": t("Agreed columns") },
    h("table", {}, h("thead", {}, h("tr", {}, heads)), body));
  const node = card(t("What the parties agreed on"), note, facts, table);
  node.classList.add("hidden");
  let seen = "";

  const show = once(({ agreed, federated, key, begun }) => {
    const columns = agreed ? columnsOf(agreed) : [];
    note.textContent = !key ? t("Whoever may read the experiment sees the terms: log in.") : noteOf(federated, begun, columns);
    facts.replaceChildren(...(agreed ? factsOf(agreed) : []).map(([name, value]) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, value))));
    table.classList.toggle("hidden", !columns.length);
    body.replaceChildren(...columns.map(({ name, kind, scale }) => h("tr", {}, h("td", {}, name), h("td", {}, kind),
      h("td.num", {}, scale ? figure(scale.mean) : "–"), h("td.num", {}, scale ? figure(scale.deviation) : "–"),
      h("td.num", {}, scale ? count(scale.count) : "–"))));
  });
  const update = (view) => {
    const own = view.config.data === "own" && view.model_version !== null;
    node.classList.toggle("hidden", !own);
    if (!own) return;
    const now = { federated: view.config.normalisation === "federated", key: view.rights.reads, begun: view.round > 0 };
    const wanted = JSON.stringify(now);
    if (wanted === seen) return;
    seen = wanted;
    if (!now.key) return show(now);
    get(`${experimentPath(id)}/agreement`).then((agreed) => show({ ...now, agreed }), (error) => {
      seen = ""; // try again with the next view
      note.textContent = error.message;
    });
  };
  return { node, update };
}

/** All facts but the columns; the classes stand together. */
function factsOf({ facts, max_examples: most }) {
  const names = Object.keys(facts);
  const classes = names.filter((name) => CLASS.test(name)).map((name) => facts[name]);
  const others = names.filter((name) => !CLASS.test(name) && !COLUMN.test(name)).map((name) => [name, facts[name]]);
  return [...others, ...(classes.length ? [[t("classes, in their order"), classes.join(", ")]] : []),
    [t("examples that a party may declare"), t("at most {n}", { n: count(most) })]];
}

/** The columns with their kinds, and the numbers among them with their scales, also the label. */
function columnsOf({ facts, scales }) {
  const byName = new Map(scales.map((scale) => [scale.column, scale]));
  const columns = Object.keys(facts).filter((name) => COLUMN.test(name))
    .map((name) => ({ name: name.replace(COLUMN, ""), kind: facts[name] }));
  const named = new Set(columns.map(({ name }) => name));
  const others = scales.filter(({ column }) => !named.has(column)).map(({ column }) => ({ name: column, kind: "number" }));
  return [...columns, ...others].map((column) => ({ ...column, scale: byName.get(column.name) }));
}

function noteOf(federated, begun, columns) {
  if (!columns.length) return t("Each party’s data were compared with these words when it enrolled.");
  if (!federated) return t("Each party’s columns were compared with these. Their mean and deviation are those of the initial model.");
  return begun ? t("Mean and deviation were fixed from the sums of all parties that were there at the start.")
    : t("Mean and deviation will be fixed from the parties’ sums when the first round opens.");
}

const figure = (value) => rounded(value, 4);
