"""Lay out LabelMeFacade (https://github.com/cvjena/labelmefacade) for these configs.

Writes every image and its label map, reduced to a short side of 256 pixels, to
``OUT/img_dir`` and ``OUT/ann_dir``. Which of them train and which validate is said by
``splits/``. A pixel "various", or of no class, becomes 255, which is ignored.
"""

import argparse
import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

SPLITS = Path(__file__).parent / "splits"
SHORT_SIDE = 256
VALIDATION_IMAGES = 245
IGNORED = 255
PALETTE = {  # RGB; the order is that of the labels 0 to 7
    "building": (128, 0, 0),
    "car": (128, 0, 128),
    "door": (128, 128, 0),
    "pavement": (128, 128, 128),
    "road": (128, 64, 0),
    "sky": (0, 128, 128),
    "vegetation": (0, 128, 0),
    "window": (0, 0, 128),
}


def split_by_collection(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split images so that no collection, the name before "__", is on both sides.

    Collections are taken for validation in the order of the SHA-256 of their names,
    each that still fits into VALIDATION_IMAGES. Returns sorted names for training and
    for validation.
    """
    names = sorted(names)
    sizes = Counter(name.split("__")[0] for name in names)
    chosen, total = set(), 0
    for collection in sorted(sizes, key=lambda c: hashlib.sha256(c.encode()).digest()):
        if total + sizes[collection] <= VALIDATION_IMAGES:
            chosen.add(collection)
            total += sizes[collection]
    sides = [name for name in names if name.split("__")[0] not in chosen]
    return sides, [name for name in names if name.split("__")[0] in chosen]


def to_labels(colours: np.ndarray) -> np.ndarray:
    """Turn colours, RGB (H, W, 3), into labels (H, W); all are uint8.

    Raises:
        ValueError: A colour is not in the palette.
    """
    labels = np.full(colours.shape[:2], IGNORED, dtype=np.uint8)
    for label, colour in enumerate(PALETTE.values()):
        labels[(colours == colour).all(axis=2)] = label
    unknown = (labels == IGNORED) & colours.any(axis=2)  # (0, 0, 0) is "various"
    if unknown.any():
        found = np.unique(colours[unknown], axis=0)[:5].tolist()
        raise ValueError(f"colours {found} are not in {[*PALETTE.values()]}")
    return labels


def convert(source: Path, out: Path) -> None:
    """Write all images and label maps at the smaller size."""
    for folder in ("img_dir", "ann_dir"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("labels/*.png")):
        image = cv2.imread(str(source / "images" / f"{path.stem}.jpg"))
        labels = to_labels(cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])
        ratio = SHORT_SIDE / min(labels.shape)
        size = tuple(round(side * ratio) for side in labels.shape[::-1])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(out / "img_dir" / f"{path.stem}.jpg"), image)  # quality 95
        cv2.imwrite(str(out / "ann_dir" / path.name), labels)


def main() -> None:
    """Convert, or write the lists of the split anew."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="clone of the repository")
    parser.add_argument("--out", type=Path, default=Path("data/labelmefacade"))
    parser.add_argument("--lists", action="store_true", help="write splits/ instead")
    args = parser.parse_args()
    names = [path.stem for path in args.source.glob("labels/*.png")]
    if not names:
        parser.error(f"{args.source}/labels holds no PNG: name the clone")
    if args.lists:
        for side, chosen in zip(
            ("train", "val"), split_by_collection(names), strict=True
        ):
            text = "".join(f"{name}\n" for name in chosen)
            (SPLITS / f"labelmefacade_{side}.txt").write_text(text)
    else:
        convert(args.source, args.out)


if __name__ == "__main__":
    main()
