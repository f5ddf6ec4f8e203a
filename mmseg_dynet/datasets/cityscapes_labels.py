"""Cityscapes polygons to the label maps that MMSegmentation trains on.

The archive of Cityscapes holds polygons; ``CityscapesDataset`` reads
``*_gtFine_labelTrainIds.png``. cityscapesscripts draws them; this module finds out
first whether the tree is whole, and draws what is still missing, in parallel.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from cityscapesscripts.preparation.json2labelImg import json2labelImg
from rich.progress import track

from mmseg_dynet.files import is_whole_png, replacing
from mmseg_dynet.messages import some

IMAGES, IMAGE_SUFFIX = "leftImg8bit", "_leftImg8bit.png"
ANNOTATIONS, POLYGONS_SUFFIX = "gtFine", "_gtFine_polygons.json"
LABELS_SUFFIX = "_gtFine_labelTrainIds.png"
ARCHIVES = {
    IMAGES: "leftImg8bit_trainvaltest.zip",
    ANNOTATIONS: "gtFine_trainvaltest.zip",
}


def convert_cityscapes(
    root: Path, splits: Sequence[str] = ("train", "val"), nproc: int = 1
) -> int:
    """Write the label map of every annotated image, and one list of names a split.

    Checks all splits before it writes anything. Can be interrupted at any moment and
    started again: it goes on with the first missing map. A map older than its
    polygons, or cut off, is drawn again.

    Args:
        root: Folder with ``leftImg8bit/SPLIT/CITY`` and ``gtFine/SPLIT/CITY``.
        splits: Names of the splits to convert.
        nproc: Number of processes.

    Returns:
        The number of maps that were drawn (those already there are not counted).

    Raises:
        FileNotFoundError: If a folder is missing, or an image has no polygons, or
            polygons have no image.
        ValueError: If an image or a polygons file is cut off or not what it should be,
            or ``nproc`` is not positive.
    """
    if nproc < 1:
        raise ValueError(f"nproc={nproc}: the number of processes has to be positive")
    names = {split: list_annotated_images(root, split) for split in splits}
    todo = [
        polygons
        for split in splits
        for name in names[split]
        if is_stale(polygons := root / ANNOTATIONS / split / f"{name}{POLYGONS_SUFFIX}")
    ]
    if nproc > 1 and todo:
        # Not "fork": the threads of OpenBLAS and torch do not survive it. The server
        # imports this module, and all that comes with it, once for all workers.
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        with ProcessPoolExecutor(nproc, mp_context=context) as pool:
            exhaust(pool.map(draw_label_map, todo, chunksize=4), total=len(todo))
    else:
        exhaust(map(draw_label_map, todo), total=len(todo))
    for split in splits:
        with replacing(root / f"{split}.txt") as partial:
            partial.write_text("".join(f"{name}\n" for name in names[split]))
    return len(todo)


def exhaust(jobs: Iterable, total: int) -> None:
    """Run the lazy ``jobs`` to their end behind a progress bar."""
    for _ in track(jobs, description="Drawing label maps", total=total):
        pass


def list_annotated_images(root: Path, split: str) -> list[str]:
    """List the images of a split, after checking that the split is whole.

    Args:
        root: Folder with ``leftImg8bit`` and ``gtFine``.
        split: Name of the split.

    Returns:
        The names ``CITY/CITY_SEQUENCE_FRAME``, sorted.

    Raises:
        FileNotFoundError: If a folder is missing or empty, or an image has no polygons,
            or polygons have no image.
        ValueError: If an image is cut off.
    """
    images = list_names(root, IMAGES, split, IMAGE_SUFFIX)
    annotations = list_names(root, ANNOTATIONS, split, POLYGONS_SUFFIX)
    require_none(
        images - annotations,
        f"{split}: images without a {POLYGONS_SUFFIX} file",
        f"unpack {ARCHIVES[ANNOTATIONS]} in {root} again",
    )
    require_none(
        annotations - images,
        f"{split}: polygons without a {IMAGE_SUFFIX} file",
        f"unpack {ARCHIVES[IMAGES]} in {root} again",
    )
    for name in images:
        image = root / IMAGES / split / f"{name}{IMAGE_SUFFIX}"
        if not is_whole_png(image):
            raise ValueError(
                f"{image} is cut off or not a PNG: "
                f"delete it and unpack {ARCHIVES[IMAGES]} again"
            )
    return sorted(images)


def list_names(root: Path, kind: str, split: str, suffix: str) -> set[str]:
    """Names ``CITY/STEM`` of the files ``root/kind/split/CITY/STEM{suffix}``."""
    folder = root / kind / split
    names = {
        f"{path.parent.name}/{path.name.removesuffix(suffix)}"
        for path in folder.glob(f"*/*{suffix}")
    }
    if not names:
        missing = next(
            (path for path in (root, root / kind, folder) if not path.is_dir()), None
        )
        what = f"{missing} is missing" if missing else f"{folder} holds no *{suffix}"
        raise FileNotFoundError(
            f"{what}: get {ARCHIVES[kind]} from https://www.cityscapes-dataset.com "
            f"(or with `csDownload {ARCHIVES[kind]}`) and unpack it in {root}"
        )
    return names


def require_none(names: set[str], what: str, remedy: str) -> None:
    """Raise FileNotFoundError that counts ``names`` and shows the first of them."""
    if names:
        raise FileNotFoundError(
            f"{len(names)} {what} ({some(sorted(names))}): {remedy}"
        )


def label_map_of(polygons: Path) -> Path:
    """Path of the label map that belongs to a polygons file."""
    return polygons.with_name(
        polygons.name.removesuffix(POLYGONS_SUFFIX) + LABELS_SUFFIX
    )


def is_stale(polygons: Path) -> bool:
    """Whether the label map of ``polygons`` is absent, cut off or older than them."""
    labels = label_map_of(polygons)
    return (
        not is_whole_png(labels)
        or labels.stat().st_mtime_ns < polygons.stat().st_mtime_ns
    )


def draw_label_map(polygons: Path) -> None:
    """Draw the train ids of one polygons file beside it.

    Args:
        polygons: A ``*_gtFine_polygons.json`` file.

    Raises:
        ValueError: If the file is not a Cityscapes annotation, e.g. cut off.
    """
    try:
        with replacing(label_map_of(polygons)) as partial:
            json2labelImg(str(polygons), str(partial), "trainIds")
    # An unknown label makes cityscapesscripts exit, which would take a worker process
    # with it and leave its parent with a broken pool.
    except (ValueError, KeyError, TypeError, SystemExit) as error:
        raise ValueError(
            f"{polygons} is not a whole Cityscapes annotation ({error!r}): "
            f"delete it and unpack {ARCHIVES[ANNOTATIONS]} again"
        ) from error
