"""Text generation: continuous batching, beam search, sampling and the settings of a `generate` call."""
