"""What a run came to, out of logs with an interruption."""

import json

import pytest
from study.outcome import Outcome, read_log, summarize

BEFORE = [
    dict(step=2, loss=3.0, time=1.0),
    dict(step=3, mIoU=10.0, **{"IoU.road": 20.0, "IoU.car": 0.0}),
    dict(step=4, loss=2.5, time=9.0),  # trained again after the interruption
]
AFTER = [
    dict(step=4, loss=2.0, time=2.0),
    dict(step=5, loss=1.0, time=4.0),
    dict(step=5, mIoU=30.0, **{"IoU.road": 40.0, "IoU.car": 20.0}),
]


@pytest.fixture
def work_dir(tmp_path):
    for name, records, cut_off in (
        ("20260102_000000", AFTER, ""),
        ("20260101_000000", BEFORE, '{"step": 5, "lo'),
    ):
        path = tmp_path / name / "vis_data/scalars.json"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join([*map(json.dumps, records), cut_off]))
    return tmp_path


def test_a_log_is_one_over_interruptions(work_dir):
    assert read_log(work_dir) == [*BEFORE[:2], *AFTER]


def test_the_last_validation_counts(work_dir):
    assert summarize(work_dir, 5) == {
        "val_mIoU": 30.0,
        "class_IoU": {"road": 40.0, "car": 20.0},
        "curve": [(3, 10.0), (5, 30.0)],
        "seconds": 2 * 1.0 + 2 * 2.0 + 1 * 4.0,
    }


def test_a_run_that_has_not_ended_has_no_summary(work_dir, tmp_path):
    assert summarize(work_dir, 6) is None
    assert summarize(tmp_path / "nothing", 6) is None


def test_an_outcome_is_read_as_it_was_written(work_dir, tmp_path):
    origin = dict(commit="abc", precision="float32", machine="m", command="c")
    outcome = Outcome("Dy", "dy.py", 0, **origin, **summarize(work_dir, 5))
    outcome.write(tmp_path / "new/outcome.json")
    assert Outcome.read(tmp_path / "new/outcome.json") == outcome
