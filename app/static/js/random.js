// The SDK's seeds and random numbers (client_sdk/data/seeds.py): the same seed gives the same numbers.

const BITS = (1n << 64n) - 1n;

/** A seed of 63 bits that is a function of a text: half of BLAKE2b (RFC 7693) with 8 bytes. */
export function deriveSeed(...parts) {
  const digest = blake2b8(new TextEncoder().encode(parts.join("/")));
  return digest.reduce((seed, byte) => (seed << 8n) | BigInt(byte), 0n) >> 1n;
}

const IV = [
  0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n,
];
// Row r, column i: the word of the message that step i of round r takes.
const SIGMA = [
  "0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8", "905724afe1bc683d",
  "2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a", "6fe9b308c2d714a5", "a2847615fb9e3cd0",
].map((row) => Array.from(row, (digit) => parseInt(digit, 16)));
const LANES = [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15],
  [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]];

/** The BLAKE2b digest of 8 bytes of at most 128 bytes. */
function blake2b8(data) {
  if (data.length > 128) throw new Error("A seed's text has at most 128 bytes.");
  const block = new Uint8Array(128);
  block.set(data);
  const view = new DataView(block.buffer);
  const words = Array.from({ length: 16 }, (_, i) => view.getBigUint64(8 * i, true));
  const first = IV[0] ^ 0x01010000n ^ 8n; // no key, a digest of 8 bytes
  const v = [first, ...IV.slice(1), ...IV];
  v[12] ^= BigInt(data.length);
  v[14] ^= BITS; // the last block
  const turn = (x, by) => ((x >> by) | (x << (64n - by))) & BITS;
  for (let round = 0; round < 12; round += 1) {
    const order = SIGMA[round % 10];
    LANES.forEach(([a, b, c, d], i) => {
      v[a] = (v[a] + v[b] + words[order[2 * i]]) & BITS;
      v[d] = turn(v[d] ^ v[a], 32n);
      v[c] = (v[c] + v[d]) & BITS;
      v[b] = turn(v[b] ^ v[c], 24n);
      v[a] = (v[a] + v[b] + words[order[2 * i + 1]]) & BITS;
      v[d] = turn(v[d] ^ v[a], 16n);
      v[c] = (v[c] + v[d]) & BITS;
      v[b] = turn(v[b] ^ v[c], 63n);
    });
  }
  const digest = new DataView(new ArrayBuffer(8));
  digest.setBigUint64(0, first ^ v[0] ^ v[8], true);
  return [...new Uint8Array(digest.buffer)];
}

/**
 * Gives a function `uniform(count, bound)`: so many numbers between -bound and bound.
 *
 * They are Philox4x64-10's, as NumPy draws them (Salmon et al., "Parallel random numbers: as easy
 * as 1, 2, 3", SC 2011).
 */
export function seededUniform(seed) {
  let counter = 0n;
  let left = [];
  const next = () => {
    if (!left.length) left = philox(counter += 1n, seed);
    return left.shift();
  };
  return (count, bound) => Float32Array.from({ length: count }, () => (Number(next() >> 11n) * 2 ** -52 - 1) * bound);
}

/** Four numbers of 64 bits. */
function philox(counter, key) {
  let [a, b, c, d] = [counter & BITS, counter >> 64n, 0n, 0n];
  let [k, l] = [key & BITS, key >> 64n];
  for (let round = 0; round < 10; round += 1) {
    const x = a * 0xd2e7470ee14c6c93n;
    const y = c * 0xca5a826395121157n;
    [a, b, c, d] = [(y >> 64n) ^ b ^ k, y & BITS, (x >> 64n) ^ d ^ l, x & BITS];
    k = (k + 0x9e3779b97f4a7c15n) & BITS;
    l = (l + 0xbb67ae8584caa73bn) & BITS;
  }
  return [a, b, c, d];
}
