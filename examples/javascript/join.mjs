/* Be a client from Node: node examples/javascript/join.mjs SERVER EXPERIMENT DATA.json

   DATA.json has {"features": 64, "inputs": [...], "labels": [...]}: all examples of the data set, of
   which this client trains on its shard. FL_ENROL_KEY is the experiment's enrolment key, and
   FL_CLIENT_KEY this client's own secret. */

import { readFile } from "node:fs/promises";

import { SoftmaxRegression, takePart } from "./client.mjs";

const [server, experiment, path] = process.argv.slice(2);
const { FL_ENROL_KEY: enrolmentKey, FL_CLIENT_KEY: clientKey } = process.env;
if (!path || !enrolmentKey || !clientKey) {
  console.error("Usage: FL_ENROL_KEY=... FL_CLIENT_KEY=... node join.mjs SERVER EXPERIMENT DATA.json");
  process.exit(2);
}
const { inputs, labels, features } = JSON.parse(await readFile(path, "utf8"));
const model = new SoftmaxRegression(Float32Array.from(inputs), labels, features);
const told = { enrolled: "client_id", training: "round", uploaded: "round", refused: "message", done: "state" };
const onEvent = (kind, about) => { if (kind in told) console.log(kind, about[told[kind]]); };
try {
  const end = await takePart({ server, experiment, enrolmentKey, clientKey, model, name: "node", onEvent });
  process.exitCode = end.state === "completed" ? 0 : 5;
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
}
