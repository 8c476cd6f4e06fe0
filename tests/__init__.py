"""Tests of Batchmill, arranged as the source is."""

import pytest

# A failed assertion of a helper then says what it compared, as one in a test does.
pytest.register_assert_rewrite(
    *(f"tests.{name}" for name in ("deployment", "factories", "fakes", "servers", "single_process", "terminals"))
)
