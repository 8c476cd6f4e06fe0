"""The processor's instructions, as Linux lists them."""

from pathlib import Path

import pytest

from models.hardware import processor


@pytest.mark.parametrize(
    ("line", "bfloat16", "float16"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", True, False),
        ("flags\t\t: fpu amx_bf16 amx_tile avx512_fp16", True, True),
        ("flags\t\t: fpu avx2 avx512f", False, False),
        ("Features\t: fp asimd asimdhp bf16", True, True),
        ("Features\t: fp asimd", False, False),
        ("model name\t: of another system", None, None),
    ],
)
def test_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, bfloat16: bool | None, float16: bool | None
) -> None:
    monkeypatch.setattr(processor, "CPUINFO_FILE", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\nbugs\t: none\n")

    assert (processor.has_instructions_for("bfloat16"), processor.has_instructions_for("float16")) == (
        bfloat16,
        float16,
    )


def test_a_system_without_such_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "CPUINFO_FILE", tmp_path / "none")

    assert processor.has_instructions_for("bfloat16") is None
