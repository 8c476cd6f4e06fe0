"""`batchmill demo` runs all ten tasks and a guarded pipeline on bundled inputs, in a sandbox."""
