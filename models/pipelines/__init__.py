"""The catalogue of pipelines: task, model, revision, load options and limits by name."""
