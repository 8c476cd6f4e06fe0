"""The routes under `/api` for what this server offers: pipelines and tasks."""
