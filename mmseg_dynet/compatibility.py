"""Guard against a missing or unfit host, with the line that installs a fit one.

The host is one of two families with the same import names: OpenMMLab's packages, or
their maintained OneDL forks. Neither can be a hard requirement, since either would break
an environment that has the other.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

# import name: (OneDL distribution, OpenMMLab distribution, oldest version that works)
HOST_PACKAGES = {
    "mmengine": ("onedl-mmengine", "mmengine", "0.10.0"),
    "mmcv": ("onedl-mmcv", "mmcv", "2.0.0"),
    "mmseg": ("onedl-mmsegmentation", "mmsegmentation", "1.2.0"),
}

INSTALL_LINE = (
    "install the tested host with\n"
    "    MMCV_WITH_OPS=0 pip install 'mmseg_dynet[onedl]'\n"
    "or, beside OpenMMLab's own packages, with\n"
    "    pip install 'mmseg_dynet[openmmlab]'"
)


def check_host() -> None:
    """Raise an ImportError unless one whole family of host packages is installed.

    Raises:
        ImportError: A host package is missing, both families are installed at once, a
            version is too old, or the package itself does not import.
    """
    for name, (onedl, openmmlab, oldest) in HOST_PACKAGES.items():
        found = {dist: _version(dist) for dist in (onedl, openmmlab)}
        installed = {dist: v for dist, v in found.items() if v is not None}
        if not installed:
            raise ImportError(f"mmseg_dynet needs {name}: {INSTALL_LINE}")
        if len(installed) == 2:
            raise ImportError(
                f"{onedl} and {openmmlab} both provide {name} and overwrite each other: "
                f"uninstall both, then {INSTALL_LINE}"
            )
        ((dist, found_version),) = installed.items()
        if Version(found_version) < Version(oldest):
            raise ImportError(
                f"mmseg_dynet needs {dist} >= {oldest}, found {found_version}: "
                f"{INSTALL_LINE}"
            )
        try:
            import_module(name)
        except Exception as error:
            raise ImportError(
                f"{dist} {found_version} is installed but does not import ({error}): "
                f"{INSTALL_LINE}"
            ) from error


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
