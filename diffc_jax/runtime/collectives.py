"""What a compiled program sends between its devices, read from XLA's text of it."""

import dataclasses
import math
import re
from collections.abc import Iterator

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BITS = re.compile(r"[a-z]+(\d+)")

_COMPUTATION = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\{$")
_COLLECTIVE = re.compile(rf"= (.+?) ({'|'.join(_KINDS)})(?:-start)?\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_LOOP = re.compile(r" while\(.*body=%([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(r"(?:to_apply|calls|branch_computations)=\{?((?:%[\w.\-]+(?:, )?)+)")
_MESH_GROUPS = re.compile(r"replica_groups=mesh\[([^\]]*)\].*?\{([^}]*)\}")
_LISTED_GROUPS = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_IOTA_GROUPS = re.compile(r"replica_groups=\[(\d+),(\d+)\]")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One operation among devices, with everything that runs it in a step.

    Attributes:
        kind: as XLA calls it: "all-reduce", "all-gather", ...
        group: devices that take part in each.
        count: how many times a step runs it; XLA may have merged several arrays into one operation.
        size: bytes of the whole array (the sum, or what was gathered), of all runs together.
    """

    kind: str
    group: int
    count: int
    size: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends, with the bandwidth-optimal algorithm on a ring."""
        part = (self.group - 1) / self.group
        return self.size * {"all-reduce": 2.0 * part, "collective-permute": 1.0}.get(
            self.kind, part
        )


def read_collectives(text: str, devices: int) -> list[Collective]:
    """The collectives of a compiled program, those of one kind and group size together.

    `text` is what XLA says of one of its `devices`; loops are counted as often as they run.
    """
    computations = dict(_computations(text))
    found: dict[tuple[str, int], tuple[int, int]] = {}

    def visit(name: str, times: int) -> None:
        for line in computations.get(name, ()):
            if match := _COLLECTIVE.search(line):
                key = (match[2], _group(line, devices))
                size = _bytes(match[1]) * (key[1] if match[2] == "reduce-scatter" else 1)
                count, total = found.get(key, (0, 0))
                found[key] = (count + times, total + times * size)
            elif match := _LOOP.search(line):
                trips = _TRIPS.search(line)
                visit(match[1], times * (int(trips[1]) if trips else 1))
            elif match := _CALLED.search(line):
                for called in re.findall(r"%([\w.\-]+)", match[1]):
                    visit(called, times)

    visit("", 1)
    return [
        Collective(kind, group, *found[kind, group])
        for kind, group in sorted(found, key=lambda key: (_KINDS.index(key[0]), key[1]))
    ]


def _computations(text: str) -> Iterator[tuple[str, list[str]]]:
    """Names and lines of the computations; the name of the first to run is empty."""
    name: str | None = None
    lines: list[str] = []
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            name, lines = "" if match[1] else match[2], []
        elif line == "}" and name is not None:
            yield name, lines
            name = None
        else:
            lines.append(line)


def _bytes(types: str) -> int:
    def size(kind: str) -> int:
        match = _BITS.match(kind)
        return max(int(match[1]) // 8, 1) if match else 1  # "pred"

    return sum(
        math.prod(map(int, filter(None, shape.split(",")))) * size(kind)
        for kind, shape in _ARRAY.findall(types)
    )


def _group(line: str, devices: int) -> int:
    if match := _MESH_GROUPS.search(line):
        sizes = dict(re.findall(r"('\w+')=(\d+)", match[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'\w+'", match[2]))
    if match := _LISTED_GROUPS.search(line):
        return len(match[1].split(","))
    if match := _IOTA_GROUPS.search(line):
        return int(match[2])
    return devices
