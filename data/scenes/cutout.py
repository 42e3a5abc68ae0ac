"""One rendered person, cut out: the record that the renderer writes and the compositor reads."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..annotation import KEYPOINT_NAMES, PART_NAMES

ATTRIBUTE_KEYS = (
    "gender", "age", "top", "top_colour", "top_pattern", "bottom", "bottom_colour", "hair", "hair_colour",
    "hat", "pose", "view",
)  # fmt: skip
"""What is told about a person. Every value is a word or two, '' where there is nothing to tell."""


ANY_ELEVATION = (-90.0, 90.0)
"""Degrees."""


@dataclass(frozen=True)
class Cutout:
    """A person without a background. Left and right are the person's own.

    Pixels are those of the cut-out; a continuous position (0.5, 0.5) is the middle of the top-left pixel.
    """

    image: np.ndarray
    """uint8 [h, w, 4], RGBA with straight (not premultiplied) alpha and a smooth edge."""
    parts: np.ndarray
    """uint8 [h, w], the class of `PART_NAMES` that is seen in each pixel; 0 outside the person."""
    keypoints: np.ndarray
    """float32 [17, 3]: x, y in continuous pixels; v is 2 seen, 1 hidden by the person's own body, 0 not
    there.
    """
    attributes: dict[str, str] = field(default_factory=dict)
    """The words of `ATTRIBUTE_KEYS`."""
    height_m: float = 1.7
    """Height in metres when standing upright."""
    stature_px: float = 300.0
    """How many pixels of this picture those metres cover at the person's distance, whatever the pose."""
    elevation: float = 0.0
    """Degrees by which the camera looked down on the middle of the person."""

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 4 or self.image.dtype != np.uint8:
            raise ValueError(
                f"A cut-out's image must be uint8 [h, w, 4], not {self.image.dtype} {self.image.shape}."
            )
        if self.parts.shape != self.image.shape[:2] or self.parts.dtype != np.uint8:
            raise ValueError("A cut-out's part map must be uint8 and as large as its image.")
        if self.parts.size and self.parts.max() >= len(PART_NAMES):
            raise ValueError(f"A cut-out's part map holds classes 0 to {len(PART_NAMES) - 1} only.")
        if self.keypoints.shape != (len(KEYPOINT_NAMES), 3):
            raise ValueError(f"A cut-out has {len(KEYPOINT_NAMES)} keypoints of x, y, v.")
