"""From which number on something is a sign of illness, for what a run says of itself and for what a page says of it later."""

SPIKE = 10.0
"""Times the median of the gradient's norm."""
COLLAPSED = 0.8
"""Share of groups whose images all earned the same."""
FIRST_RATIO = 0.02
"""Of the first ratio from 1: rounding of a network in bf16 stays below it."""
