// The API's documentation: Swagger UI over this coordinator's own OpenAPI document.
const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => {
  let theme = "auto";
  try {
    theme = localStorage.getItem("fl-theme") ?? "auto"; // as the page's button has set it
  } catch {
    // the browser keeps no storage: use the system's theme
  }
  document.documentElement.classList.toggle("dark-mode", theme === "dark" || (theme !== "light" && dark.matches));
};
dark.addEventListener("change", paint);
paint();
window.ui = window.SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null, // Swagger UI would send the document to another host
});
