// Calls of the API. Addresses are relative to the page's, so they work below any prefix.
import { keyNow, keyRefused } from "./key.js";
import { t } from "./words.js";

/** An error that the coordinator answered (RFC 9457). */
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body.detail ?? t("The coordinator answered {status}.", { status }));
    this.status = status;
    this.code = body.code ?? "unknown";
    this.errors = body.errors ?? [];
    this.retryAfter = retryAfter;
  }
}

export const address = (path) => new URL(path, document.baseURI);
export const here = () => address(".").href.replace(/\/$/, "");

/** Fetches an address. Throws Problem for an error; its status is 0 if nothing answered. */
export async function send(method, path, { body, headers = {}, key = keyNow(), signal } = {}) {
  const sent = new Headers(headers);
  if (key) sent.set("Authorization", `Bearer ${key}`);
  let response;
  try {
    response = await fetch(address(path), { method, body, headers: sent, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: t("The coordinator does not answer.") });
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  if (response.status === 401) keyRefused(key);
  throw new Problem(response.status, problem, Number(response.headers.get("Retry-After")) || undefined);
}

export async function get(path, options) {
  return (await send("GET", path, options)).json();
}

export const post = (path, body, headers = {}) => sendJson("POST", path, body, headers);
export const patch = (path, body) => sendJson("PATCH", path, body);

async function sendJson(method, path, body, headers = {}) {
  const json = { "Content-Type": "application/json", ...headers };
  const sent = body === undefined ? { headers } : { body: JSON.stringify(body), headers: json };
  return (await send(method, path, sent)).json();
}

/** The name and the roles of whose key it is. Throws Problem if nobody has it. */
export const checkKey = (key) => get("v1/me", { key });
export const experimentPath = (id) => `v1/experiments/${encodeURIComponent(id)}`;
