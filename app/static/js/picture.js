// Turns a picture of any size into the model's input, as client_sdk/data/pictures.py does. It frames
// digits in the same way, but expects even light, as in a drawing.
import { t } from "./words.js";

// The share of the frame that a digit's longer side fills, and whether its mass or its box is centred.
const FRAMING = { mnist: [20 / 28, true], digits: [1, false] };

/** Reads from a model how pictures must be fitted. Throws Error if this page cannot do that. */
export function fitOf({ fit, dataset, spec: { in_channels: channels } }) {
  if (channels !== 1 && channels !== 3) {
    throw new Error(t("The model takes pictures of {channels} channels; this page has grey and coloured ones only.", { channels }));
  }
  // Older files name no fit. Then pictures were cropped, and the digits of these two sets framed.
  const found = fit ?? (dataset in FRAMING && channels === 1 ? dataset : "crop");
  if (!["crop", "letterbox"].includes(found) && !(found in FRAMING && channels === 1)) {
    throw new Error(t("The model was made by a newer version: this page cannot fit pictures to it."));
  }
  return found;
}

export const framesDigits = (model) => fitOf(model) in FRAMING;

/** Gives the picture on a canvas as the model's input: normalised, [C, H, W]. */
export function inputOf(canvas, model) {
  const { spec, mean, std, white } = model;
  const { in_channels: channels, height, width } = spec;
  const fit = fitOf(model);
  const planes = fit in FRAMING
    ? [frame(ink(grey(canvas)), height, width, ...FRAMING[fit])]
    : fitted(canvas, channels, height, width, fit === "crop" ? Math.max : Math.min);
  const input = new Float32Array(channels * height * width);
  planes.forEach((plane, c) => plane.forEach((value, i) => {
    input[c * plane.length + i] = ((value / 255) * white - mean[c]) / std[c];
  }));
  return input;
}

/** Scales a picture to the model's size: its middle, or the whole between black bars. Gives planes of 0 to 255. */
function fitted(canvas, channels, height, width, choose) {
  const scale = choose(width / canvas.width, height / canvas.height);
  const small = document.createElement("canvas");
  [small.width, small.height] = [width, height];
  const context = small.getContext("2d");
  context.imageSmoothingQuality = "high";
  const [w, h] = [canvas.width * scale, canvas.height * scale];
  context.drawImage(canvas, (width - w) / 2, (height - h) / 2, w, h);
  if (channels === 1) return [grey(small).values];
  const { data } = context.getImageData(0, 0, width, height);
  return [0, 1, 2].map((c) => Float64Array.from({ length: width * height }, (_, i) => data[4 * i + c]));
}

function grey(canvas) {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const values = new Float64Array(width * height);
  for (let i = 0; i < values.length; i += 1) {
    values[i] = (299 * data[4 * i] + 587 * data[4 * i + 1] + 114 * data[4 * i + 2]) / 1000;
  }
  return { values, width, height };
}

/** Gives ink at 255 on paper at 0. The border's brightness is the paper's, dark or light. */
function ink({ values, width, height }) {
  const border = values.filter((_, i) => i < width || i >= values.length - width || i % width === 0 || i % width === width - 1);
  let [low, high] = extremes(values);
  let marks = values;
  if (quantile(border, 0.5) > (low + high) / 2) marks = values.map((v) => 255 - v);
  [, high] = extremes(marks);
  low = quantile(marks, 0.05);
  if (high - low < 1) return { values: new Float64Array(values.length), width, height };
  marks = marks.map((v) => Math.min(255, Math.max(0, (v - low) * (255 / (high - low)))));
  return { values: marks, width, height };
}

const extremes = (values) => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
const quantile = (values, share) => Float64Array.from(values).sort()[Math.floor((values.length - 1) * share)];

/** Cuts the ink out, scales its longer side to `share` of the frame, and centres it. */
function frame({ values, width, height }, rows, columns, share, byMass) {
  const out = new Float64Array(rows * columns);
  let [top, bottom, left, right] = [height, -1, width, -1];
  values.forEach((v, i) => {
    if (v <= 51) return;
    const [y, x] = [Math.floor(i / width), i % width];
    [top, bottom, left, right] = [Math.min(top, y), Math.max(bottom, y), Math.min(left, x), Math.max(right, x)];
  });
  if (bottom < 0) return out;
  const [h, w] = [bottom - top + 1, right - left + 1];
  const scale = Math.min((rows * share) / h, (columns * share) / w);
  const small = shrink((y, x) => values[(top + y) * width + left + x], h, w,
    Math.max(1, Math.round(h * scale)), Math.max(1, Math.round(w * scale)));
  let [middleY, middleX] = [(small.height - 1) / 2, (small.width - 1) / 2];
  if (byMass) {
    const total = small.values.reduce((a, b) => a + b, 0);
    middleY = small.values.reduce((a, v, i) => a + v * Math.floor(i / small.width), 0) / total;
    middleX = small.values.reduce((a, v, i) => a + v * (i % small.width), 0) / total;
  }
  const place = (size, middle, room) => Math.min(Math.max(Math.round((room - 1) / 2 - middle), 0), room - size);
  const [y0, x0] = [place(small.height, middleY, rows), place(small.width, middleX, columns)];
  small.values.forEach((v, i) => {
    out[(y0 + Math.floor(i / small.width)) * columns + x0 + (i % small.width)] = Math.floor(v);
  });
  return out;
}

/** Scales by means over areas; a pixel counts by the share of it that an area covers. */
function shrink(at, h, w, height, width) {
  const values = new Float64Array(height * width);
  for (let i = 0; i < values.length; i += 1) {
    const [y, x] = [Math.floor(i / width), i % width];
    const [top, bottom, left, right] = [(y * h) / height, ((y + 1) * h) / height, (x * w) / width, ((x + 1) * w) / width];
    let [sum, area] = [0, 0];
    for (let r = Math.floor(top); r < Math.ceil(bottom - 1e-9); r += 1) {
      for (let c = Math.floor(left); c < Math.ceil(right - 1e-9); c += 1) {
        const share = (Math.min(r + 1, bottom) - Math.max(r, top)) * (Math.min(c + 1, right) - Math.max(c, left));
        sum += share * at(r, c);
        area += share;
      }
    }
    values[i] = sum / area;
  }
  return { values, height, width };
}
