// The admin key. A dialog asks for it, this tab alone keeps it, and it travels in a header only.
import { checkKey } from "./api.js";
import { h, say } from "./dom.js";
import { t } from "./words.js";

const NAME = "fl-admin-key";
const listeners = new Set();

export const adminKey = () => sessionStorage.getItem(NAME);

/** Calls back when the key is set or removed; gives a function that ends this. */
export function onKeyChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function change(key) {
  if (key === null) sessionStorage.removeItem(NAME);
  else sessionStorage.setItem(NAME, key);
  for (const listener of [...listeners]) listener();
}

/** Wires the button in the page's head. */
export function keyButton(button) {
  const show = () => {
    button.textContent = adminKey() ? t("Forget key") : t("Admin key");
    button.setAttribute("aria-pressed", String(Boolean(adminKey())));
  };
  button.addEventListener("click", () => {
    if (!adminKey()) return askForKey();
    change(null);
    say(t("The key is forgotten."));
  });
  onKeyChange(show);
  show();
}

export function askForKey() {
  const input = h("input", {
    type: "password", id: "key-input", autocomplete: "off", required: true, "aria-describedby": "key-fault",
  });
  const fault = h("p.fault", { id: "key-fault", role: "alert" });
  const close = () => dialog.close();
  const submit = async (event) => {
    event.preventDefault();
    fault.textContent = "";
    try {
      const { roles } = await checkKey(input.value.trim());
      change(input.value.trim());
      dialog.close();
      const looks = roles.every((role) => role === "reader");
      say(looks ? t("The key fits: you may look at all experiments.") : t("The key fits: you may create and stop experiments."));
    } catch (error) {
      input.setAttribute("aria-invalid", "true");
      fault.textContent = error.status === 401 ? t("This is not the coordinator's admin key.") : error.message;
    }
  };
  const dialog = h("dialog", { "aria-labelledby": "key-title", onclose: () => dialog.remove() },
    h("form", { onsubmit: submit },
      h("h2", { id: "key-title" }, t("Admin key")),
      h("p.muted.small", {}, t("FL_ADMIN_KEY of this coordinator. It stays in this tab and is gone when the tab is closed.")),
      h("div.field", {}, h("label", { for: "key-input" }, t("Key")), input, fault),
      h("div.row.end", {},
        h("button", { type: "button", onclick: close }, t("Cancel")),
        h("button.primary", { type: "submit" }, t("Use it")))));
  document.body.append(dialog);
  dialog.showModal();
}
