"""Guard models read the texts of jobs beside the pipeline's own model."""
