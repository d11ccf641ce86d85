"""Which version this is, as it was installed."""

from importlib.metadata import PackageNotFoundError, version

_PACKAGE = "bv-iot-control-hub"
NOT_INSTALLED = "not installed"
"""Run from its sources, without an installation that would know."""


def installed_version(package: str = _PACKAGE) -> str:
    """From the package's metadata."""
    try:
        return version(package)
    except PackageNotFoundError:
        return NOT_INSTALLED
