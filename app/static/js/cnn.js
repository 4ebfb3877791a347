// The forward pass of the SDK's two-layer CNN (client_sdk/task/models.py), in plain JavaScript.
import { parseHeader, tensorsOf } from "./safetensors.js";
import { t } from "./words.js";

/** Reads a model file: its spec, weights, classes and scaling. Throws Error with a sentence. */
export function readModel(data) {
  const { metadata } = parseHeader(data);
  let about;
  try {
    const spec = JSON.parse(metadata.model);
    const [classes, mean, std] = ["classes", "mean", "std"].map((name) => JSON.parse(metadata[name]));
    about = { spec, classes, mean, std, white: Number(metadata.white ?? 1), dataset: metadata.dataset ?? "", fit: metadata.fit };
  } catch {
    throw new Error(t("The model does not say how a picture is to be classified: it was not made by this SDK."));
  }
  const { spec, classes, mean, std } = about;
  const weights = tensorsOf(data);
  const [first, second] = spec.conv ?? [];
  const { channels, height, width } = sizes(spec).at(-1);
  const expected = {
    "conv1.weight": first * spec.in_channels * spec.kernel ** 2, "conv1.bias": first,
    "conv2.weight": second * first * spec.kernel ** 2, "conv2.bias": second,
    "fc1.weight": spec.hidden * channels * height * width, "fc1.bias": spec.hidden,
    "fc2.weight": spec.classes * spec.hidden, "fc2.bias": spec.classes,
  };
  const fits = Object.entries(expected).every(([name, size]) => weights[name]?.length === size);
  if (!fits || classes.length !== spec.classes || mean.length !== spec.in_channels || std.length !== spec.in_channels) {
    throw new Error(t("The model’s tensors are not those of the network that it describes."));
  }
  const model = { ...about, weights };
  return { ...model, run: (picture) => forward(model, picture) };
}

/** The shapes of the picture, and of the output of each convolution with its pool. */
function sizes({ in_channels, height, width, conv, kernel, padding }) {
  const shapes = [{ channels: in_channels, height, width }];
  for (const channels of conv) {
    const last = shapes.at(-1);
    const shrink = (n) => Math.floor((n + 2 * padding - kernel + 1) / 2);
    shapes.push({ channels, height: shrink(last.height), width: shrink(last.width) });
  }
  return shapes;
}

/** Gives the logits [classes] of a normalised picture, a Float32Array of [C, H, W]. */
export function forward({ spec, weights }, picture) {
  const shapes = sizes(spec);
  let x = picture;
  ["conv1", "conv2"].forEach((name, n) => {
    x = convPool(x, shapes[n], shapes[n + 1], spec, weights[`${name}.weight`], weights[`${name}.bias`]);
  });
  x = dense(x, weights["fc1.weight"], weights["fc1.bias"]).map((v) => Math.max(v, 0));
  return dense(x, weights["fc2.weight"], weights["fc2.bias"]);
}

/** Convolution, ReLU and 2x2 max pool in one pass, without the pixels at the edge that the pool drops. */
function convPool(x, from, to, { kernel, padding }, weight, bias) {
  const out = new Float32Array(to.channels * to.height * to.width);
  const at = (channel, row, column) => {
    let sum = bias[channel];
    for (let c = 0; c < from.channels; c += 1) {
      for (let i = 0; i < kernel; i += 1) {
        const y = row + i - padding;
        if (y < 0 || y >= from.height) continue;
        for (let j = 0; j < kernel; j += 1) {
          const z = column + j - padding;
          if (z < 0 || z >= from.width) continue;
          sum += x[(c * from.height + y) * from.width + z] * weight[((channel * from.channels + c) * kernel + i) * kernel + j];
        }
      }
    }
    return sum;
  };
  let next = 0;
  for (let channel = 0; channel < to.channels; channel += 1) {
    for (let row = 0; row < 2 * to.height; row += 2) {
      for (let column = 0; column < 2 * to.width; column += 2) {
        out[next] = Math.max(0, at(channel, row, column), at(channel, row, column + 1),
          at(channel, row + 1, column), at(channel, row + 1, column + 1));
        next += 1;
      }
    }
  }
  return out;
}

function dense(x, weight, bias) {
  return Float32Array.from(bias, (start, row) => {
    let sum = start;
    for (let i = 0; i < x.length; i += 1) sum += x[i] * weight[row * x.length + i];
    return sum;
  });
}
