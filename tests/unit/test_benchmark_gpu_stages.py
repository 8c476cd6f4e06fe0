"""A failing stage of the GPU benchmark costs its own rows at most."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import STAGES, Run, Stage


@pytest.fixture
def options(tmp_path: Path) -> Namespace:
    return Namespace(smoke=True, device="cpu", seconds=0.5, minutes=1.0, out=tmp_path / "results")


def saved_stages(options: Namespace) -> dict:
    [path] = options.out.glob("gpu-smoke-*.json")
    return json.loads(path.read_text())["stages"]


def test_results_are_written_after_each_stage(
    options: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_process(_run: Run, name: str, rows: Path, _seconds: float) -> str:
        rows.write_text(json.dumps({"what": name, "result": 1}) + "\n")
        return "done" if name == "encoder" else "stopped after 20 s"

    monkeypatch.setattr(Run, "_run_process", run_process)
    run = Run(options, tmp_path)

    run.run_stage(Stage("environment", 20))
    after_first = saved_stages(options)
    run.run_stage(Stage("encoder", 20))

    assert after_first.keys() == {"environment"}
    assert after_first["environment"]["status"] == "stopped after 20 s"
    assert after_first["environment"]["rows"] == [{"what": "environment", "result": 1}]
    assert saved_stages(options)["encoder"]["status"] == "done"
    assert run.has_failed()


def test_stages_past_the_time_of_the_run_are_skipped(options: Namespace, tmp_path: Path) -> None:
    options.minutes = 0.0
    run = Run(options, tmp_path)

    run.run_stage(Stage("kernels", 20))

    assert saved_stages(options)["kernels"]["status"] == "skipped: the run's time was used up"


def test_the_tests_come_first_and_the_limits_leave_room_for_all_but_the_last() -> None:
    assert STAGES[0].name == "tests"
    assert sum(stage.limit_seconds for stage in STAGES[:-2]) <= 7 * 60
