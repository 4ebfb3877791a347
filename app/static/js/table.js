// A row of a table through the SDK's models of tables (client_sdk/task/own_data/table_task.py), in plain JavaScript.
import { parseHeader, tensorsOf } from "./safetensors.js";
import { t } from "./words.js";

const HIDDEN = 32; // neurons of the hidden layer
const FARTHEST = 1e6; // deviations from the mean; client_sdk/data/tables/preparing.py has the same

/** Reads a model file: columns, label, layers. Throws Error with a sentence. */
export function readTableModel(data) {
  const { metadata } = parseHeader(data);
  let about;
  try {
    const { columns, label } = JSON.parse(metadata.table);
    const scales = metadata.scales ? JSON.parse(metadata.scales) : [];
    const fixed = new Map(JSON.parse(metadata.normalise ?? "[]").map((name, at) => [name, scales[at]]));
    const scaled = (one) => (fixed.get(one.name) ? { ...one, mean: fixed.get(one.name)[0], deviation: fixed.get(one.name)[1] } : one);
    about = { columns: columns.map(scaled), label: label.classes ? label : { mean: 0, deviation: 1, ...scaled(label) } };
  } catch {
    throw new Error(t("The model does not describe its table: it was not made by this SDK."));
  }
  const { columns, label } = about;
  if (columns.some(({ kind, mean }) => kind !== "category" && mean === undefined)) {
    throw new Error(t("The parties have not fixed the means of the columns yet: take a model of a later round."));
  }
  const weights = tensorsOf(data);
  const sizes = [columns.reduce((sum, column) => sum + widthOf(column), 0), label.classes?.length ?? 1];
  const names = metadata.task === "table-mlp" ? ["0.", "2."] : [""];
  if (names.length > 1) sizes.splice(1, 0, HIDDEN);
  const layers = names.map((name, at) => ({ weight: weights[`${name}weight`], bias: weights[`${name}bias`], inputs: sizes[at], outputs: sizes[at + 1] }));
  if (!layers.every(({ weight, bias, inputs, outputs }) => weight?.length === inputs * outputs && bias?.length === outputs)) {
    throw new Error(t("The model’s tensors are not those of the network that it describes."));
  }
  return { ...about, layers };
}

/** The inputs that a column becomes: a category has one for each word, and one for other words. */
const widthOf = ({ kind, categories = [], indicator = false }) => (kind === "category" ? categories.length + 1 : 1) + Number(indicator);

/** The inputs of a row. `values` has a number or a word by column, or null where it is missing. */
export function inputsOf({ columns }, values) {
  return columns.flatMap((column) => {
    const value = values[column.name] ?? null;
    const inputs = new Array(widthOf(column)).fill(0);
    if (column.indicator) inputs[inputs.length - 1] = Number(value === null);
    if (value === null) return inputs;
    if (column.kind === "category") {
      const at = column.categories.indexOf(value);
      inputs[at < 0 ? column.categories.length : at] = 1;
    } else {
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
  const { classes, mean, deviation } = model.label;
  if (!classes) return { estimate: mean + deviation * found[0] };
  const top = Math.max(...found);
  const exponents = found.map((value) => Math.exp(value - top));
  const total = exponents.reduce((a, b) => a + b);
  return { classes: classes.map((name, at) => [name, exponents[at] / total]).sort(([, a], [, b]) => b - a) };
}
