"""Several training jobs at a time, and who gets which GPU."""

from pathlib import Path

import pytest

from app.jobs.gpus import one_each, visible_gpus
from tests.processes import service, wait_for


def test_gpus_are_those_of_the_variable_or_of_the_driver(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "gpus" / f"0000:0{number}:00.0").mkdir(parents=True)
    assert visible_gpus({}, tmp_path / "gpus") == ["0", "1", "2"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "2, GPU-8a7f"}, tmp_path / "gpus") == ["2", "GPU-8a7f"]
    for nothing in ("", "-1"):
        assert visible_gpus({"CUDA_VISIBLE_DEVICES": nothing}, tmp_path / "gpus") == []
    assert visible_gpus({}, tmp_path / "no driver") == []


@pytest.mark.parametrize(
    ("jobs", "gpus", "expected"),
    [
        (1, ["0", "1"], [None]),
        (2, [], [None, None]),
        (2, ["0"], [None, None]),
        (3, ["0", "1"], ["0", "1", "0"]),
    ],
)
def test_jobs_take_gpus_in_turn(jobs: int, gpus: list[str], expected: list[str | None]) -> None:
    """Where there is a choice; else a job sees what the service sees."""
    assert one_each(jobs, gpus) == expected


@pytest.mark.survival
def test_as_many_jobs_run_at_a_time_as_are_allowed(tmp_path: Path) -> None:
    with service(tmp_path, MINIST_TRAIN_JOBS="2") as (_, client):

        def start(model: str, **more: int) -> str:
            request = {"recipe": "softmax-mnist", "epochs": 100, "validation_images": 100, "model": model}
            return client.post("/train", json={**request, **more}).headers["location"]

        def running() -> set[str]:
            return {job["model"] for job in client.get("/train?status=running").json()["jobs"]}

        first = start("first")
        start("second")
        wait_for(lambda: running() == {"first", "second"})
        usual, urgent = start("usual"), start("urgent", priority=1)
        assert [client.get(url).json()["position"] for url in (urgent, usual)] == [1, 2]
        assert client.delete(first).json()["status"] == "cancelled"
        wait_for(lambda: running() == {"second", "urgent"})
