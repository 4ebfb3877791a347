/* A client of an experiment, in a browser or in Node (20 or newer): one module, nothing to install.

   It trains softmax regression on data of its own machine and takes part beside any other clients:

     import { takePart, SoftmaxRegression } from "./client.mjs";
     const model = new SoftmaxRegression(inputs, labels, features);
     const end = await takePart({ server, experiment, enrolmentKey, clientKey, model });

   A browser's page needs a coordinator that allows its origin (FL_CORS_ORIGINS), and https:// or
   this machine, as SHA-256 is there for secure pages alone. docs/without-python.md tells each step. */

const MOST_BYTES = 256 * 1024 ** 2; // of a model: a coordinator may say what it likes
const RETRIED = new Set([408, 425, 429, 500, 502, 503, 504]);
const PATIENCE = 600; // seconds of tries of one request
const PLANS = 3; // of an upload or a download by signed URLs: those of an old plan may have expired
const ANNOUNCED = 256; // parts in one plan

export class Refused extends Error {
  /* The coordinator's answer: `status`, and its stable `code`. */
  constructor(status, code, detail) {
    super(detail || `The coordinator answers with status ${status}.`);
    Object.assign(this, { status, code });
  }
}

class SignedRefused extends Refused {}

/* Take part until the experiment ends; gives how it ended.

   `model` is like SoftmaxRegression. `clientKey` is this client's secret, 32 characters or more: the
   same key is the same client, also after a restart. `onEvent` gets a word and what it is about.
   Rejects with Refused, and with an Error where the experiment asks for what this client cannot do. */
export async function takePart({
  server, experiment, enrolmentKey, clientKey, model, name = "", onEvent = () => {}, signal,
}) {
  const path = `/experiments/${encodeURIComponent(experiment)}`;
  const door = new Connection(server, enrolmentKey, signal);
  const enrolled = await door.json("POST", `${path}/clients`, {
    client_key: clientKey, name, shard: true,
  });
  const coordinator = new Connection(server, enrolled.token, signal);
  const shard = enrolled.shard ?? await coordinator.json("GET", `${path}/shard`);
  model.select(shard.indices);
  onEvent("enrolled", enrolled);

  let turn = await coordinator.json("GET", `${path}/status`);
  while (turn.action !== "done") {
    if (turn.action === "train") {
      requireKnown(turn);
      onEvent("training", turn);
      const file = await coordinator.model(`${path}/models/${turn.base_version}`, turn);
      const { tensors, metadata } = readWeights(file);
      const result = model.train(tensors, turn.training, seedOf(turn, enrolled.client_id));
      await upload(coordinator, `${path}/rounds/${turn.round}/update`, turn, {
        bytes: writeWeights(result.tensors, metadata),
        examples: shard.indices.length,
        metrics: result.metrics,
      }, onEvent);
      turn = await coordinator.json("GET", `${path}/status`);
    } else if (turn.action === "wait") {
      onEvent("waiting", turn);
      turn = await next(coordinator, path, turn, signal);
    } else {
      throw new Error(`This client cannot do what the experiment asks for: ${turn.action}.`);
    }
  }
  onEvent("done", turn);
  return turn;
}

/* What to do after a wait: the coordinator holds its answer until that changes, or we pause. */
async function next(coordinator, path, wait, signal) {
  const asked = now();
  const seconds = Math.floor(Math.min(wait.hold ?? 0, 25));
  const query = seconds >= 1 ? `?wait=${seconds}&round=${wait.round}` : "";
  if (!query) await pause(wait.retry_after, signal);
  const turn = await coordinator.json("GET", `${path}/status${query}`);
  if (query && turn.action === "wait" && turn.round === wait.round) {
    await pause(wait.retry_after - (now() - asked), signal); // it was not held, for whatever reason
  }
  return turn;
}

