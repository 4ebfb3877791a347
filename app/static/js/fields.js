// Makes form fields from a JSON schema in the coordinator's OpenAPI document.
import { h } from "./dom.js";
import { words } from "./format.js";
import { t } from "./words.js";

/**
 * `[{name, group, label, help, type, required, initial, options, alternatives}]` of an object schema.
 *
 * A choice has `alternatives`: by the name of each, its fields and what it is. `schemas` are those
 * that the schema refers to, by name.
 */
export function fieldsOf(schema, schemas) {
  return Object.entries(schema.properties).map(([name, property]) => {
    const variants = property.anyOf ?? [property];
    const plain = variants.find((s) => s.type !== "null");
    const objects = variants.find((s) => s.oneOf)?.oneOf;
    return {
      name,
      group: property["x-group"],
      label: words(name),
      help: property.description ?? "",
      type: { integer: "integer", number: "number", boolean: "boolean" }[plain.type] ?? "text",
      required: (schema.required ?? []).includes(name),
      nullable: variants.some((s) => s.type === "null"),
      initial: property.default ?? "",
      example: property.examples?.[0],
      options: plain.enum ?? (plain.const === undefined ? null : [plain.const]),
      alternatives: objects && Object.fromEntries(objects.map(({ $ref }) =>
        alternativeOf(schemas[$ref.split("/").at(-1)], schemas))),
    };
  });
}

function alternativeOf(schema, schemas) {
  const about = (schema.description ?? "").split("\n\n")[0];
  const fields = fieldsOf(schema, schemas).filter((field) => field.name !== "name");
  return [schema.properties.name.const, { about, fields }];
}

/** A field's control with its label. Below a choice are the fields of the chosen alternative. */
export function formField(field) {
  const id = `f-${field.name}`;
  const about = { id, name: field.name, "aria-describedby": `${id}-help ${id}-fault`, required: field.required };
  const options = field.options ?? (field.type === "boolean" ? ["true", "false"] : null);
  const empty = options && field.nullable ? [h("option", { value: "" }, t("none"))] : [];
  const numeric = field.type === "integer" || field.type === "number";
  const control = options
    ? h("select", about, empty, options.map((o) => h("option", { lang: "en", selected: o === String(field.initial) }, o)))
    : h("input", {
      ...about, type: numeric ? "number" : "text", step: field.type === "integer" ? "1" : "any",
      value: field.initial, placeholder: field.example === undefined ? null : t("e.g. {example}", { example: field.example }),
    });
  const lang = field.ours ? null : "en"; // the coordinator describes its settings in English
  const help = h("p.muted.small", { id: `${id}-help`, lang }, field.help);
  const fault = h("p.fault", { id: `${id}-fault` });
  const node = h("div.field", {}, h("label", { for: id, lang }, field.label), control, help, fault);
  return field.alternatives ? [node, chosenFields(field, control)] : node;
}

/** What the chosen alternative is, and its fields; they change with the choice. */
function chosenFields(choice, control) {
  const node = h("fieldset.chosen");
  const show = () => {
    const { about, fields } = choice.alternatives[control.value];
    node.replaceChildren(h("legend", { lang: "en" }, control.value), h("p.muted.small", { lang: "en" }, about),
      h("div.fields", {}, fields.flatMap(formField)));
  };
  control.addEventListener("input", show); // before the form hears of it
  show();
  return node;
}

/** The values of the form. An empty field keeps the coordinator's default, and so do a disabled one and one marked as unsent. */
export function readFields(form, fields) {
  const found = {};
  for (const { name, type, alternatives } of fields) {
    const control = form.elements[name];
    const text = control.value.trim();
    if (text === "" || control.disabled || control.hasAttribute("data-unsent")) continue;
    if (alternatives) found[name] = { name: text, ...readFields(form, alternatives[text].fields) };
    else if (type === "boolean") found[name] = text === "true";
    else found[name] = type === "integer" || type === "number" ? Number(text) : text;
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
