"""`batchmill demo`: all eight tasks on bundled inputs, in a sandbox of its own."""