async function upload(coordinator, path, turn, { bytes, examples, metrics }, onEvent) {
  if (bytes.length > turn.max_update_bytes) throw new Error("The update is larger than allowed.");
  const sha256 = await digest(bytes);
  const facts = { sha256, num_examples: examples, metrics: JSON.stringify(metrics) };
  try {
    if (turn.at_once && !turn.direct && bytes.length <= turn.part_bytes) {
      await coordinator.send("PUT", `${path}?${new URLSearchParams(facts)}`, bytes);
    } else {
      const parts = [];
      for (let start = 0; start < bytes.length; start += turn.part_bytes) {
        const part = bytes.subarray(start, start + turn.part_bytes);
        parts.push({ number: parts.length, sha256: await digest(part), bytes: part });
      }
      for (let first = 0; first < parts.length; first += ANNOUNCED) {
        await coordinator.sendParts(path, parts.slice(first, first + ANNOUNCED), turn.direct);
      }
      const digests = parts.map((part) => part.sha256);
      await coordinator.json("POST", path, { sha256, parts: digests, num_examples: examples, metrics });
    }
    onEvent("uploaded", { round: turn.round, metrics });
  } catch (error) {
    // 409: too late, or sent before. 422: the coordinator refuses it. The next status says more.
    if (!(error instanceof Refused) || ![409, 422].includes(error.status)) throw error;
    onEvent("refused", { round: turn.round, code: error.code, message: error.message });
  }
}

/* A client that does less than the experiment asks for would spoil it, so it says so and ends. */
function requireKnown(turn) {
  const asked = {
    "a strategy with a part of the clients": turn.strategy,
    "privacy": turn.privacy || turn.clip_norm,
    "compressed updates": (turn.update_encoding ?? "weights") !== "weights",
    "compressed models": (turn.download_encoding ?? "weights") !== "weights",
    "proximal_mu": turn.training.proximal_mu,
    "max_gradient_norm": turn.training.max_gradient_norm,
  };
  const unknown = Object.keys(asked).filter((name) => asked[name]);
  if (unknown.length) throw new Error(`This client cannot do what the experiment asks for: ${unknown.join(", ")}.`);
}

/* A coordinator may lead to a bucket, but not to a machine's own link, where clouds answer with secrets. */
export function requireFollowed(url, base) {
  const { protocol, hostname, username } = new URL(url);
  const secure = protocol === "https:" || (protocol === "http:" && base.startsWith("http:"));
  const link = /^169\.254\.|^\[(fe[89ab]|::ffff:a9fe:)/.test(hostname);
  if (!secure || link || username) throw new Error(`The coordinator leads to ${protocol}//${hostname}.`);
}

/* Requests to a coordinator, which are repeated while it is away or busy. */
class Connection {
  constructor(server, key, signal) {
    this.base = `${server.replace(/\/+$/, "")}/v1`;
    Object.assign(this, { key, signal });
  }

  async json(method, path, body) {
    const headers = body === undefined ? {} : { "Content-Type": "application/json" };
    const sent = body === undefined ? undefined : JSON.stringify(body);
    return (await this.request(method, path, headers, sent)).json();
  }

  async send(method, path, bytes) {
    await this.request(method, path, { "Content-Type": "application/octet-stream" }, bytes);
  }

  /* The file of a turn's model, with the digest that the turn says. */
  async model(path, turn) {
    if (turn.model.size > MOST_BYTES) throw new Error("The model is larger than this client takes.");
    const file = new Uint8Array(turn.model.size);
    const at = await (turn.direct ? this.#fromBucket(path, file) : this.#inRanges(path, file, turn));
    if (at !== file.length || await digest(file) !== turn.model.sha256) {
      throw new Error("The model's bytes do not have the digest that the coordinator says.");
    }
    return file;
  }

  /* Fill the file with a model's parts, which the coordinator's signed URLs lead to; gives its end. */
  async #fromBucket(path, file) {
    for (let plan = 1; ; plan++) {
      let at = 0;
      try {
        for (const { size, url } of await this.json("GET", `${path}/parts`)) {
          const range = { Range: `bytes=${at}-${at + size - 1}` };
          const answer = await (url ? this.signed("GET", url) : this.request("GET", path, range));
          const piece = new Uint8Array(await answer.arrayBuffer());
          if (piece.length !== size || at + size > file.length) return -1;
          file.set(piece, at);
          at += size;
        }
        return at;
      } catch (error) {
        if (!(error instanceof SignedRefused) || plan === PLANS) throw error;
      }
    }
  }

  /* Send an update's parts: through the coordinator, or as its plan says. */
  async sendParts(path, parts, direct) {
    for (let plan = 1; ; plan++) {
      let missing = parts.map(({ number }) => ({ number }));
      if (direct) {
        const announced = parts.map(({ number, sha256, bytes }) => ({ number, sha256, size: bytes.length }));
        missing = (await this.json("POST", `${path}/parts`, { parts: announced })).filter((one) => !one.stored);
      }
      try {
        for (const { number, upload } of missing) {
          const part = parts.find((one) => one.number === number);
          if (!part) throw new Error("The coordinator plans other parts than this client has.");
          if (upload) await this.signed("PUT", upload.url, upload.headers, part.bytes);
          else await this.send("PUT", `${path}/parts/${number}?sha256=${part.sha256}`, part.bytes);
        }
        return;
      } catch (error) {
        if (!(error instanceof SignedRefused) || plan === PLANS) throw error;
      }
    }
  }

  async #inRanges(path, file, { part_bytes }) {
    let at = 0;
    while (at < file.length) {
      const range = `bytes=${at}-${Math.min(at + part_bytes, file.length) - 1}`;
      const answer = await this.request("GET", path, { Range: range });
      const piece = new Uint8Array(await answer.arrayBuffer());
      if (piece.length === 0 || at + piece.length > file.length) break;
      file.set(piece, at);
      at += piece.length;
    }
    return at;
  }

  request(method, path, headers, body) {
    return this.#tried(this.base + path, method, { Authorization: `Bearer ${this.key}`, ...headers }, body);
  }

  /* A request by a signed URL, without the key. 412: the part is there, of an earlier try. */
  async signed(method, url, headers = {}, body) {
    requireFollowed(url, this.base);
    try {
      return await this.#tried(url, method, headers, body);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (method === "PUT" && error.status === 412) return undefined;
      throw new SignedRefused(error.status, error.code, `The bucket answers with status ${error.status}.`);
    }
  }

  async #tried(url, method, headers, body) {
    const started = now();
    for (let longest = 0.5; ; longest = Math.min(2 * longest, 30)) {
      let failure, least = 0;
      try {
        const answer = await fetch(url, {
          method, headers, body, signal: this.signal, redirect: "error", cache: "no-store",
          credentials: "omit",
        });
        if (answer.ok) return answer;
        const problem = await answer.json().catch(() => ({}));
        failure = new Refused(answer.status, problem.code, problem.detail);
        if (!RETRIED.has(answer.status)) throw failure;
        least = Number(answer.headers.get("Retry-After")) || 0;
      } catch (error) {
        if (error instanceof Refused && !RETRIED.has(error.status)) throw error;
        if (this.signal?.aborted) throw error;
        failure = error;
      }
      const seconds = Math.max(least, Math.random() * longest);
      if (now() - started + seconds > PATIENCE) throw failure;
      await pause(seconds, this.signal);
    }
  }
}

