// The form for a new experiment: the settings that the API describes, and the initial weights.
import { adaptCohort, leaveUntouched, showWhoseData } from "./adapting.js";
import { get, post } from "./api.js";
import { beginning } from "./beginning.js";
import { fieldsOf, formField, readFields, showFaults } from "./fields.js";
import { h, say } from "./dom.js";
import { askForKey, keyNow, mayCreate, onKeyChange } from "./key.js";
import { uploadInitial } from "./upload.js";
import { t } from "./words.js";

const FOUND = new Set(["data", "dataset", "dataset_size", "model"]); // by the command `create`
const FIRST = ["data", "dataset", "dataset_size", "model", "clients", "clients_per_round", "rounds", "local_epochs",
  "batch_size", "learning_rate", "momentum"];

export function createView(main) {
  let over = false;
  const show = async () => {
    if (!mayCreate()) {
      main.replaceChildren(h("h1", {}, t("New experiment")), h("p", {}, t("An admin or an owner can create one.")),
        keyNow() ? "" : h("div", {}, h("button.primary", { type: "button", onclick: askForKey }, t("Log in"))));
      return;
    }
    try {
      const { schemas } = (await get("openapi.json")).components;
      const form = createForm(fieldsOf(schemas.ExperimentConfig, schemas));
      if (!over) main.replaceChildren(h("a", { href: "#/" }, t("← All experiments")), h("h1", {}, t("New experiment")), form);
    } catch (error) {
      main.replaceChildren(h("p.fault", { role: "alert" }, error.message));
    }
  };
  const unlisten = onKeyChange(show);
  show();
  return () => {
    over = true;
    unlisten();
  };
}

/** The fields of each group under its name, in the order of the schema. */
function groupsOf(fields) {
  const names = [...new Set(fields.map((field) => field.group))];
  return names.map((name) => h("fieldset", {}, h("legend", { lang: "en" }, name),
    h("div.fields", {}, fields.filter((field) => field.group === name).flatMap(formField))));
}

function createForm(fields) {
  const fault = h("p.fault", { role: "alert" });
  const button = h("button.primary", { type: "submit" }, t("Create experiment"));
  const progress = h("progress.hidden", { max: 1, value: 0, "aria-label": t("Upload") });
  const name = { name: "name", label: t("name"), help: t("For people; may stay empty."), type: "text", ours: true };
  const begin = beginning(fault);
  const byName = new Map(fields.map((field) => [field.name, field]));
  const first = FIRST.filter((n) => byName.has(n)).map((n) => byName.get(n));
  const others = fields.filter((field) => !FIRST.includes(field.name));
  const form = h("form.card", { novalidate: true }, begin.node,
    h("div.fields", {}, [name, ...first].flatMap(formField)),
    h("details", {}, h("summary", {}, t("More settings")), groupsOf(others)),
    fault, progress, h("div.row.end", {}, button));

  const changed = () => {
    showWhoseData(form);
    begin.showCommand(form.elements.name.value, changedSettings(form, fields));
  };
  begin.connect(form, changed);
  adaptCohort(form);
  leaveUntouched(form);
  form.addEventListener("input", changed);
  form.addEventListener("change", changed);
  changed();

  // The key stays while the form stays, so a repeated call makes no second experiment.
  let once = null;
  form.addEventListener("input", () => (once = null));
  form.addEventListener("change", () => (once = null));
  const send = async () => {
    const config = readFields(form, fields);
    const weights = await begin.weights(config.seed ?? 0);
    once ??= [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
    const made = await post("v1/experiments", { name: form.elements.name.value, config }, { "Idempotency-Key": once });
    progress.classList.remove("hidden");
    await uploadInitial(made, weights, (share) => (progress.value = share));
    say(t("Created. Hand the parties what “Take part” shows."));
    location.hash = `#/experiments/${encodeURIComponent(made.id)}`;
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    showFaults(form, []);
    fault.textContent = "";
    try {
      await send();
    } catch (error) {
      const shown = showFaults(form, error.errors ?? []);
      fault.textContent = shown ? t("Some settings are not right: see above.") : error.message;
    }
    progress.classList.add("hidden");
    button.disabled = false;
  });
  return form;
}

/** `[name, value]` of the settings that differ from their defaults, but for those that `create` finds itself. */
function changedSettings(form, fields) {
  const usual = new Map();
  const note = ({ name, initial, alternatives }) => {
    usual.set(name, String(initial));
    for (const { fields: inner } of Object.values(alternatives ?? {})) inner.forEach(note);
  };
  fields.forEach(note);
  const flat = Object.entries(readFields(form, fields)).flatMap(([name, value]) => (typeof value !== "object" ? [[name, value]]
    : Object.entries(value).map(([inner, one]) => [inner === "name" ? name : inner, one])));
  return flat.filter(([name, value]) => name === "clients" || (!FOUND.has(name) && String(value) !== usual.get(name)));
}
