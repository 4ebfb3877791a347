// The dashboard: it shows the view that the address names.
import { compareView } from "./compare.js";
import { createView } from "./create.js";
import { experimentView } from "./experiment.js";
import { keyButton } from "./key.js";
import { listView } from "./list.js";

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
  document.title = "Federated learning";
  leave = viewOf(location.hash)(main) ?? (() => {});
  if (!event) return;
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the link would change the hash, and the hash names the view
  main.focus();
});
keyButton(document.getElementById("key"));
addEventListener("hashchange", route);
route();
