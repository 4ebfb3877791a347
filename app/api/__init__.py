"""HTTP: routes, authentication, the one error table. Thin: parse, call the service, shape."""
