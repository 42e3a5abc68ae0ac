"""The jointed figure behind the drawn people: proportions, poses, and where every joint is.

Frame of a figure: x to the person's own left, y up, z forward (right-handed), in units of the standing
height, feet at y = 0 when standing. All ranges are our own choice, made to look natural rather than
measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

POSES = (
    "standing",
    "walking",
    "running",
    "sitting",
    "kneeling",
    "waving",
    "arms raised",
    "arms crossed",
    "hands on hips",
    "leaning",
)
_POSE_SHARE = (0.22, 0.16, 0.08, 0.12, 0.06, 0.08, 0.08, 0.07, 0.08, 0.05)
VIEWS = ("front", "back", "left side", "right side")
_VIEW_YAW = {"front": 0.0, "back": 180.0, "left side": -90.0, "right side": 90.0}  # turn that shows that side
LEFT, RIGHT = 1, -1

Joints = dict[str, np.ndarray]


@dataclass(frozen=True)
class Build:
    """Proportions as fractions of the standing height; `girth` scales every thickness."""

    head: float = 0.13
    hip: float = 0.53
    shoulder_half: float = 0.11
    girth: float = 1.0


def sample_build(rng: np.random.Generator, gender: str, age: str) -> tuple[Build, float]:
    """Proportions and standing height in metres of somebody of this gender and age."""
    if age == "child":
        size = rng.uniform(0, 1)  # 0: about five years old, 1: about twelve
        build = Build(0.185 - 0.035 * size, 0.47 + 0.04 * size, 0.098, rng.uniform(0.85, 1.0))
        return build, float(1.1 + 0.4 * size + rng.uniform(-0.04, 0.04))
    wide = {"young": 0.98, "middle-aged": 1.14, "old": 1.08}[age]
    girth = wide * rng.uniform(0.92, 1.08)
    if gender == "man":
        return Build(0.132, 0.525, 0.118, girth), float(rng.normal(1.77, 0.06))
    return Build(0.133, 0.53, 0.1, girth * 0.9), float(rng.normal(1.65, 0.055))


def sample_pose(rng: np.random.Generator) -> str:
    """One of POSES; standing and walking most often."""
    return str(rng.choice(POSES, p=_POSE_SHARE))


def sample_view(rng: np.random.Generator) -> str:
    """One of VIEWS; people mostly look at the camera."""
    return str(rng.choice(VIEWS, p=(0.58, 0.12, 0.15, 0.15)))


def view_turn(rng: np.random.Generator, view: str) -> float:
    """Turn about the vertical axis in radians for a view, at most 32 degrees off its middle."""
    return float(np.deg2rad(_VIEW_YAW[view] + rng.uniform(-32, 32)))


def turn(points: np.ndarray, yaw: float) -> np.ndarray:
    """Figure frame -> camera frame [..., 3]: x to the right of the picture, y up, z towards the camera."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    c, s = np.cos(yaw), np.sin(yaw)
    return np.stack([x * c + z * s, y, z * c - x * s], -1)


def _hang(forward: float, outward: float, side: int) -> np.ndarray:
    """Unit direction of a limb that hangs down, swung forward and outward by these degrees."""
    f, o = np.deg2rad(forward), np.deg2rad(outward)
    return np.array([side * np.sin(o), -np.cos(o) * np.cos(f), np.cos(o) * np.sin(f)])


def _unit(*v: float) -> np.ndarray:
    vector = np.asarray(v, float)
    return vector / np.linalg.norm(vector)


