// Downloads a model's file in ranges, because platforms bound an answer, and checks its hash.
import { Problem, experimentPath, send } from "./api.js";
import { h } from "./dom.js";
import { sha256Hex } from "./sha256.js";
import { t } from "./words.js";

const RANGE = 4 * 1024 * 1024;

/** Gives the bytes of a model version. Throws Problem for an error, or for a wrong hash. */
export async function fetchModel(id, { version, sha256, size }) {
  const data = new Uint8Array(size);
  let have = 0;
  while (have < size) {
    const range = { Range: `bytes=${have}-${Math.min(have + RANGE, size) - 1}` };
    const response = await send("GET", `${experimentPath(id)}/models/${version}`, { headers: range });
    const part = new Uint8Array(await response.arrayBuffer());
    if (part.length === 0 || have + part.length > size) break;
    data.set(part, have);
    have += part.length;
  }
  if (have !== size || (await sha256Hex(data)) !== sha256) {
    throw new Problem(0, { detail: t("What came is not model {version}: its hash is another.", { version }) });
  }
  return data;
}

/** Saves a model version as a file. */
export async function download(id, model) {
  saveFile(`${id}-model-${model.version}.safetensors`, await fetchModel(id, model));
}

/** Saves bytes or a text as a file. */
export function saveFile(name, content) {
  const url = URL.createObjectURL(new Blob([content]));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
