// What the experiment learns, and its settings, the strategy first.
import { card, copyButton, h, once } from "./dom.js";
import { count, plain, seconds, words } from "./format.js";
import { t } from "./words.js";

// Settings of secure aggregation, which say nothing where it is off.
const OF_MASKS = ["secure_aggregation", "helper_key", "mask_words", "max_weight_change", "masked_metrics", "phase_seconds"];

export function configSection() {
  const facts = h("dl.facts");
  const node = card(t("Strategy and settings"), facts);
  const show = once(({ task, config: { strategy, ...others } }) => {
    const settings = Object.entries({ strategy, ...others })
      .filter(([name, value]) => value !== null && value !== "" && (others.secure_aggregation !== "off" || !OF_MASKS.includes(name)))
      .map(([name, value]) => setting(words(name.replace(/_seconds$/, "")), display(name, value)));
    facts.replaceChildren(...(task ? taskFacts(task) : []), ...settings);
  });
  return { node, update: ({ task, config }) => show({ task, config }) };
}

/** A setting: the names of settings and of their values are the API's. */
const setting = (name, value) => h("div", { lang: "en" }, h("dt", {}, name), h("dd.num", {}, value));
const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd.num", {}, ...value));

/** The name and the fingerprint that the initial model's file carries; clients compare them with their own. */
function taskFacts({ name, fingerprint }) {
  const short = h("code", { title: fingerprint }, `${fingerprint.slice(0, 10)}…`);
  return [fact(t("task"), name), ...(fingerprint ? [fact(t("fingerprint"), short, " ", copyButton(fingerprint, t("Copy fingerprint")))] : [])];
}

function display(name, value) {
  if (name.endsWith("_seconds")) return seconds(value);
  if (typeof value === "number") return Number.isInteger(value) && name !== "seed" ? count(value) : plain(value);
  return value !== null && typeof value === "object" ? choice(value) : String(value).replace(/,(?=\S)/g, ", "); // lines break there
}

/** A chosen alternative's name. It travels as its name alone while its settings are at their defaults. */
export const choiceName = (chosen) => (typeof chosen === "string" ? chosen : chosen.name);

/** A chosen alternative, with its settings that are not at their defaults. */
export function choice(chosen) {
  if (typeof chosen === "string") return chosen;
  const { name, ...settings } = chosen;
  const own = Object.entries(settings).map(([key, value]) => `${words(key)} ${display(key, value)}`);
  return [name, ...own].join(", ");
}
