"""The folder for weights on disk: private, removed when released, and after its process was killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from worker.loading.large_models import offload_folder
from worker.loading.large_models.offload_folder import OffloadFolder

ROOT = Path(__file__).parents[5]
CHILD = """
import sys, time
from pathlib import Path
from worker.loading.large_models.offload_folder import OffloadFolder
folder = OffloadFolder.create(Path(sys.argv[1]))
(folder.path / "weights").write_text("large")
print(folder.path, flush=True)
time.sleep(60)
"""


def folders(parent: Path) -> list[str]:
    return [path.name for path in parent.glob("weights-*")]


def test_is_for_this_user_only_and_removed_when_released(tmp_path: Path) -> None:
    folder = OffloadFolder.create(tmp_path / "home" / "offload")
    (folder.path / "weights").write_text("large")

    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.release()
    folder.release()

    assert folders(tmp_path / "home" / "offload") == []


def test_all_are_removed_before_the_process_ends(tmp_path: Path) -> None:
    kept = [OffloadFolder.create(tmp_path), OffloadFolder.create(tmp_path)]

    offload_folder.release_all()

    assert folders(tmp_path) == []
    for folder in kept:
        folder.release()  # as the models' finalizers do


def test_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    first = OffloadFolder.create(tmp_path)
    second = OffloadFolder.create(tmp_path)

    assert offload_folder.remove_abandoned(tmp_path) == 0
    assert first.path.is_dir()
    assert second.path.is_dir()
    first.release()
    assert second.path.is_dir()
    second.release()


def test_of_another_user_is_left_alone_and_shuts_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights-1").mkdir()
    lock_file = tmp_path / "weights-1.lock"
    lock_file.touch()
    own_id, opened, real_open = os.geteuid(), [], os.open
    monkeypatch.setattr(os, "geteuid", lambda: own_id + 1)  # so that the folder above is another user's
    monkeypatch.setattr(os, "open", lambda path, *options: opened.append(Path(path)) or real_open(path, *options))

    OffloadFolder.create(tmp_path).release()

    assert (tmp_path / "weights-1").is_dir()
    assert lock_file not in opened
    assert [path.name for path in opened if path.name.startswith(".lock")] == [f".lock-{own_id + 1}"]


def test_of_a_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdout is not None
    left = Path(child.stdout.readline().strip())
    assert (left / "weights").exists()
    assert offload_folder.remove_abandoned(tmp_path) == 0

    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    own = OffloadFolder.create(tmp_path)

    assert not left.exists()
    assert sorted(folders(tmp_path)) == [own.path.name, f"{own.path.name}.lock"]
    own.release()


def test_there_is_nothing_to_remove_where_none_was(tmp_path: Path) -> None:
    assert offload_folder.remove_abandoned(tmp_path / "missing") == 0
    assert not (tmp_path / "missing").exists()
