// Makes form fields from a JSON schema in the coordinator's OpenAPI document.
import { h } from "./dom.js";
import { words } from "./format.js";

/** `[{name, group, label, help, type, required, initial, options}]` of an object schema. */
export function fieldsOf(schema) {
  return Object.entries(schema.properties).map(([name, property]) => {
    const plain = property.anyOf?.find((s) => s.type !== "null") ?? property;
    const options = plain.enum ?? (plain.const === undefined ? null : [plain.const]);
    return {
      name,
      group: property["x-group"],
      label: words(name),
      help: property.description ?? "",
      type: { integer: "integer", number: "number", boolean: "boolean" }[plain.type] ?? "text",
      required: (schema.required ?? []).includes(name),
      initial: property.default ?? "",
      example: property.examples?.[0],
      options,
    };
  });
}

export function formField(field) {
  const id = `f-${field.name}`;
  const about = { id, name: field.name, "aria-describedby": `${id}-help ${id}-fault`, required: field.required };
  const numeric = field.type === "integer" || field.type === "number";
  const control = field.options
    ? h("select", about, field.options.map((o) => h("option", { selected: o === field.initial }, o)))
    : h("input", {
      ...about, type: numeric ? "number" : "text", step: field.type === "integer" ? "1" : "any",
      value: field.initial, placeholder: field.example === undefined ? null : `e.g. ${field.example}`,
    });
  return h("div.field", {}, h("label", { for: id }, field.label), control,
    h("p.muted.small", { id: `${id}-help` }, field.help), h("p.fault", { id: `${id}-fault` }));
}

/** The values of the form. An empty field keeps the coordinator's default. */
export function readFields(form, fields) {
  const found = {};
  for (const { name, type } of fields) {
    const text = form.elements[name].value.trim();
    if (text === "") continue;
    found[name] = type === "integer" || type === "number" ? Number(text) : text;
  }
  return found;
}

/** Puts the API's faults beside their fields; returns whether each fault has a field. */
export function showFaults(form, faults) {
  for (const place of form.querySelectorAll(".field > .fault")) place.textContent = "";
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  let shown = faults.length > 0;
  let first = null;
  for (const { where, what } of faults) {
    const name = where.split(".").at(-1);
    const place = form.querySelector(`[id="f-${CSS.escape(name)}-fault"]`);
    shown &&= place !== null;
    if (!place) continue;
    place.textContent = what;
    form.elements[name].setAttribute("aria-invalid", "true");
    first ??= form.elements[name];
  }
  if (first) {
    first.closest("details")?.setAttribute("open", "");
    first.focus();
  }
  return shown;
}