/* Read a safetensors file with tensors of float32: {tensors: {name: {shape, values}}, metadata}. */
export function readWeights(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true));
  if (!(length <= bytes.length - 8)) throw new Error("The file is no safetensors file.");
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const { __metadata__: metadata = {}, ...described } = header;
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [start, end] }] of Object.entries(described)) {
    const count = shape.reduce((product, size) => product * size, 1);
    const from = 8 + length + start;
    if (dtype !== "F32") throw new Error(`The tensor ${name} is of ${dtype}: this client takes F32.`);
    if (end - start !== 4 * count || from + 4 * count > bytes.length) throw new Error(`The tensor ${name} is cut off.`);
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++) values[i] = view.getFloat32(from + 4 * i, true);
    tensors[name] = { shape, values };
  }
  return { tensors, metadata };
}

/* Write a safetensors file. */
export function writeWeights(tensors, metadata = {}) {
  const header = Object.keys(metadata).length ? { __metadata__: metadata } : {};
  let end = 0;
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    header[name] = { dtype: "F32", shape, data_offsets: [end, end += 4 * values.length] };
  }
  const plain = new TextEncoder().encode(JSON.stringify(header));
  const length = Math.ceil(plain.length / 8) * 8; // so that the tensors are aligned
  const bytes = new Uint8Array(8 + length + end).fill(32, 8, 8 + length);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(length), true);
  bytes.set(plain, 8);
  let at = 8 + length;
  for (const { values } of Object.values(tensors)) {
    for (const value of values) { view.setFloat32(at, value, true); at += 4; }
  }
  return bytes;
}

/* Softmax regression: a weight tensor [classes, features] and a bias [classes], whatever their names.

   `inputs` has the examples of the whole data set one after another (Float32Array, N x features) and
   `labels` their classes. Training is SGD by mini-batches with momentum and weight decay, in float32;
   sums are in double precision. */
