"""The routes under `/api` for schedules: list, show, report, run now or again, suspend and resume."""
