// A row of a table through the SDK's models of tables (client_sdk/task/own_data/table_task.py), in plain JavaScript.
import { ranked } from "./ranking.js";
import { parseHeader, tensorsOf } from "./safetensors.js";
import { t } from "./words.js";

const HIDDEN = 32; // neurons of the hidden layer
const FARTHEST = 1e6; // deviations from the mean; client_sdk/data/tables/preparing.py has the same

/** Reads a model file: columns, label, layers. Throws Error with a sentence. */
export function readTableModel(data) {
  const { metadata } = parseHeader(data);
  const { columns, label } = tableOf(metadata);
  const weights = tensorsOf(data);
  const sizes = [columns.reduce((sum, column) => sum + widthOf(column), 0), label.classes?.length ?? 1];
  const names = metadata.task === "table-mlp" ? ["0.", "2."] : [""];
  if (names.length > 1) sizes.splice(1, 0, HIDDEN);
  const layers = names.map((name, at) => ({ weight: weights[`${name}weight`], bias: weights[`${name}bias`], inputs: sizes[at], outputs: sizes[at + 1] }));
  if (!layers.every(({ weight, bias, inputs, outputs }) => weight?.length === inputs * outputs && bias?.length === outputs)) {
    throw new Error(t("The model’s tensors are not those of the network that it describes."));
  }
  return { columns, label, layers };
}

/** Reads the columns and the label from a model's metadata; `scaled`: their means must be there. Throws Error. */
export function tableOf(metadata, scaled = true) {
  let about;
  try {
    const { columns, label } = JSON.parse(metadata.table);
    const scales = metadata.scales ? JSON.parse(metadata.scales) : [];
    const fixed = new Map(JSON.parse(metadata.normalise ?? "[]").map((name, at) => [name, scales[at]]));
    const withScale = (one) => (fixed.get(one.name) ? { ...one, mean: fixed.get(one.name)[0], deviation: fixed.get(one.name)[1] } : one);
    about = { columns: columns.map(withScale), label: label.classes ? label : { mean: 0, deviation: 1, ...withScale(label) } };
  } catch {
    throw new Error(t("The model does not describe its table: it was not made by this SDK."));
  }
  if (scaled && about.columns.some(({ kind, mean }) => kind !== "category" && mean === undefined)) {
    throw new Error(t("The parties have not fixed the means of the columns yet: take a model of a later round."));
  }
  return about;
}

/** The inputs that a column becomes: a category has one for each word, and one for other words. */
const widthOf = ({ kind, categories = [], indicator = false }) => (kind === "category" ? categories.length + 1 : 1) + Number(indicator);

/** The inputs of a row. `values` has a number or a word by column, or null where it is missing. `raw`: the model scales numbers. */
export function inputsOf({ columns }, values, raw = false) {
  return columns.flatMap((column) => {
    const value = values[column.name] ?? null;
    const inputs = new Array(widthOf(column)).fill(0);
    if (column.indicator) inputs[inputs.length - 1] = Number(value === null);
    if (raw && column.kind !== "category") inputs[0] = value ?? NaN;
    if (value === null) return inputs;
    if (column.kind === "category") {
      const at = column.categories.indexOf(value);
      inputs[at < 0 ? column.categories.length : at] = 1;
    } else if (!raw) {
      inputs[0] = Math.max(-FARTHEST, Math.min(FARTHEST, (value - column.mean) / column.deviation));
    }
    return inputs;
  });
}

/** What the model says of a row: `{ classes: [[name, share], ...] }`, the likeliest first, or `{ estimate }`. */
export function answer(model, values) {
  let found = inputsOf(model, values);
  model.layers.forEach(({ weight, bias, inputs, outputs }, at) => {
    const before = at ? found.map((value) => Math.max(0, value)) : found;
    found = Array.from({ length: outputs }, (_, row) => before.reduce((sum, value, n) => sum + value * weight[row * inputs + n], bias[row]));
  });
  return answerOf(model.label, found);
}

/** The same, of a network's outputs. */
export function answerOf({ classes, mean, deviation }, outputs) {
  return classes ? { classes: ranked(classes, outputs) } : { estimate: mean + deviation * outputs[0] };
}
