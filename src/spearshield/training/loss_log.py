"""The losses of every step of a training, on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spearshield.storage.atomic import write_atomically

LOSSES = "losses.jsonl"


class LossLog:
    """Writes the losses of each step to ``losses.jsonl`` and for TensorBoard.

    Args:
        folder: The training's folder; ``None``: nothing is written.
        done: Number of steps taken before. Lines of later steps, from a run that was killed after
            its last checkpoint, are removed.
    """

    def __init__(self, folder: Path | None, done: int) -> None:
        self.folder = folder
        self.done = done

    def __enter__(self) -> LossLog:
        if self.folder:
            from tensorboardX import SummaryWriter  # noqa: PLC0415 - slow to import

            path = self.folder / LOSSES
            kept = path.read_bytes().splitlines(keepends=True)[: self.done] if self.done else []
            write_atomically(path, b"".join(kept))
            self.lines = path.open("a", encoding="utf-8")
            self.board: Any = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.done)
        return self

    def __call__(self, step: int, losses: Mapping[str, float]) -> None:
        if self.folder:
            self.lines.write(json.dumps({"step": step, **losses}) + "\n")
            for name, value in losses.items():
                self.board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Write all lines to the file; must precede a checkpoint, which counts on them."""
        if self.folder:
            self.lines.flush()

    def __exit__(self, *_: object) -> None:
        if self.folder:
            self.lines.close()
            self.board.close()
