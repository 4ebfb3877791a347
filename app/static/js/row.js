// A form with a field for each column of a model's table; what the model says of the row stands below it.
import { h, keyed } from "./dom.js";
import { number, percent } from "./format.js";
import { answer } from "./table.js";
import { t } from "./words.js";

const SHOWN = 5; // classes
const MOST = 300; // columns of a form that somebody fills in

/** The form for a table of `readTableModel`; `ask(values)` answers, perhaps later. Throws Error if it would be too long. */
export function rowForm(model, ask = (values) => answer(model, values)) {
  if (model.columns.length > MOST) {
    throw new Error(t("The table has {n} columns, too many for a form: give the model to .venv/bin/serverless-fl predict.", { n: model.columns.length }));
  }
  const result = h("ul.guesses", { "aria-live": "polite" });
  const controls = model.columns.map((column, at) => [column.name, controlOf(column, `row-${at}`)]);
  const form = h("form.filled", { onsubmit: (event) => event.preventDefault() },
    h("div.fields", {}, controls.map(([name, control]) =>
      h("div.field", {}, h("label", { for: control.id }, name), control))), result);
  let turn = 0;
  form.addEventListener("input", async () => {
    const mine = (turn += 1);
    const values = Object.fromEntries(controls.map(([name, control]) => [name, valueOf(control)]));
    const filled = Object.values(values).some((value) => value !== null);
    const found = filled ? await ask(values) : { classes: [] };
    if (mine === turn) show(result, model.label.name, found);
  });
  return form;
}

function controlOf({ kind, categories = [] }, id) {
  if (kind === "number") return h("input", { id, type: "number", step: "any", placeholder: t("missing") });
  const options = kind === "boolean" ? [["1", t("yes")], ["0", t("no")]] : [...categories.map((word) => [word, word]), ["\u0000", t("another")]];
  return h("select", { id, "data-kind": kind }, h("option", { value: "" }, t("missing")), options.map(([value, text]) => h("option", { value }, text)));
}

const valueOf = (control) => (control.value === "" ? null : control.dataset.kind === "category" ? control.value : Number(control.value));

function show(result, label, { classes, estimate }) {
  if (!classes) return result.replaceChildren(h("li", {}, h("b", {}, number(estimate)), h("span", {}, label)));
  keyed(result, classes.slice(0, SHOWN), ([name]) => name, ([name, share]) => h("li", {}, h("b", {}, name),
    h("progress", { max: 1, value: share, "aria-label": t("Probability of {name}", { name }) }), h("span.num", {}, percent(share))));
}
