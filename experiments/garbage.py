"""When Python looks for garbage: seldom while a command starts, as usual while it works."""

from __future__ import annotations

import atexit
import gc

USUALLY = gc.get_threshold()


def collect_rarely() -> None:
    """Look for garbage less often than Python does by itself, and not at the very end.

    Torch, Ray and MLflow make so many objects at import that looking at them again and again takes a fourth of their
    start, and the last look seconds.
    """
    gc.set_threshold(100_000, 50, 100)
    atexit.register(gc.freeze)


def collect_as_usual() -> None:
    """Look as often as Python does by itself from now on, though no more at what is there already.

    For what works for hours: each cell leaves a megabyte or two in reference cycles.
    """
    gc.freeze()
    gc.set_threshold(*USUALLY)
