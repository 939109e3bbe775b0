"""All doors."""

from __future__ import annotations

from fuzz import api_doors, image_doors, saved_doors, word_doors

DOORS = (*image_doors.DOORS, *saved_doors.DOORS, *word_doors.DOORS, *api_doors.DOORS)
