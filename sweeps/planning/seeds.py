"""The words of `--seeds`."""

from __future__ import annotations

from trainables import spec as specs
from trainables.errors import UsageError

MOST_SEEDS = 10_000


def parse_seeds(text: str | int | None, default: int) -> list[int]:
    """`5` means seeds 0 to 4; `100-104` and `0,3,7` are meant literally.

    Raises:
        UsageError: If it is neither.
    """
    if text is None:
        return list(range(default))
    words = str(text).strip()
    try:
        seeds = _listed(words)
    except UsageError:
        raise  # It is a ValueError, too.
    except ValueError:
        shown = f"{words[:40]}..." if len(words) > 40 else words
        raise UsageError(
            f"--seeds must be a number (5 means 0 to 4), a range (100-104) or a list (0,3,7), got '{shown}'."
        ) from None
    if not seeds or min(seeds) < 0 or max(seeds) >= specs.SEED_MARK:
        raise UsageError(f"--seeds must name at least one seed, each from 0 to {specs.SEED_MARK - 1}, got '{text}'.")
    if len(seeds) > MOST_SEEDS:
        raise UsageError(f"--seeds may name at most {MOST_SEEDS} seeds, got {len(seeds)}.")
    return sorted(set(seeds))


def _listed(words: str) -> list[int]:
    if words.isdigit():
        if int(words) > MOST_SEEDS:
            raise UsageError(f"--seeds may name at most {MOST_SEEDS} seeds, got {words}.")
        return list(range(int(words)))
    seeds: list[int] = []
    for part in words.split(","):
        low, dash, high = part.strip().partition("-")
        if dash and int(high) - int(low) >= MOST_SEEDS:
            raise UsageError(f"--seeds may name at most {MOST_SEEDS} seeds, got {part}.")
        seeds += range(int(low), int(high) + 1) if dash else [int(low)]
    return seeds
