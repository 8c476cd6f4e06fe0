"""The adapter for transformers' own pipelines, whose private steps only this room calls."""
