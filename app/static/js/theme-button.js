// The button that goes round the themes: the system's, light, dark. theme.js sets the chosen one at the start.
import { h } from "./dom.js";
import { t } from "./words.js";

const THEMES = [["auto", "◐", t("Auto")], ["light", "☀", t("Light")], ["dark", "☾", t("Dark")]];

export function themeButton(button) {
  const { dataset } = document.documentElement;
  const show = () => {
    const [, sign, word] = THEMES.find(([name]) => name === (dataset.theme ?? "auto"));
    button.replaceChildren(sign, h("span.word", {}, word));
    button.setAttribute("aria-label", t("Theme: {theme}", { theme: word.toLowerCase() }));
  };
  button.addEventListener("click", () => {
    const at = THEMES.findIndex(([name]) => name === (dataset.theme ?? "auto"));
    const [theme] = THEMES[(at + 1) % THEMES.length];
    if (theme === "auto") delete dataset.theme;
    else dataset.theme = theme;
    try {
      localStorage.setItem("fl-theme", theme);
    } catch {
      // the browser keeps no storage: the choice lasts until the page is left
    }
    show();
  });
  show();
}
