// Reads safetensors files (https://github.com/huggingface/safetensors#format).
import { t } from "./words.js";

const LONGEST_HEADER = 100 * 1024 * 1024;

/** Reads a file's header: `{entries, metadata, offset}`. Throws Error with a sentence. */
export function parseHeader(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const length = data.length < 8 ? NaN : Number(view.getBigUint64(0, true));
  try {
    if (!(length <= data.length - 8)) throw new Error("too short");
    const { __metadata__: metadata = {}, ...entries } = JSON.parse(new TextDecoder().decode(data.subarray(8, 8 + length)));
    return { entries, metadata, offset: 8 + length };
  } catch {
    throw new Error(t("This is not a safetensors file."));
  }
}

/** Reads the names of the data set and the model in a File of this SDK. Throws Error. */
export async function describe(file) {
  const start = new DataView(await file.slice(0, 8).arrayBuffer());
  const length = start.byteLength < 8 ? 0 : Number(start.getBigUint64(0, true));
  const whole = length > 0 && length <= LONGEST_HEADER && 8 + length <= file.size;
  const { metadata } = parseHeader(new Uint8Array(whole ? await file.slice(0, 8 + length).arrayBuffer() : 0));
  let model = metadata.task ?? "";
  try {
    model = JSON.parse(metadata.model).name;
  } catch {
    // a model from another program need not name them
  }
  return { dataset: metadata.dataset ?? "", model };
}

/** Gives each tensor's numbers by name, as a Float32Array. Throws Error for other types than F32. */
export function tensorsOf(data) {
  const { entries, offset } = parseHeader(data);
  const found = Object.entries(entries).map(([name, { dtype, data_offsets: [start, stop] }]) => {
    if (dtype !== "F32") throw new Error(t("The model’s numbers are {dtype}; this page reads F32 only.", { dtype }));
    return [name, new Float32Array(data.slice(offset + start, offset + stop).buffer)]; // aligned
  });
  return Object.fromEntries(found);
}

/** Writes a file of F32 tensors `{name: {shape, values}}`, byte for byte as the SDK does. */
export function writeFile(tensors, metadata) {
  const names = Object.keys(tensors).sort();
  let end = 0;
  const entries = names.map((name) => {
    const start = end;
    end += tensors[name].values.byteLength;
    return [name, { dtype: "F32", shape: tensors[name].shape, data_offsets: [start, end] }];
  });
  const sorted = Object.fromEntries(Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1)));
  const text = JSON.stringify({ __metadata__: sorted, ...Object.fromEntries(entries) });
  const header = new TextEncoder().encode(text.padEnd(text.length + ((8 - (text.length % 8)) % 8)));
  const file = new Uint8Array(8 + header.length + end);
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
  file.set(header, 8);
  names.forEach((name, at) => {
    const { values } = tensors[name];
    file.set(new Uint8Array(values.buffer), 8 + header.length + entries[at][1].data_offsets[0]);
  });
  return file;
}
