"""What a training run came to, as a small file, read from the log that it left."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mmseg_dynet.files import write_json

LOG = "vis_data/scalars.json"
CLASS_PREFIX = "IoU."


@dataclass(frozen=True)
class Outcome:
    """One run: what was trained, from which seed, and how it ended.

    Attributes:
        arm: What is compared, e.g. "Dy-ResNet18".
        config: Path of its config.
        seed: Of ``randomness.seed``.
        commit: Of the code that trained it.
        val_mIoU: After the last iteration, in percent; no checkpoint was picked.
        class_IoU: Of each class, in percent, at the same time.
        curve: (iteration, mIoU) of each validation.
        seconds: Of training, without validation.
        precision: "bfloat16" or "float32", what it computed in.
        machine: Where.
        command: That trained it.
    """

    arm: str
    config: str
    seed: int
    commit: str
    val_mIoU: float  # noqa: N815  the metric's name
    class_IoU: dict[str, float]  # noqa: N815
    curve: list[tuple[int, float]]
    seconds: float
    precision: str
    machine: str
    command: str

    @classmethod
    def read(cls, path: Path) -> "Outcome":
        """Read what :meth:`write` wrote."""
        content = json.loads(path.read_text("utf-8"))
        content["curve"] = [tuple(point) for point in content["curve"]]
        return cls(**content)

    def write(self, path: Path) -> None:
        """Write JSON; the folder is made if it is missing."""
        write_json(path, asdict(self))


def read_log(work_dir: Path) -> list[dict]:
    """Read the records of a run, over all its interruptions.

    MMEngine starts a log whenever a run starts or resumes. What was trained twice,
    since it was lost in between, is taken from the last time.

    Args:
        work_dir: Of the run.

    Returns:
        Records by step: those of training have "loss" and "time", those of
        validation "mIoU".
    """
    records: dict[tuple[int, bool], dict] = {}
    for path in sorted(work_dir.glob(f"*/{LOG}")):  # folders are named by their time
        for record in _records(path.read_text("utf-8").splitlines()):
            records[record["step"], "mIoU" in record] = record
    return [records[key] for key in sorted(records)]


def summarize(work_dir: Path, max_iters: int) -> dict | None:
    """Take from a run's log what :class:`Outcome` says of its end.

    Args:
        work_dir: Of the run.
        max_iters: Iterations that it was to train.

    Returns:
        The fields val_mIoU, class_IoU, curve and seconds, or None if the run has not
        been validated after its last iteration.
    """
    log = read_log(work_dir)
    training = [r for r in log if "loss" in r]
    validation = [r for r in log if "mIoU" in r]
    if not validation or validation[-1]["step"] != max_iters:
        return None
    last = validation[-1]
    steps = [0, *(record["step"] for record in training)]
    return {
        "val_mIoU": last["mIoU"],
        "class_IoU": {
            name.removeprefix(CLASS_PREFIX): value
            for name, value in last.items()
            if name.startswith(CLASS_PREFIX)
        },
        "curve": [(record["step"], record["mIoU"]) for record in validation],
        # "time" is the mean of the iterations since the record before, if the logger's
        # interval is the window of MMEngine's log_processor (10).
        "seconds": sum(
            (step - before) * record["time"]
            for before, step, record in zip(steps, steps[1:], training, strict=False)
        ),
    }


def _records(lines: Iterable[str]) -> Iterator[dict]:
    for line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # cut off where the process was killed
            continue
