"""The identity of a batch and of a request: ids, fingerprints, and the key under which outputs are reused."""
