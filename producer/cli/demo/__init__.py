"""`batchmill demo` runs all eight tasks and a guarded pipeline on bundled inputs, in a sandbox."""
