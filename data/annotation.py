"""What is known about one person of a picture, and what may be asked about one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in continuous pixels of the original picture."""

Points = tuple[tuple[float, float], ...]
"""Places x, y in continuous pixels of the original picture: one point, or a scribble's in the order of drawing."""

KEYPOINT_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
"""COCO order; left and right are the person's own."""

SKELETON = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
    (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
"""Pairs of keypoint indices (from 0) joined by a limb: the COCO person skeleton."""

PART_NAMES = (
    "background", "hat", "hair", "glove", "sunglasses", "upper-clothes", "dress", "coat", "socks", "pants",
    "torso-skin", "scarf", "skirt", "face", "left-arm", "right-arm", "left-leg", "right-leg", "left-shoe",
    "right-shoe",
)  # fmt: skip
"""The 20 classes of a part map, in the order of CIHP."""

MASK_NAMES = ("background", "person", "other people")
"""The classes of a three-way mask: of a region, or of a whole picture in which one person is meant."""
PERSON, OTHERS = 1, 2
"""Numbers of the classes of `MASK_NAMES` that are people."""

PART_COLOURS = (
    (0, 0, 0), (128, 0, 0), (255, 0, 0), (0, 85, 0), (170, 0, 51), (255, 85, 0), (0, 0, 85), (0, 119, 221),
    (85, 85, 0), (0, 85, 85), (85, 51, 0), (52, 86, 128), (0, 128, 0), (0, 0, 255), (51, 170, 221), (0, 255, 255),
    (85, 255, 170), (170, 255, 85), (255, 255, 0), (255, 170, 0),
)  # fmt: skip
"""The palette of CIHP, RGB."""

CODE_GRID = (8, 6)
"""Rows and columns of the code grid of a part map or a mask (row-major: 48 codes)."""


@dataclass(frozen=True)
class Question:
    """What identifies the person: words, a region (box in original pixels), or points on the person, never nothing; or
    that everybody is meant, and then nothing else."""

    size: tuple[int, int]
    """Width and height of the picture in pixels."""
    text: str | None = None
    region: Box | None = None
    points: tuple[Points, ...] = ()
    """Alternatives, each of which marks the person; evaluation asks with the first, training may draw any."""
    everybody: bool = False
    """All people of the picture are meant."""

    def __post_init__(self) -> None:
        particular = self.text is not None or self.region is not None or bool(self.points)
        if self.everybody and particular:
            raise ValueError("A question about everybody has no words, no region and no points.")
        if not self.everybody and not particular:
            raise ValueError("A question needs words, a region or points, or to be about everybody.")


@dataclass(frozen=True)
class Annotation:
    """The right answer of a question, for training and scoring. What is None is not known and not trained."""

    size: tuple[int, int]
    box: Box | None = None
    keypoints: np.ndarray | None = None
    """float (17, 3): x, y in original pixels, v in 0 (unlabelled), 1 (hidden), 2 (seen)."""
    codes: tuple[int, ...] | None = None
    """The part map as codes, row-major over `CODE_GRID`."""
    parts: np.ndarray | None = None
    """The part map itself, uint8 (H, W), for scoring."""
    captions: tuple[str, ...] = ()
    """One or more descriptions of the person; the first is the training target."""
    mask: np.ndarray | None = None
    """The person's visible pixels, bool (H, W); read only where it is asked for."""
    area: float | None = None
    """The person's segment area in square pixels of the original picture, by which OKS is measured."""
    others: np.ndarray | None = None
    """The visible pixels of everyone else in the picture, bool (H, W); read only where masks are."""
    people: tuple[Annotation, ...] | None = None
    """Everyone that is meant, where that is not exactly one person by words or region: nobody, several, or everybody,
    however many they are. The labels of a person above are None then. None: exactly one is meant, this one."""
