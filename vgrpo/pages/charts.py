"""Line charts as SVG."""

from vgrpo.pages.page import shown

LEFT, BOTTOM, TOP, RIGHT = 52, 24, 10, 8  # pixels beside the lines
MOST_POINTS = 2000  # of a line; more would not be seen


def curve(title: str, values: list[float], width: int = 500, height: int = 190) -> str:
    """Values, at least one and all finite, in grey, and their moving average on top."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    inner = height - BOTTOM - TOP
    ticks = [(low + f * span, height - BOTTOM - f * inner) for f in (0.0, 0.5, 1.0)]
    labels = "".join(
        f"<text x={LEFT - 6} y={y + 4:.0f} text-anchor=end>{value:.3g}</text>"
        f"<line x1={LEFT} x2={width} y1={y:.0f} y2={y:.0f} stroke='#e3e5ee'/>"
        for value, y in ticks
    )
    grey, blue = (_points(series, low, span, width, height) for series in (values, _average(values)))
    return (
        f"<figure><figcaption>{shown(title)}</figcaption><svg width={width} height={height} font-size=11 fill='#667'>"
        f"{labels}<text x={width - RIGHT} y={height - 6} text-anchor=end>iteration {len(values)}</text>"
        f"<polyline points='{grey}' fill=none stroke='#b9c0d6' />"
        f"<polyline points='{blue}' fill=none stroke='#3355cc' stroke-width=2.2 /></svg></figure>"
    )


def _points(values: list[float], low: float, span: float, width: int, height: int) -> str:
    step = (width - LEFT - RIGHT) / max(1, len(values) - 1)
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
