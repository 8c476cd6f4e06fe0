"""Load problems: the pipelines that workers can't load, when they try again, and the batches that none can serve."""
