"""The commands for operators: `audit`, `doctor`, `workers`, `pipelines`, `tasks` and `db`."""
