"""Model versions: equal ones share a row, and an adapter makes another."""

from dataclasses import replace

from worker.loading.versions import RuntimeVersion

PLAIN = RuntimeVersion(
    "ner", "org/base", "a" * 40, "org/base", "a" * 40, "float32", None, "sdpa", "cpu", {"torch": "2.13.0"}
)


def test_a_version_without_an_adapter_keeps_its_fingerprint() -> None:
    # Of the code before there were adapters, by which rows of earlier results are found.
    assert PLAIN.fingerprint == "746070d6eb622e2b98dea6a36d15eb2994f655e0d57114d70fb324e3c3bfdf4a"


def test_an_adapter_and_its_revision_make_another_version() -> None:
    adapted = replace(PLAIN, adapter="org/adapter", adapter_revision="b" * 40)
    other = replace(adapted, adapter_revision="c" * 40)

    assert len({each.fingerprint for each in (PLAIN, adapted, other)}) == 3
    assert (PLAIN.batch_revision, adapted.batch_revision) == ("a" * 40, f"{'a' * 40}+{'b' * 40}")
