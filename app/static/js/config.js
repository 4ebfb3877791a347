// The experiment's settings, the strategy first.
import { card, h, once } from "./dom.js";
import { count, seconds, words } from "./format.js";

export function configSection() {
  const facts = h("dl.facts");
  const node = card("Strategy and settings", facts);
  const show = once(({ strategy, ...others }) => {
    facts.replaceChildren(...Object.entries({ strategy, ...others })
      .filter(([, value]) => value !== null)
      .map(([name, value]) => h("div", {}, h("dt", {}, words(name.replace(/_seconds$/, ""))), h("dd.num", {}, display(name, value)))));
  });
  return { node, update: (view) => show(view.config) };
}

function display(name, value) {
  if (name.endsWith("_seconds")) return seconds(value);
  if (Number.isInteger(value) && name !== "seed") return count(value);
  return value !== null && typeof value === "object" ? choice(value) : String(value);
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
