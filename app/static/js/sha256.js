// SHA-256 (FIPS 180-4). Browsers offer it on https and localhost only; elsewhere this file computes it.

/** Gives the digest of a Uint8Array as 64 hexadecimal digits. */
export async function sha256Hex(data) {
  const subtle = globalThis.crypto?.subtle;
  const digest = subtle ? new Uint8Array(await subtle.digest("SHA-256", data)) : sha256(data);
  return hex(digest);
}

/** Gives bytes as hexadecimal digits. */
export const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** The first 32 bits of the fractional parts of the square or cube roots of the first primes. */
function roots(many, power) {
  const primes = [];
  for (let n = 2; primes.length < many; n += 1) if (primes.every((p) => n % p)) primes.push(n);
  return primes.map((p) => Math.floor((p ** power % 1) * 2 ** 32));
}

const K = Uint32Array.from(roots(64, 1 / 3));
const rotate = (x, n) => (x >>> n) | (x << (32 - n));

/** Gives the digest of a Uint8Array as 32 bytes, without the browser's function. */
export function sha256(data) {
  const state = Uint32Array.from(roots(8, 1 / 2));
  const whole = data.length - (data.length % 64);
  const words = new Uint32Array(64);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0; at < whole; at += 64) block(state, words, view, at);
  const rest = data.length - whole;
  const tail = new Uint8Array(rest < 56 ? 64 : 128);
  tail.set(data.subarray(whole));
  tail[rest] = 0x80;
  const end = new DataView(tail.buffer);
  end.setBigUint64(tail.length - 8, BigInt(data.length) * 8n);
  for (let at = 0; at < tail.length; at += 64) block(state, words, end, at);
  const digest = new DataView(new ArrayBuffer(32));
  state.forEach((word, n) => digest.setUint32(4 * n, word));
  return new Uint8Array(digest.buffer);
}

function block(state, words, view, at) {
  for (let t = 0; t < 16; t += 1) words[t] = view.getUint32(at + 4 * t);
  for (let t = 16; t < 64; t += 1) {
    const x = words[t - 15];
    const y = words[t - 2];
    const small = rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3);
    words[t] = words[t - 16] + small + words[t - 7] + (rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10));
  }
  let [a, b, c, d, e, f, g, i] = state;
  for (let t = 0; t < 64; t += 1) {
    const one = (i + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + K[t] + words[t]) | 0;
    const two = ((rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [i, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
  }
  [a, b, c, d, e, f, g, i].forEach((word, n) => {
    state[n] += word;
  });
}
