"""The guard is all that a user with an unfit host sees: each of its messages counts."""

from importlib import metadata, util
from importlib.machinery import ModuleSpec

import pytest

from mmseg_dynet import compatibility
from mmseg_dynet.compatibility import HOST_PACKAGES, check_host, has_host

ONEDL = {"onedl-mmengine": "0.10.12", "onedl-mmcv": "2.3.6",
         "onedl-mmsegmentation": "1.4.2"}  # fmt: skip
OPENMMLAB = {"mmengine": "0.10.7", "mmcv": "2.1.0", "mmsegmentation": "1.2.2"}


@pytest.fixture
def install(monkeypatch):
    """Return a function that makes pip's view of the environment what it is given."""

    def pretend(distributions: dict[str, str]) -> None:
        def version(name: str) -> str:
            if name not in distributions:
                raise metadata.PackageNotFoundError(name)
            return distributions[name]

        monkeypatch.setattr(metadata, "version", version)

    return pretend


@pytest.fixture
def find(monkeypatch):
    """Return a function that sets what Python finds under one import name."""

    def pretend(name: str, spec: ModuleSpec | None) -> None:
        real = util.find_spec
        monkeypatch.setattr(
            util, "find_spec", lambda asked: spec if asked == name else real(asked)
        )

    return pretend


@pytest.mark.parametrize("family", [ONEDL, OPENMMLAB, {}], ids=["onedl", "mm", "path"])
def test_accepts_either_family_and_checkouts(install, family):
    install(family)
    check_host()


@pytest.mark.parametrize("name", HOST_PACKAGES)
def test_missing_package(install, find, name):
    install({})
    find(name, None)
    with pytest.raises(ImportError, match=f"needs {name}[.] Install OneDL's packages"):
        check_host()


@pytest.mark.parametrize(("name", "installed"), [("mmseg", False), ("mmcv", True)])
def test_a_part_of_the_host_is_a_host_if_it_is_mmsegmentation(find, name, installed):
    find(name, None)
    assert has_host() == installed


def test_folder_left_by_an_uninstallation_is_a_missing_package(install, find):
    install({})
    find("mmcv", ModuleSpec("mmcv", loader=None, is_package=True))
    with pytest.raises(ImportError, match="needs mmcv"):
        check_host()


def test_both_families_at_once(install):
    install(OPENMMLAB | {"onedl-mmcv": "2.3.6"})
    with pytest.raises(
        ImportError,
        match=r"(?s)onedl-mmcv and mmcv both provide mmcv and overwrite each other\."
        r".*pip uninstall onedl-mmcv mmcv\nInstall OneDL's packages",
    ):
        check_host()


@pytest.mark.parametrize(
    ("distribution", "found", "oldest"),
    [
        ("onedl-mmsegmentation", "1.3.3", "1.4.0"),
        # As text, 0.9.1 would be newer than 0.10.0.
        ("mmengine", "0.9.1", "0.10.0"),
    ],
)
def test_too_old(install, distribution, found, oldest):
    install({distribution: found})
    with pytest.raises(
        ImportError,
        match=f"(?s)needs {distribution} >= {oldest}, found {found}.*"
        f"pip install '{distribution}>={oldest}'",
    ):
        check_host()


def test_host_that_does_not_import(install, monkeypatch):
    def without_operators(name: str) -> None:
        raise ModuleNotFoundError("No module named 'mmcv._ext'")

    install(OPENMMLAB)
    monkeypatch.setattr(compatibility, "import_module", without_operators)
    with pytest.raises(
        ImportError,
        match=r"(?s)mmengine 0.10.7, mmcv 2.1.0, mmsegmentation 1.2.2 cannot be "
        r"imported together \(ModuleNotFoundError: No module named 'mmcv._ext'\)"
        r".*--no-build-isolation 'mmcv>=2.0.0,<2.2.0'",
    ) as caught:
        check_host()
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
