"""Fixtures that the tests of the package and of the projects share."""

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import labels
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from mmengine.registry import DefaultScope
from mmseg.utils import register_all_modules
from packaging.version import Version
from PIL import Image
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_dynet.ops import CoefficientPredictor

# The oldest torch computes and trains. It cannot compile all networks (MobileNetV3) or
# export them.
OLD_TORCH = Version(torch.__version__) < Version("2.6")
collect_ignore = ["tests/deploy/test_export.py"] if OLD_TORCH else []

# Tests are small, and run in as many processes as there are cores.
torch.set_num_threads(1)
# A GPU would round the factors of convolutions to ten bits.
torch.backends.cudnn.allow_tf32 = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that the installed torch or the machine cannot run."""
    too_old = pytest.mark.skip(reason=f"torch {torch.__version__} is too old for it")
    no_gpu = pytest.mark.skip(reason="needs a GPU")
    for item in items:
        if OLD_TORCH and item.get_closest_marker("recent_torch"):
            item.add_marker(too_old)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for a ``device`` on the CPU and on a GPU.

    If it also asks for an ``autocast_type``, then with each that the device has.
    """
    gpu = pytest.mark.gpu
    if "autocast_type" in metafunc.fixturenames:
        cases = [
            ("cpu", torch.bfloat16),
            pytest.param("cuda", torch.bfloat16, marks=gpu),
            pytest.param("cuda", torch.float16, marks=gpu),
        ]
        metafunc.parametrize(("device", "autocast_type"), cases)
    elif "device" in metafunc.fixturenames:
        metafunc.parametrize("device", ["cpu", pytest.param("cuda", marks=gpu)])


@pytest.fixture(autouse=True)
def mmseg_scope() -> Iterator[None]:
    """Look up names as MMSegmentation's configs do, whatever a test before has set."""
    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


@pytest.fixture(scope="session")
def tiny_cityscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of 8 training and 4 validation images of 128x256 as Cityscapes ships them.

    Random rectangles, at least one per class and image. Not to be written to.
    """
    root = tmp_path_factory.mktemp("data") / "tiny_cityscapes"
    rng = np.random.default_rng(0)
    for split, number in (("train", 8), ("val", 4)):
        for kind in ("leftImg8bit", "gtFine"):
            (root / kind / split / "city").mkdir(parents=True)
        for index in range(number):
            _write_rectangles(root, f"{split}/city/city_{index:06d}_000019", rng)
    return root


def _write_rectangles(root: Path, name: str, rng: np.random.Generator) -> None:
    """Write an image, its polygons and both of its label maps."""
    height, width = 128, 256
    picture = rng.normal(128, 20, (height, width, 3))
    objects = []
    cells = [(x, y) for x in range(0, 224, 32) for y in range(0, 120, 24)]
    rng.shuffle(cells)
    drawn = [label for label in labels if label.id > 0]
    for label, (x, y) in zip(drawn, cells, strict=False):
        left, top = x + int(rng.integers(12)), y + int(rng.integers(8))
        right, bottom = left + int(rng.integers(8, 24)), top + int(rng.integers(8, 18))
        picture[top : bottom + 1, left : right + 1] += np.array(label.color) - 128
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        objects.append(dict(label=label.name, polygon=corners))
    image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    image.save(root / f"leftImg8bit/{name}_leftImg8bit.png")
    polygons = root / f"gtFine/{name}_gtFine_polygons.json"
    polygons.write_text(
        json.dumps(dict(imgHeight=height, imgWidth=width, objects=objects))
    )
    for kind, ending in (("ids", "labelIds"), ("trainIds", "labelTrainIds")):
        label_map = root / f"gtFine/{name}_gtFine_{ending}.png"
        json2labelImg(str(polygons), str(label_map), kind)


@pytest.fixture(scope="session")
def draw_norms() -> Callable[[nn.Module], None]:
    """Give every batch norm weights and statistics that are not the identity."""

    def draw(network: nn.Module) -> None:
        for norm in network.modules():
            if isinstance(norm, _BatchNorm):
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias)
                nn.init.normal_(norm.running_mean, std=0.1)
                nn.init.uniform_(norm.running_var, 0.5, 1.5)

    return draw


@pytest.fixture(scope="session")
def vary() -> Callable[[nn.Module], nn.Module]:
    """Let coefficients differ, some of them from image to image."""

    def vary(network: nn.Module) -> nn.Module:
        for module in network.modules():
            if isinstance(module, CoefficientPredictor):
                module.logits.weight.data *= 30
                nn.init.normal_(module.logits.bias, std=2)
        return network

    return vary


def pytest_collection_finish() -> None:
    """Spare modules the garbage collections that the host's data sets ask for."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def unformatted_configs() -> Iterator[None]:
    """Write configs as they are: laying them out is almost half of a short training."""

    def leave(text: str, **_: object) -> tuple[str, bool]:
        return text, True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", leave)
        yield
