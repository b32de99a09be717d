"""HTTP: routes, schemas, problems, uploads. Only this room (and `app.main`) imports fastapi and starlette."""
