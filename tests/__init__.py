"""Tests of Batchmill, arranged as the source is."""
