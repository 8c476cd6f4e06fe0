"""`batchmill demo` runs all eight tasks on bundled inputs, in a sandbox."""
