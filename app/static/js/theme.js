// Sets the theme before the first paint, so that no other theme flashes. A module would run later.
(() => {
  try {
    const theme = localStorage.getItem("fl-theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // the browser keeps no storage: use the system's theme
  }
})();
