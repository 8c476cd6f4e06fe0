"""Text generation: the settings of a `generate` call, sampling, beam search and continuous batching."""
