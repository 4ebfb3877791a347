// Exported models (ONNX) in this tab, through ONNX Runtime Web, whose files the operator has provided.
import { address } from "./api.js";
import { ranked } from "./ranking.js";
import { answerOf, inputsOf, tableOf } from "./table.js";
import { t } from "./words.js";

const RUNTIME = "static/onnx/ort.wasm.bundle.min.mjs";

/** Whether the coordinator has the runtime's files (FL_ONNX_DIR). */
export const offered = document.documentElement.dataset.onnx === "on";

/**
 * Reads an exported model: `{ picture }`, as `readModel` gives it, or `{ table, ask }`, as for a form. `dataset` names
 * the experiment's data where the file does not. Throws Error with a sentence.
 */
export async function readOnnx(data, dataset) {
  const about = metadataOf(data);
  const session = await sessionOf(data);
  const [input] = session.inputMetadata;
  const run = async (values, shape) => {
    const { Tensor } = await runtime();
    const found = await session.run({ [input.name]: new Tensor("float32", Float32Array.from(values), [1, ...shape]) });
    return logitsOf(Array.from(found[session.outputNames[0]].data, Number));
  };
  const [, ...shape] = input.isTensor && input.type === "float32" && session.inputNames.length === 1 ? input.shape : [];
  if (!shape.length || !shape.every(Number.isInteger)) throw new Error(unknown(input));
  if (about.table) return tableForm(about, run, shape);
  if (shape.length === 3) return { picture: pictureOf({ dataset, ...about }, shape, run) };
  if (shape.length === 1) return numbersOf(about, shape[0], run);
  throw new Error(unknown(input));
}

/** Outputs as they are, or the logarithms of probabilities. */
function logitsOf(outputs) {
  const sum = outputs.reduce((a, b) => a + b, 0);
  return outputs.length > 1 && Math.abs(sum - 1) < 1e-3 && outputs.every((value) => value >= 0) ? outputs.map(Math.log) : outputs;
}

const unknown = ({ name, type, shape }) =>
  t("The page has forms for pictures and for rows of numbers; the input of this model is {input}.", { input: `${name}: ${type} [${shape}]` });

/** The classes' names; null where there are none. A task of somebody's own lists them in its terms. */
const classesOf = ({ classes, terms = "{}" }) => (classes ? JSON.parse(classes) : JSON.parse(terms).classes?.split(", ") ?? null);

/** A model for pictures. A task of somebody's own need not say how pixels are scaled, or name its classes. */
function pictureOf(about, [in_channels, height, width], run) {
  const graph = about.scaling !== "caller";
  const all = (value) => new Array(in_channels).fill(value);
  return {
    spec: { in_channels, height, width }, white: 1, dataset: about.dataset, fit: about.fit,
    mean: graph ? all(0) : JSON.parse(about.mean), std: graph ? all(1) : JSON.parse(about.std),
    classes: classesOf(about), says: "scaling" in about, run: (picture) => run(picture, [in_channels, height, width]),
  };
}

function tableForm(about, run, shape) {
  const raw = about.scaling === "graph";
  const table = tableOf(about, !raw);
  const label = raw ? { ...table.label, mean: 0, deviation: 1 } : table.label;
  return { table, ask: async (values) => answerOf(label, await run(inputsOf(table, values, raw), shape)) };
}

/** A row of numbers for a task of somebody's own: what goes in is what somebody types. */
function numbersOf(about, size, run) {
  const names = about.inputs ? JSON.parse(about.inputs) : Array.from({ length: size }, (_, at) => t("number {n}", { n: at + 1 }));
  const columns = names.map((name) => ({ name, kind: "number" }));
  const ask = async (values) => {
    const found = await run(names.map((name) => values[name] ?? 0), [size]);
    return found.length > 1 ? { classes: ranked(classesOf(about), found) } : { estimate: found[0] };
  };
  return { table: { columns, label: { name: "" } }, ask };
}

let loaded = null;
/** The runtime's module, which is loaded once. */
async function runtime() {
  loaded ??= import(address(RUNTIME)).then((module) => {
    module.env.wasm.numThreads = 1; // more need headers that keep the page apart from all others
    return module;
  });
  try {
    return await loaded;
  } catch {
    loaded = null; // try again with the next file
    throw new Error(t("The coordinator does not give out the files of ONNX Runtime Web."));
  }
}

async function sessionOf(data) {
  const { InferenceSession } = await runtime();
  try {
    return await InferenceSession.create(data, { executionProviders: ["wasm"] });
  } catch (error) {
    throw new Error(t("ONNX Runtime cannot read this model: {why}", { why: error.message.split("\n")[0] }));
  }
}

/** The properties of a model (metadata_props of ModelProto, https://onnx.ai/onnx/api/classes.html). */
export function metadataOf(data) {
  try {
    const text = (bytes) => new TextDecoder().decode(bytes);
    const properties = fieldsOf(data).filter(([number]) => number === 14).map(([, entry]) => Object.fromEntries(fieldsOf(entry)));
    return Object.fromEntries(properties.map((entry) => [text(entry[1]), entry[2] ? text(entry[2]) : ""]));
  } catch {
    throw new Error(t("This is not an ONNX file."));
  }
}

/** The fields of a message, `[number, value]`: bytes, or a number (https://protobuf.dev/programming-guides/encoding/). */
function fieldsOf(data) {
  const found = [];
  let at = 0;
  const varint = () => {
    for (let value = 0, factor = 1; factor < 2 ** 70; factor *= 128, at += 1) {
      if (at >= data.length) break;
      value += (data[at] & 127) * factor;
      if (data[at] < 128) {
        at += 1;
        return value;
      }
    }
    throw new Error("too short");
  };
  while (at < data.length) {
    const tag = varint();
    const [number, kind] = [Math.floor(tag / 8), tag % 8];
    if (kind === 0) found.push([number, varint()]);
    else {
      const length = kind === 2 ? varint() : { 1: 8, 5: 4 }[kind];
      if (!(at + length <= data.length)) throw new Error("too short");
      found.push([number, data.subarray(at, at + length)]);
      at += length;
    }
  }
  return found;
}
