"""A machine on which some packages are not installed."""

from collections.abc import Callable, Collection
from importlib.machinery import PathFinder


def hide(packages: Collection[str], setattr: Callable = setattr) -> None:
    """Lets nobody find these packages from now on; what was imported before stays.

    Args:
        packages: names of top-level modules.
        setattr: that of pytest's monkeypatch undoes it.
    """
    find_spec = PathFinder.find_spec

    def find_others(name, *place):
        return None if name.partition(".")[0] in packages else find_spec(name, *place)

    setattr(PathFinder, "find_spec", find_others)