export class SoftmaxRegression {
  constructor(inputs, labels, features) {
    if (inputs.length !== labels.length * features) throw new Error("Inputs and labels are not of the same number.");
    Object.assign(this, { inputs, labels, features, indices: Array.from(labels.keys()) });
  }

  select(indices) {
    if (indices.some((i) => !(i >= 0 && i < this.labels.length))) throw new Error("The shard has examples that are not here.");
    this.indices = indices;
  }

  train(tensors, training, seed) {
    const { local_epochs, batch_size, learning_rate, momentum, weight_decay = 0 } = training;
    const { weight, bias, copies } = this.#parameters(tensors);
    const random = generator(seed);
    const speeds = [weight, bias].map((values) => new Float32Array(values.length));
    const order = Array.from(this.indices);
    let total = 0;
    for (let epoch = 0; epoch < local_epochs; epoch++) {
      shuffle(order, random);
      total = 0;
      for (let start = 0; start < order.length; start += batch_size) {
        const batch = order.slice(start, start + batch_size);
        const gradients = [weight, bias].map((values) => new Float64Array(values.length));
        for (const i of batch) total += this.#add(weight, bias, i, ...gradients);
        [weight, bias].forEach((values, which) => {
          const speed = speeds[which], gradient = gradients[which];
          for (let j = 0; j < values.length; j++) {
            speed[j] = momentum * speed[j] + gradient[j] / batch.length + weight_decay * values[j];
            values[j] -= learning_rate * speed[j];
          }
        });
      }
    }
    const loss = total / order.length; // NaN where a training has diverged; JSON has none
    return { tensors: copies, metrics: Number.isFinite(loss) ? { train_loss: loss } : {} };
  }

  /* The share of the selected examples whose largest output is that of their class. */
  accuracy(tensors) {
    const { weight, bias } = this.#parameters(tensors);
    const right = this.indices.filter((i) => {
      const outputs = this.#outputs(weight, bias, i);
      return outputs.indexOf(Math.max(...outputs)) === this.labels[i];
    });
    return right.length / this.indices.length;
  }

  #parameters(tensors) {
    const copies = Object.fromEntries(Object.entries(tensors).map(
      ([name, { shape, values }]) => [name, { shape, values: Float32Array.from(values) }]));
    const [matrix, vector] = [2, 1].map((rank) =>
      Object.values(copies).filter(({ shape }) => shape.length === rank));
    const fits = matrix.length === 1 && vector.length === 1 && Object.keys(copies).length === 2
      && matrix[0].shape[1] === this.features && matrix[0].shape[0] === vector[0].shape[0];
    if (!fits) throw new Error("The experiment's model is no softmax regression on these features.");
    return { weight: matrix[0].values, bias: vector[0].values, copies };
  }

  #outputs(weight, bias, example) {
    const { inputs, features } = this;
    return Array.from(bias, (start, c) => {
      let sum = start;
      for (let f = 0; f < features; f++) sum += weight[c * features + f] * inputs[example * features + f];
      return sum;
    });
  }

  /* Add an example's gradient of the cross entropy; gives its loss. */
  #add(weight, bias, example, ofWeight, ofBias) {
    const { inputs, features } = this, label = this.labels[example];
    const outputs = this.#outputs(weight, bias, example);
    const most = Math.max(...outputs);
    const powers = outputs.map((output) => Math.exp(output - most));
    const sum = powers.reduce((a, b) => a + b, 0);
    powers.forEach((power, c) => {
      const pull = power / sum - (c === label ? 1 : 0);
      ofBias[c] += pull;
      for (let f = 0; f < features; f++) ofWeight[c * features + f] += pull * inputs[example * features + f];
    });
    return Math.log(sum) + most - outputs[label];
  }
}

/* The same client in the same round draws the same: a number of 32 bits (FNV-1a). */
function seedOf({ round, training }, client) {
  let hash = 0x811c9dc5;
  for (const sign of `${training.seed}/${round}/${client}`) {
    hash = Math.imul(hash ^ sign.codePointAt(0), 0x01000193) >>> 0;
  }
  return hash;
}

/* Numbers from 0 to below 1 (a Weyl sequence through a mixer of 32 bits). They are no secrets. */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
}

function shuffle(order, random) {
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
}

async function digest(bytes) {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const now = () => performance.now() / 1000;

const pause = (seconds, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, 1000 * Math.max(0, seconds));
  signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
});