def _relaxed_arm(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    out = rng.uniform(5, 14)
    return _hang(rng.uniform(-10, 8), out, side), _hang(rng.uniform(4, 26), out - rng.uniform(0, 10), side)


def _arms(rng: np.random.Generator, pose: str, lead: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Directions of upper arm and forearm per side. `lead` is the side of the front leg, or of the waving
    arm."""
    arms = {side: _relaxed_arm(rng, side) for side in (LEFT, RIGHT)}
    for side in (LEFT, RIGHT):
        if pose in ("walking", "running"):
            swing = (1 if side != lead else -1) * (
                rng.uniform(15, 28) if pose == "walking" else rng.uniform(28, 48)
            )
            bend = rng.uniform(8, 22) if pose == "walking" else rng.uniform(70, 95)
            arms[side] = _hang(swing, 6, side), _hang(swing + bend, 2, side)
        elif pose == "sitting":
            arms[side] = (
                _hang(rng.uniform(12, 28), 10, side),
                _hang(rng.uniform(50, 72), rng.uniform(-10, 4), side),
            )
        elif pose == "arms raised":
            out = rng.uniform(138, 165)
            arms[side] = _hang(8, out, side), _hang(6, out + rng.uniform(-10, 18), side)
        elif pose == "arms crossed":
            arms[side] = _hang(16, 8, side), _unit(-side * 0.85, 0.12 + 0.12 * (side == lead), 0.42)
        elif pose == "hands on hips":
            arms[side] = _hang(-14, rng.uniform(40, 50), side), _unit(-side * 0.78, -0.6, 0.34)
    if pose == "waving":
        arms[lead] = _hang(15, rng.uniform(95, 135), lead), _hang(10, rng.uniform(158, 190), lead)
    return arms


def _legs(rng: np.random.Generator, pose: str, lead: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Directions of thigh and shin per side."""
    spread = rng.uniform(2, 8)
    legs = {
        side: (_hang(rng.uniform(-2, 5), spread, side), _hang(rng.uniform(-5, 0), spread - 1, side))
        for side in (LEFT, RIGHT)
    }
    if pose == "walking":
        step = rng.uniform(16, 28)
        legs[lead] = _hang(step, 2, lead), _hang(step - rng.uniform(6, 14), 1, lead)
        legs[-lead] = _hang(-step * 0.7, 2, -lead), _hang(-step * 1.4 - 8, 1, -lead)
    elif pose == "running":
        legs[lead] = _hang(rng.uniform(45, 68), 3, lead), _hang(rng.uniform(-35, -5), 2, lead)
        legs[-lead] = _hang(rng.uniform(-28, -10), 2, -lead), _hang(rng.uniform(-105, -70), 2, -lead)
    elif pose == "sitting":
        for side in (LEFT, RIGHT):
            legs[side] = (
                _hang(rng.uniform(76, 88), rng.uniform(5, 16), side),
                _hang(rng.uniform(-12, 12), 3, side),
            )
    elif pose == "kneeling":
        legs[-lead] = _hang(rng.uniform(-6, 4), 5, -lead), _hang(rng.uniform(-92, -84), 2, -lead)
        upright = rng.random() < 0.7
        legs[lead] = (
            (_hang(rng.uniform(80, 90), 8, lead), _hang(0, 3, lead))
            if upright
            else (_hang(rng.uniform(-6, 4), 5, lead), _hang(rng.uniform(-92, -84), 2, lead))
        )
    elif pose == "leaning":
        legs[lead] = _hang(2, 12, lead), _hang(-3, 10, lead)
    return legs


def joints(rng: np.random.Generator, build: Build, pose: str) -> Joints:
    """Named joints [3] of one person in `pose`, in the figure frame; the lowest foot or knee stands at y =
    0."""
    lead = LEFT if rng.random() < 0.5 else RIGHT
    lean = {"leaning": -lead * rng.uniform(9, 15)}.get(pose, rng.uniform(-2, 2))
    stoop = {"running": rng.uniform(6, 16), "walking": rng.uniform(0, 5)}.get(pose, rng.uniform(-3, 4))
    up = -_hang(-stoop, lean, LEFT)
    thigh = (build.hip - 0.04) / 2
    chest = 1 - build.head - 0.05 - build.hip
    j: Joints = {"pelvis": np.zeros(3), "chest": up * chest, "up": up}
    j["neck"] = up * (chest + 0.03)
    j["head"] = up * (chest + 0.05 + build.head / 2)
    arms, legs = _arms(rng, pose, lead), _legs(rng, pose, lead)
    for side, name in ((LEFT, "left"), (RIGHT, "right")):
        shoulder = j["chest"] + np.array([side * build.shoulder_half, -0.005, 0])
        hip = np.array([side * 0.052, 0, 0])
        upper, fore = arms[side]
        j[f"{name}_shoulder"], j[f"{name}_hip"] = shoulder, hip
        j[f"{name}_elbow"] = shoulder + upper * 0.17
        j[f"{name}_wrist"] = j[f"{name}_elbow"] + fore * 0.145
        j[f"{name}_hand"] = j[f"{name}_wrist"] + fore * 0.05
        j[f"{name}_knee"] = hip + legs[side][0] * thigh
        j[f"{name}_ankle"] = j[f"{name}_knee"] + legs[side][1] * thigh
        shin = legs[side][1]
        toe = (
            np.array([side * 0.02, -0.028, 0.085])
            if shin[1] < -0.6
            else shin * 0.05 + np.array([0, -0.05, 0])
        )
        j[f"{name}_toe"] = j[f"{name}_ankle"] + toe
    floor = min(
        min(j[f"{n}_ankle"][1] - 0.04, j[f"{n}_toe"][1] - 0.012, j[f"{n}_knee"][1] - 0.04)
        for n in ("left", "right")
    )
    for name in j:
        if name != "up":
            j[name] = j[name] - np.array([0, floor, 0])
    return j
