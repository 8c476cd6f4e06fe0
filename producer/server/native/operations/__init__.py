"""The routes under `/api` for operators: workers, the doctor, and the audit of a batch."""
