// Who uses the page: a key or a token that a dialog asks for. This tab alone keeps it, and it travels in a header only.
import { checkKey, get } from "./api.js";
import { h, say } from "./dom.js";
import { t } from "./words.js";

const NAME = "fl-person";
const WHAT = {
  admin: t("admin: does everything, in every experiment"),
  owner: t("owner: creates experiments, and does everything in those"),
  reader: t("reader: looks at every experiment and its models, and changes nothing"),
};
const listeners = new Set();

/** The person that is logged in, `{ key, name, roles }`; null: nobody. */
const person = () => JSON.parse(sessionStorage.getItem(NAME));
const rolesNow = () => person()?.roles ?? [];
export const keyNow = () => person()?.key ?? null;
export const mayCreate = () => rolesNow().some((role) => role === "admin" || role === "owner");

/** What nobody in particular may do in an experiment. */
export const NO_RIGHTS = { owns: false, reads: false };

/** What this person may do in an experiment. An owner owns the experiments that it has created. */
export async function rightsIn(id) {
  const roles = rolesNow();
  if (roles.includes("admin")) return { owns: true, reads: true };
  if (!roles.includes("owner")) return { owns: false, reads: roles.includes("reader") };
  const { owns, reads } = await get(`v1/me?experiment=${encodeURIComponent(id)}`);
  return { owns, reads };
}

/** Calls back when somebody logs in or out; gives a function that ends this. */
export function onKeyChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function change(now) {
  if (now === null) sessionStorage.removeItem(NAME);
  else sessionStorage.setItem(NAME, JSON.stringify(now));
  for (const listener of [...listeners]) listener();
}

/** Logs the person with this key out: the coordinator takes the key no more, as a token ends. */
export function keyRefused(key) {
  if (key === null || key !== keyNow()) return;
  change(null);
  say(t("Your key or token is no longer valid: log in again."));
}

/** Wires the button in the page's head. */
export function keyButton(button) {
  const show = () => {
    const name = person()?.name;
    button.textContent = name ?? t("Log in");
    button.classList.toggle("in", Boolean(name));
    button.setAttribute("aria-label", name ? t("Logged in as {name}", { name }) : t("Log in"));
  };
  button.addEventListener("click", () => (person() ? showPerson() : askForKey()));
  onKeyChange(show);
  show();
}

/** Says who is logged in and what that person may do, and offers to log out. */
function showPerson() {
  const { name, roles } = person();
  const leave = () => {
    dialog.close();
    change(null);
    say(t("You are logged out."));
  };
  const dialog = dialogOf(t("Logged in as {name}", { name }),
    h("ul.plain", {}, roles.map((role) => h("li", {}, WHAT[role] ?? role))),
    h("div.row.end", {},
      h("button", { type: "button", onclick: leave }, t("Log out")),
      h("button.primary", { type: "button", onclick: () => dialog.close() }, t("Close"))));
}

export function askForKey() {
  const input = h("input", {
    type: "password", id: "key-input", autocomplete: "off", required: true, "aria-describedby": "key-fault",
  });
  const fault = h("p.fault", { id: "key-fault", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    fault.textContent = "";
    const key = input.value.trim();
    try {
      const { name, roles } = await checkKey(key);
      dialog.close();
      change({ key, name, roles });
      say(t("Logged in as {name}", { name }));
    } catch (error) {
      input.setAttribute("aria-invalid", "true");
      fault.textContent = error.status === 401 ? t("The coordinator does not know this key or token.") : error.message;
    }
  };
  const dialog = dialogOf(t("Log in"), h("form", { onsubmit: submit },
    h("p.muted.small", {}, t("With the coordinator’s admin key (FL_ADMIN_KEY), or a key or token of your own. It stays in this tab and is gone when the tab is closed.")),
    h("div.field", {}, h("label", { for: "key-input" }, t("Key or token")), input, fault),
    h("div.row.end", {},
      h("button", { type: "button", onclick: () => dialog.close() }, t("Cancel")),
      h("button.primary", { type: "submit" }, t("Log in")))));
}

function dialogOf(title, ...body) {
  const dialog = h("dialog", { "aria-labelledby": "key-title", onclose: () => dialog.remove() },
    h("div.cards", {}, h("h2", { id: "key-title" }, title), body));
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
