"""All doors, each with a valid input and the inputs that once failed."""

from __future__ import annotations

from dataclasses import replace

import fuzz
from fuzz import api_doors, argument_doors, image_doors, run_doors, saved_doors, word_doors
from fuzz.known import GOOD, KNOWN

_ALL = (
    *image_doors.DOORS,
    *saved_doors.DOORS,
    *word_doors.DOORS,
    *api_doors.DOORS,
    *argument_doors.DOORS,
    *run_doors.DOORS,
)
DOORS = tuple(replace(door, examples=(GOOD[door.name], *KNOWN.get(door.name, ()))) for door in _ALL)
assert tuple(door.name for door in DOORS) == fuzz.DOORS
assert KNOWN.keys() <= set(fuzz.DOORS)
