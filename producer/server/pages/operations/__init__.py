"""The pages for operators: workers, pipelines and models, the doctor, and usage by tenant."""
