"""The files of a source: found by path, pattern or URL, checked against access rules, and decompressed."""
