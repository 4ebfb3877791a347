// The dashboard: it shows the view that the address names.
import { compareView } from "./compare.js";
import { createView } from "./create.js";
import { experimentView } from "./experiment.js";
import { keyButton } from "./key.js";
import { listView } from "./list.js";
import { themeButton } from "./theme-button.js";
import { t } from "./words.js";

const main = document.getElementById("main");
let leave = () => {};

/** A view is a function that fills `main` and gives a function that ends the view. */
function viewOf(hash) {
  const [, first, second] = hash.split("/");
  if (first === "experiments" && second) {
    return (place) => experimentView(place, decodeURIComponent(second));
  }
  if (first === "compare" && second) return (place) => compareView(place, second);
  return first === "new" ? createView : listView;
}

function route(event) {
  leave();
  main.replaceChildren();
  document.title = t("Federated learning");
  leave = viewOf(location.hash)(main) ?? (() => {});
  if (!event) return;
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the link would change the hash, and the hash names the view
  main.focus();
});
// The words of index.html, which the browser has shown already.
for (const node of document.querySelectorAll("[data-words]")) node.textContent = t(node.textContent);
document.querySelector("header nav").setAttribute("aria-label", t("Site"));
keyButton(document.getElementById("key"));
themeButton(document.getElementById("theme"));
addEventListener("hashchange", route);
route();
