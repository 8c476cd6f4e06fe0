"""Placement: sizes and devices of a device map, with a sentence for what an operator may write wrongly."""

from typing import Any

import pytest
from pydantic import ValidationError

from models.pipelines.options import placement
from models.pipelines.pipeline import Pipeline

ENTRY = {"name": "p", "task": "ner", "model": "a/b"}


def test_sizes_have_units() -> None:
    sizes = {"cuda:0": "20GiB", "cuda:1": "1.5 GB", "cpu": "512MiB"}

    assert placement.parse_max_memory(sizes) == {"cuda:0": 20 << 30, "cuda:1": 1_500_000_000, "cpu": 512 << 20}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"max_memory": {"cpu": "1GiB"}}, 'max_memory has no effect without device_map; set device_map = "auto"'),
        ({"offload_folder": "/tmp/x"}, "offload_folder has no effect without device_map"),
        ({"device_map": "auto", "max_memory": {}}, "names no device; write"),
        ({"device_map": "auto", "max_memory": {"gpu": "1GiB"}}, "names 'gpu', which is no device; write cpu, or"),
        ({"device_map": "auto", "max_memory": {"cuda:01": "1GiB"}}, "names 'cuda:01', which is no device"),
        ({"device_map": "auto", "max_memory": {"cpu": "20"}}, "gives cpu '20', which is no size; write a number and"),
        ({"device_map": "auto", "max_memory": {"cpu": "0GiB"}}, "gives cpu '0GiB', which is no size"),
        ({"device_map": "auto", "max_memory": {"cpu": "-1GiB"}}, "which is no size"),
        ({"device_map": "auto", "max_memory": {"cpu": "9" * 400 + "GiB"}}, "which is no size"),
        ({"device_map": "auto", "device": "cuda:1"}, "device_map does not go with device cuda:1; write auto, cuda or"),
        ({"device_map": "auto", "device": "mps"}, "device_map does not go with device mps"),
        ({"device_map": "auto", "quantization": "int8"}, "device_map does not go with quantization"),
        ({"device_map": "everywhere"}, "Input should be 'auto', 'balanced' or 'sequential'"),
    ],
    ids=str,
)
def test_a_wrong_entry_is_a_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Pipeline(**ENTRY, **fields)

    assert sentence in str(raised.value)


def test_an_entry_without_device_map_keeps_its_hash() -> None:
    fields = Pipeline(**ENTRY).model_dump()

    assert {"device_map", "max_memory", "offload_folder"} <= fields.keys()
    assert Pipeline(**ENTRY).settings_hash == "dc565820ff61cb59"


def test_the_hash_follows_the_device_map_but_not_the_folder() -> None:
    plain, spread = Pipeline(**ENTRY), Pipeline(**ENTRY, device_map="auto")

    assert plain.settings_hash != spread.settings_hash
    assert spread.settings_hash != Pipeline(**ENTRY, device_map="auto", max_memory={"cpu": "1GB"}).settings_hash
    assert spread.settings_hash == Pipeline(**ENTRY, device_map="auto", offload_folder="/tmp/x").settings_hash
