// Uploads weights in parts of the size that the coordinator allows; its hash names each part.
import { experimentPath, post, send } from "./api.js";
import { sha256Hex } from "./sha256.js";

/** Uploads an experiment's initial weights, as bytes, and opens its enrolment; calls `told(share)` meanwhile. */
export async function uploadInitial({ id, part_bytes }, data, told) {
  const path = `${experimentPath(id)}/initial-model`;
  const parts = [];
  for (let at = 0; at < data.length; at += part_bytes) {
    const part = data.subarray(at, at + part_bytes);
    const sha256 = await sha256Hex(part);
    await send("PUT", `${path}/parts/${parts.length}?sha256=${sha256}`, {
      body: part, headers: { "Content-Type": "application/octet-stream" },
    });
    parts.push(sha256);
    told(Math.min(1, (at + part_bytes) / data.length));
  }
  await post(path, { sha256: await sha256Hex(data), parts });
}
