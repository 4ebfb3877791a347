// The whole recipe by which a party takes part, as text: what it installs, and the command that it runs.
import { t } from "./words.js";

const TOOL = ".venv/bin/serverless-fl";
const AUTHORITY = "authority.pem";
const WHEEL = `serverless_fl-${document.documentElement.dataset.version}-py3-none-any.whl`; // of the coordinator's version

/** A word of a command, quoted for a shell where it must be. */
export const quote = (text) => (/^[\w.:/@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

/** What somebody types once to have the SDK, and what stands before that. */
export const INSTALL = `python3 -m venv .venv && .venv/bin/pip install ${quote(`./${WHEEL}[client]`)}`;
export const INSTALL_NOTE = t("Once, in an empty folder with the file {wheel}. The package is on no public index: whoever runs the "
  + "coordinator makes this file with “make dist” and hands it on.", { wheel: WHEEL });

/** A command of the SDK; `secret` is an assignment that stands before it. */
export const commandOf = (secret, words) => `${secret} ${TOOL} ${words.map(quote).join(" ")}`;

/**
 * `{join, script}` for a party of the experiment `id` at `server`. `key` is the enrolment
 * key, `name` the party's, `data` its own data's path, or null for a common data set. `authority` is
 * the text of a certificate that the party must trust, if a public authority does not vouch for the
 * coordinator; without `inline` the script leaves its text out. `notes` become comments of the
 * script, which may be run again after an interruption.
 */
export function recipeOf({ id, server, key, name, data, authority = "", inline = true, notes = [] }) {
  const words = ["join", "--server", server, "--experiment", id];
  if (name || data !== null) words.push("--name", name || "NAME");
  if (data !== null) words.push("--data", data || "PATH");
  const join = commandOf(`${authority && `SSL_CERT_FILE=${AUTHORITY} `}FL_ENROL_KEY=${quote(key ?? "...")}`, words);
  const script = ["#!/bin/sh", ...notes.map((note) => `# ${note}`), `[ -x ${TOOL} ] || { ${INSTALL}; } || exit`];
  if (authority && inline) {
    script.push(`cat > ${AUTHORITY} <<'END OF THE CERTIFICATE'`, authority.replaceAll("\r", "").trim(), "END OF THE CERTIFICATE");
  }
  return { join, script: `${[...script, join].join("\n")}\n` };
}
