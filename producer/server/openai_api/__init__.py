"""The API under `/v1`, which OpenAI's clients know."""
