"""Which other parameters the checks try."""

import pytest

from models.tasks.builtin_specs import TASKS
from worker.task_checks import parameter_sets


@pytest.mark.parametrize("name", ["summarization", "text-generation", "translation"])
def test_no_limit_of_time_is_tried(name: str) -> None:
    sets = parameter_sets.make(TASKS[name], {"do_sample": False})

    assert sets
    assert not any("max_time" in changed for changed in sets)
