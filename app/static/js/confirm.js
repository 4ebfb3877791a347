// A question before what cannot be undone.
import { h } from "./dom.js";

/** Asks; on yes does `work`, whose failure is shown in the dialog. */
export function confirm({ title, text, yes, no }, work) {
  const fault = h("p.fault", { role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    try {
      await work();
      dialog.close();
    } catch (error) {
      fault.textContent = error.message;
    }
  };
  const dialog = h("dialog", { "aria-labelledby": "confirm-title", onclose: () => dialog.remove() },
    h("form", { onsubmit: submit },
      h("h2", { id: "confirm-title" }, title),
      h("p", {}, text),
      fault,
      h("div.row.end", {},
        h("button", { type: "button", onclick: () => dialog.close() }, no),
        h("button.danger", { type: "submit" }, yes))));
  document.body.append(dialog);
  dialog.showModal();
}
