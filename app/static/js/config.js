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
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
