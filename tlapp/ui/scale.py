"""The scale of a plot: where a value lies on it, and which round numbers stand beside it."""

from math import ceil, floor


def share(value: float, low: float, high: float) -> float:
    """Where a value lies from low to high, in per cent."""
    return round(100 * (value - low) / ((high - low) or 1), 2)


def ticks_of(low: float, high: float, least: float) -> list[float]:
    """Round numbers that span low to high, `least` apart at least."""
    low, high = min(low, max(0, high - least)), max(high, least)  # a flat line is not magnified
    step = next(m * 10.0**k for k in range(-3, 99) for m in (1, 2, 5) if 4 * m * 10.0**k >= 0.999 * (high - low))
    return [i * step for i in range(floor(round(low / step, 6)), ceil(round(high / step, 6)) + 1)]
