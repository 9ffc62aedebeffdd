"""Line charts as SVG, with round numbers on their axes."""

import math

from vgrpo.pages.page import shown

LEFT, BOTTOM, TOP, RIGHT = 56, 24, 10, 12  # pixels beside the lines
MOST_POINTS = 2000  # of a line; more would not be seen


def curve(title: str, values: list[float], width: int = 500, height: int = 190) -> str:
    """Values, at least one and all finite, in grey, and their moving average on top; from left to right iteration by
    iteration, the first being 1."""
    rows = ticks(min(values), max(values), 3)
    columns = [round(tick) for tick in ticks(1, max(2, len(values)), 5) if 1 <= tick <= len(values) and tick == round(tick)]
    low, span = rows[0], rows[-1] - rows[0]
    inner = height - BOTTOM - TOP
    step = (width - LEFT - RIGHT) / max(1, len(values) - 1)
    grid = "".join(
        f"<line x1={LEFT} x2={width - RIGHT} y1={y:.1f} y2={y:.1f} stroke='#e3e5ee'/>"
        f"<text x={LEFT - 6} y={y + 4:.1f} text-anchor=end>{text}</text>"
        for tick, text in zip(rows, labels(rows), strict=True)
        for y in (height - BOTTOM - (tick - low) / span * inner,)
    )
    grid += "".join(
        f"<line x1={x:.1f} x2={x:.1f} y1={height - BOTTOM} y2={height - BOTTOM + 4} stroke='#b9c0d6'/>"
        f"<text x={x:.1f} y={height - 6} text-anchor=middle>{tick}</text>"
        for tick in columns
        for x in (LEFT + (tick - 1) * step,)
    )
    grey, blue = (_points(series, low, span, step, height) for series in (values, _average(values)))
    return (
        f"<figure><figcaption>{shown(title)}</figcaption><svg width={width} height={height} font-size=11 fill='#667'>"
        f"{grid}<polyline points='{grey}' fill=none stroke='#b9c0d6' />"
        f"<polyline points='{blue}' fill=none stroke='#3355cc' stroke-width=2.2 /></svg></figure>"
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, from at most `low` to at least `high`, with at least `count` steps
    between. Where both are the same number, around it."""
    span = high - low
    if not span > 1e-9 * max(abs(low), abs(high)):  # the digits of a double do not tell them apart on an axis
        span = abs(high) or 1.0
        low, high = low - span / 2, high + span / 2
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(factor * power for factor in (5, 2, 1) if factor * power <= span / count * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def labels(marks: list[float]) -> list[str]:
    """Of at least two ticks, all with the same number of decimals: 0.040, 0.045; very large and very small ones as 2e-05."""
    step = marks[1] - marks[0]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if decimals > 4 or max(map(abs, marks)) >= 1e7:
        return [f"{mark:.6g}" for mark in marks]
    return [f"{mark:.{decimals}f}" for mark in marks]


def _points(values: list[float], low: float, span: float, step: float, height: int) -> str:
    inner = height - BOTTOM - TOP
    every = -(-len(values) // MOST_POINTS)
    places = list(enumerate(values))[::every]
    return " ".join(f"{LEFT + i * step:.1f},{height - BOTTOM - (v - low) / span * inner:.1f}" for i, v in places)


def _average(values: list[float]) -> list[float]:
    smooth, average = values[0], []
    for value in values:
        smooth = 0.85 * smooth + 0.15 * value
        average.append(smooth)
    return average
