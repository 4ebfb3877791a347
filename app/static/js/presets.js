// The data sets that the SDK knows by name, with the two-layer CNN for each, and its initial weights.
import { deriveSeed, seededUniform } from "./random.js";
import { writeFile } from "./safetensors.js";
import { hex, sha256 } from "./sha256.js";
import { t } from "./words.js";

const DIGITS = Array.from({ length: 10 }, (_, digit) => String(digit));
const THINGS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

// Mean and deviation are those of the training pictures, a channel, with pixels in [0, 1].
export const PRESETS = {
  mnist: {
    label: t("MNIST: 28×28 handwritten digits"), dataset: "mnist", dataset_size: 60_000, model: "mnist-cnn",
    shape: [1, 28, 28], conv: [10, 20], kernel: 5, padding: 0, hidden: 50, classes: DIGITS, fit: "mnist",
    mean: [0.13066047627384283], std: [0.30810780384983544],
  },
  cifar10: {
    label: t("CIFAR-10: 32×32 coloured pictures"), dataset: "cifar10", dataset_size: 50_000, model: "cifar10-cnn",
    shape: [3, 32, 32], conv: [32, 64], kernel: 3, padding: 0, hidden: 128, classes: THINGS, fit: "crop",
    mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616],
  },
  digits: {
    label: t("Digits: 8×8 handwritten digits that come with scikit-learn"), dataset: "digits", dataset_size: 1438, model: "digits-cnn",
    shape: [1, 8, 8], conv: [16, 32], kernel: 3, padding: 1, hidden: 64, classes: DIGITS, fit: "digits",
    mean: [0.3051342755461016], std: [0.37553702535097444],
  },
};

/** The file of the initial weights: for MNIST and the digits, the bytes that the SDK makes of this seed. */
export function initialModel(preset, seed) {
  const uniform = seededUniform(deriveSeed(seed, "initial weights"));
  const tensors = {};
  for (const [name, shape] of layersOf(preset)) {
    const inputs = shape.slice(1).reduce((a, b) => a * b, 1);
    const bound = 1 / Math.sqrt(inputs);
    tensors[`${name}.weight`] = { shape, values: uniform(shape[0] * inputs, bound) };
    tensors[`${name}.bias`] = { shape: [shape[0]], values: uniform(shape[0], bound) };
  }
  return writeFile(tensors, metadataOf(preset, tensors));
}

/** The layers in the order of their draws: name and shape of the weights. */
function layersOf({ shape: [channels, height, width], conv: [first, second], kernel, padding, hidden, classes }) {
  const shrunk = (n) => Math.floor((n + 2 * padding - kernel + 1) / 2); // by a convolution and its pool
  const flat = second * shrunk(shrunk(height)) * shrunk(shrunk(width));
  return [
    ["conv1", [first, channels, kernel, kernel]], ["conv2", [second, first, kernel, kernel]],
    ["fc1", [hidden, flat]], ["fc2", [classes.length, hidden]],
  ];
}

/** What client_sdk/task/model_file.py reads of a model, and what client_sdk/task/task.py says of each task. */
function metadataOf({ model, dataset, shape: [channels, height, width], conv, kernel, padding, hidden, classes, fit, mean, std }, tensors) {
  const spec = { name: model, in_channels: channels, height, width, classes: classes.length, conv, kernel, padding, hidden };
  const about = { model: json(spec), mean: json(mean), std: json(std), ranges: "{}" };
  const terms = ordered({ ...about, classes: classes.join(", ") });
  const form = ordered(Object.fromEntries(Object.entries(tensors).map(([name, { shape }]) => [name, ["F32", shape]])));
  const fingerprint = hex(sha256(new TextEncoder().encode(json([model, terms, form]))));
  return { format: "pt", task: model, terms: json(terms), fingerprint, dataset, ...about, classes: json(classes), fit };
}

/** The object with its keys in their order. */
const ordered = (found) => Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)));

/** JSON with a space after commas and colons, as Python writes it. */
function json(value) {
  if (Array.isArray(value)) return `[${value.map(json).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, one]) => `${json(name)}: ${json(one)}`).join(", ")}}`;
}
