// The API's documentation: Swagger UI over this coordinator's own OpenAPI document.
window.ui = window.SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null, // Swagger UI would send the document to another host
});
