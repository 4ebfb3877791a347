// Sets the theme before the first paint, so that no other theme flashes. A module would run later.
(() => {
  const root = document.documentElement;
  const names = { auto: ["◐", "Auto"], light: ["☀", "Light"], dark: ["☾", "Dark"] };
  let theme = "auto";
  try {
    theme = localStorage.getItem("fl-theme") ?? "auto";
  } catch {
    // the browser keeps no storage: use the system's theme
  }
  const show = () => {
    if (!(theme in names)) theme = "auto";
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (!button) return;
    const word = document.createElement("span");
    word.className = "word";
    word.textContent = names[theme][1];
    button.replaceChildren(names[theme][0], word);
    button.setAttribute("aria-label", `Theme: ${theme}`);
  };
  show();
  addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme").addEventListener("click", () => {
      const order = Object.keys(names);
      theme = order[(order.indexOf(theme) + 1) % order.length];
      try {
        localStorage.setItem("fl-theme", theme);
      } catch {
        // the browser keeps no storage: the choice lasts until the page is left
      }
      show();
    });
  });
})();
