"""Tenants see no folders, hosts or processes of the operator; the operator sees all."""

from producer.batches.blocker import Blocker
from producer.server.native import shown

DOCUMENT = {"model": "/srv/models/reviews", "adapter": "C:\\models\\lora", "name": "/my/own", "task": "t", "total": 3}
BLOCKERS = [
    Blocker("load_failed", "gpu1 (cuda:0) can't load reviews: no file /srv/models/reviews"),
    Blocker("load_failed", "gpu2 (cuda:0) can't load reviews: no file /srv/models/reviews"),
    Blocker("no_worker", "no worker serves reviews now: `batchmill up` (pid 4711) is starting"),
    Blocker("workers_busy", "gpu1 (cuda:0) has secret-project loaded"),
    Blocker("queued", "its turn has not come yet: one worker is busy"),
]


def test_a_tenant_sees_the_last_part_of_a_folder() -> None:
    hidden = shown.hide_folders(DOCUMENT, "acme")

    assert hidden == {"model": "reviews", "adapter": "lora", "name": "/my/own", "task": "t", "total": 3}
    assert shown.hide_folders(DOCUMENT, None) == DOCUMENT


def test_a_tenant_s_blockers_name_no_machine() -> None:
    objects = shown.blocker_objects(BLOCKERS, "reviews", "acme")

    assert [item["code"] for item in objects] == ["load_failed", "no_worker", "workers_busy", "queued"]
    assert objects[-1] == BLOCKERS[-1].as_dict()
    text = str(objects)
    assert not [word for word in ("gpu", "srv", "4711", "secret-project") if word in text]
    assert shown.blocker_objects(BLOCKERS, "reviews", None) == [blocker.as_dict() for blocker in BLOCKERS]


def test_a_tenant_sees_neither_folders_nor_load_failures_of_workers() -> None:
    worker = {"id": "w-1", "model": "/srv/models/secret", "load_failures": [{"message": "/srv/models/x is not there"}]}

    assert shown.worker_object(worker, None) == worker
    assert shown.worker_object(worker, "acme") == {"id": "w-1", "model": "secret", "load_failures": []}
