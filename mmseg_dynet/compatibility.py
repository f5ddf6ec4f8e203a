"""Check the host's packages, and name the commands that install suitable ones.

The host is one of two families with the same import names: OpenMMLab's packages, or
their maintained OneDL forks. Neither can be a hard requirement, since either would
break an environment that has the other. So pip cannot check them; this module does.
"""

from importlib import import_module, metadata, util

# import name: {distribution that provides it: oldest version that works}
HOST_PACKAGES = {
    "mmengine": {"onedl-mmengine": "0.10.8", "mmengine": "0.10.0"},
    "mmcv": {"onedl-mmcv": "2.3.0", "mmcv": "2.0.0", "mmcv-lite": "2.0.0"},
    "mmseg": {"onedl-mmsegmentation": "1.4.0", "mmsegmentation": "1.2.0"},
}

# mmcv's source distribution needs pkg_resources, which setuptools 82 removed, and
# compiles its operators only if it can import torch.
HOW_TO_INSTALL = """\
Install OneDL's packages (constraints/onedl.txt has the tested versions) with
    pip install onedl-mmengine onedl-mmcv onedl-mmsegmentation
or OpenMMLab's own packages with
    pip install 'setuptools<82' wheel ninja
    MMCV_WITH_OPS=1 pip install --no-build-isolation 'mmcv>=2.0.0,<2.2.0'
    pip install mmengine mmsegmentation ftfy regex"""


def has_host() -> bool:
    """Whether MMSegmentation is installed; others use mmengine and mmcv, too."""
    return _is_installed("mmseg")


def check_host() -> None:
    """Check that each package of the host is installed once, recent, and importable.

    A package without a distribution (on ``PYTHONPATH``) may be of any version.

    Raises:
        ImportError: A package is missing, is provided by two distributions that
            overwrite each other, is too old, or cannot be imported.
    """
    from packaging.version import Version  # absent where torch is installed alone

    host = []
    for name, oldest in HOST_PACKAGES.items():
        if not _is_installed(name):
            raise ImportError(f"mmseg_dynet needs {name}. {HOW_TO_INSTALL}")

        installed = {dist: v for dist in oldest if (v := _version(dist)) is not None}
        if len(installed) > 1:
            raise ImportError(
                f"{' and '.join(installed)} both provide {name} and overwrite each "
                f"other. Run\n    pip uninstall {' '.join(installed)}\n{HOW_TO_INSTALL}"
            )
        for dist, found in installed.items():
            if Version(found) < Version(oldest[dist]):
                raise ImportError(
                    f"mmseg_dynet needs {dist} >= {oldest[dist]}, found {found}. "
                    f"Run\n    pip install '{dist}>={oldest[dist]}'"
                )
        host += [f"{dist} {found}" for dist, found in installed.items()] or [name]

    try:
        # mmseg alone imports even where mmcv lacks the compiled operators.
        import_module("mmseg.models")
    except Exception as error:
        raise ImportError(
            f"{', '.join(host)} cannot be imported together "
            f"({type(error).__name__}: {error}). {HOW_TO_INSTALL}"
        ) from error


def _is_installed(name: str) -> bool:
    try:
        spec = util.find_spec(name)
    except ImportError:
        return False
    # A folder that an uninstallation left behind has no origin.
    return spec is not None and spec.origin is not None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
