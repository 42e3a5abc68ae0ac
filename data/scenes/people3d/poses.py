"""Poses sampled from joint ranges. Everything is in the frame of the resting body: +x its left, -y its front,
+z up.

A limb is asked for as two directions, upper and lower segment. They fix the rotation of the upper bone up to
the twist about itself; the twist follows from the hinge: elbow and knee bend about one axis only. Bone
rotations are relative to the parent bone and given in the axes of the rest pose. All angles are degrees, all
lengths metres of a body 1.75 m tall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Vector = Sequence[float] | np.ndarray
"""Three numbers."""

POSES = {
    "standing": 0.22, "walking": 0.15, "running": 0.08, "sitting": 0.11, "kneeling": 0.06, "crouching": 0.03,
    "waving": 0.08, "arms raised": 0.07, "arms crossed": 0.05, "hands on hips": 0.06, "leaning": 0.05,
    "pointing": 0.04,
}  # fmt: skip
"""What a person may do, and how often."""
SIDES = (".L", ".R")
OUTWARD = {".L": 1.0, ".R": -1.0}
ARM = ("upperarm01", "upperarm02", "lowerarm01", "wrist")
LEG = ("upperleg01", "upperleg02", "lowerleg01", "foot")


def unit(vector: Vector) -> np.ndarray:
    """The vector with length one."""
    vector = np.asarray(vector, float)
    return vector / (np.linalg.norm(vector) + 1e-12)


def rotation(axis: Vector, degrees: float) -> np.ndarray:
    """[3, 3] right-handed turn about an axis (Rodrigues' formula)."""
    k, a = unit(axis), np.radians(degrees)
    cross = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    return np.eye(3) + np.sin(a) * cross + (1 - np.cos(a)) * (cross @ cross)


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees between two unit vectors."""
    return float(np.degrees(np.arccos(np.clip(np.dot(a, b), -1, 1))))


def _across(vector: Vector, axis: np.ndarray) -> np.ndarray:
    """The part of a vector that is perpendicular to a unit axis, with length one."""
    vector = np.asarray(vector, float)
    return unit(vector - np.dot(vector, axis) * axis)


def _turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes unit vector a to b."""
    axis = np.cross(a, b)
    return rotation(axis, angle_between(a, b)) if np.linalg.norm(axis) > 1e-6 else np.eye(3)


@dataclass
class Pose:
    """Rotations under construction. `rest` maps a bone to its head in the resting body (scaled to 1.75 m)."""

    rest: dict[str, np.ndarray]
    rng: np.random.Generator
    bones: dict[str, np.ndarray] = field(default_factory=dict)
    """[3, 3] per turned bone."""
    tilt: np.ndarray = field(default_factory=lambda: np.eye(3))
    """Rotation of the whole body."""

    def u(self, low: float, high: float) -> float:
        """A uniform number."""
        return float(self.rng.uniform(low, high))

    def limb(
        self, chain: tuple[str, ...], side: str, upper: Vector, lower: Vector, hinge: np.ndarray
    ) -> None:
        """Point a two-segment limb; `hinge` is the bending axis to use when the limb is nearly straight."""
        first, twist, second, end = (bone + side for bone in chain)
        rest_upper = unit(self.rest[second] - self.rest[first])
        rest_lower = unit(self.rest[end] - self.rest[second])
        rest_hinge = unit(np.cross(rest_upper, rest_lower))
        upper, lower = unit(upper), unit(lower)
        wanted = np.cross(upper, lower)
        wanted = unit(wanted) if np.linalg.norm(wanted) > 0.1 else _across(hinge, upper)
        swing = _turn(rest_upper, upper)
        before = swing @ rest_hinge  # where the hinge lands without twist
        degrees = np.degrees(np.arctan2(np.dot(np.cross(before, wanted), upper), np.dot(before, wanted)))
        half = rotation(rest_upper, degrees / 2)  # half of the twist each: the skin creases less
        self.bones[first], self.bones[twist] = swing @ half, half
        bend = angle_between(upper, lower) - angle_between(rest_upper, rest_lower)
        self.bones[second] = rotation(rest_hinge, bend)

    def arm(self, side: str, upper: Vector, lower: Vector) -> None:
        """Point an arm: directions of upper arm and forearm."""
        self.limb(ARM, side, upper, lower, np.array([-OUTWARD[side], 0.15, 0.0]))

    def hand_to(self, side: str, target: Vector, elbow: Vector) -> None:
        """Bring the wrist to a point as far as the arm reaches, the elbow bent towards direction `elbow`."""
        shoulder, joint, wrist = (self.rest[bone + side] for bone in (ARM[0], ARM[2], ARM[3]))
        a, b = np.linalg.norm(joint - shoulder), np.linalg.norm(wrist - joint)
        way = np.asarray(target, float) - shoulder
        reach = float(np.clip(np.linalg.norm(way), abs(a - b) + 0.01, 0.998 * (a + b)))
        way = unit(way)
        cosine = (a * a + reach * reach - b * b) / (2 * a * reach)  # law of cosines at the shoulder
        upper = cosine * way + np.sqrt(max(0.0, 1 - cosine * cosine)) * _across(elbow, way)
        self.arm(side, upper, reach * way - a * upper)

    def hang(self, side: str, forward: float = 0.0, bend: float = 15.0, out: float | None = None) -> None:
        """Arm down: swung forward by degrees, elbow bent by degrees, sideways slope `out`."""
        out = self.u(0.14, 0.32) if out is None else out
        a, b, x = np.radians(forward), np.radians(forward + bend), OUTWARD[side] * out
        self.arm(side, (x, -np.sin(a), -np.cos(a)), (0.4 * x, -np.sin(b), -np.cos(b)))

    def leg(self, side: str, forward: float, knee: float, out: float = 0.08) -> None:
        """Thigh forward of vertical and knee flexion in degrees, sideways slope `out`."""
        a, b, x = np.radians(forward), np.radians(forward - knee), OUTWARD[side] * out
        hinge = np.array([1.0, 0, 0])
        self.limb(LEG, side, (x, -np.sin(a), -np.cos(a)), (0.5 * x, -np.sin(b), -np.cos(b)), hinge)

    def spine(self, bend: float = 0.0, side: float = 0.0, twist: float = 0.0) -> None:
        """Bend forward, lean to the left (+) and turn the trunk, spread over five vertebrae."""
        step = rotation((1, 0, 0), bend / 5) @ rotation((0, 1, 0), side / 5) @ rotation((0, 0, 1), twist / 5)
        self.bones.update({f"spine0{i}": step for i in range(1, 6)})

    def curl(self, side: str, degrees: float) -> None:
        """Bend the four fingers at each joint about the line of the knuckles, the thumb a little."""
        knuckles = OUTWARD[side] * unit(self.rest["finger5-1" + side] - self.rest["finger2-1" + side])
        for finger in range(1, 6):
            for joint in range(1, 4):
                share = 0.35 if finger == 1 else 1.0
                self.bones[f"finger{finger}-{joint}{side}"] = rotation(knuckles, share * degrees)

    def hip(self, side: str, out: float, front: float, up: float) -> np.ndarray:
        """A point near the hip joint: metres outward, to the front, upward."""
        return self.rest["upperleg01" + side] + np.array([OUTWARD[side] * out, -front, up])


def _gesture(pose: Pose, side: str) -> None:
    """One arm does something of its own: hang, carry, touch the head, rest on the hip, reach."""
    u, x = pose.u, OUTWARD[side]
    pick = pose.rng.random()
    if pick < 0.50:
        pose.hang(side, u(-14, 16), u(5, 40))
    elif pick < 0.66:  # carrying or holding something before the body
        pose.hang(side, u(0, 30), u(60, 105), u(0.05, 0.3))
    elif pick < 0.74:  # at the phone, scratching, shading the eyes
        pose.hand_to(
            side,
            pose.rest["head"] + np.array([x * u(0.07, 0.13), -u(0.04, 0.16), u(0.02, 0.12)]),
            (x, -u(0.1, 0.8), -1),
        )
    elif pick < 0.84:
        pose.hand_to(side, pose.hip(side, 0.09, u(0.02, 0.09), u(0.10, 0.15)), (x, u(0.1, 0.5), -0.3))
    elif pick < 0.92:  # stretched out sideways or forward below the shoulder
        pose.arm(
            side, (x * u(0.3, 1), -u(0, 0.9), -u(0.1, 0.7)), (x * u(0.2, 0.8), -u(0.1, 0.9), u(-0.5, 0.3))
        )
    else:  # behind the back
        pose.hand_to(side, pose.hip(side, -u(0, 0.08), -u(0.12, 0.16), u(0.05, 0.15)), (x, 0.5, 0))


def _legs(pose: Pose, lead: str, trail: str, word: str) -> None:
    """Legs (and the tilt of the whole body) for a word."""
    u = pose.u
    if word == "walking":
        step = u(16, 30)
        pose.leg(lead, step, u(3, 16), u(0.02, 0.1))
        pose.leg(trail, -step * u(0.5, 0.9), u(8, 32), u(0.02, 0.1))
    elif word == "running":
        pose.leg(lead, u(40, 78), u(50, 108), u(0.02, 0.1))
        pose.leg(trail, -u(8, 28), u(25, 90), u(0.02, 0.1))
        pose.tilt = rotation((1, 0, 0), u(5, 16))
    elif word == "sitting":
        _sit(pose)
    elif word == "kneeling" and u(0, 1) < 0.55:
        pose.leg(lead, u(80, 96), u(82, 100), u(0.05, 0.2))
        pose.leg(trail, -u(2, 12), u(82, 96))
        pose.bones["foot" + trail] = rotation((1, 0, 0), u(20, 40))
    elif word == "kneeling":
        for side in SIDES:
            pose.leg(side, u(2, 12), u(90, 106), u(0.05, 0.2))
            pose.bones["foot" + side] = rotation((1, 0, 0), u(25, 45))
    elif word == "crouching":
        deep = u(0, 20)
        for side in SIDES:
            pose.leg(side, 95 + deep + u(-5, 5), 118 + deep + u(-6, 6), u(0.15, 0.45))
            pose.bones["foot" + side] = rotation((1, 0, 0), -u(4, 16))
        pose.tilt = rotation((1, 0, 0), u(4, 14))
    elif word == "leaning":
        bow = u(22, 45)
        pose.tilt = rotation((1, 0, 0), bow)
        for side in SIDES:  # the legs stay about upright under the tilted trunk
            pose.leg(side, bow + u(2, 14), u(4, 16), u(0.08, 0.22))
    else:
        stance = u(0.03, 0.16) if u(0, 1) < 0.8 else u(0.16, 0.40)
        for side in SIDES:
            pose.leg(side, u(-5, 10), u(1, 14), stance + u(-0.03, 0.03))


def _sit(pose: Pose) -> None:
    """On a seat or on the ground."""
    u = pose.u
    if u(0, 1) < 0.55:
        for side in SIDES:
            pose.leg(side, u(78, 92), u(66, 100), u(0.08, 0.38))
        return
    knees = u(5, 100)
    for side in SIDES:
        bent = float(np.clip(knees + u(-14, 14), 2, 110))
        pose.leg(side, 90 + 0.42 * bent + u(-2, 2), bent, u(0.1, 0.4))
    pose.tilt = rotation((1, 0, 0), -u(2, 14))


def _arms(pose: Pose, lead: str, trail: str, word: str) -> None:
    """Arms for a word; each side is drawn on its own."""
    u, out = pose.u, OUTWARD
    for side in SIDES:
        _gesture(pose, side)
    if word == "walking" and u(0, 1) < 0.75:
        pose.hang(lead, -u(8, 32), u(6, 28))
        pose.hang(trail, u(10, 36), u(12, 50))
    elif word == "running":
        pose.hang(lead, -u(30, 58), u(70, 108))
        pose.hang(trail, u(12, 48), u(75, 115))
    elif word == "arms raised":
        for side in SIDES:
            pose.arm(
                side, (out[side] * u(0.15, 1.0), -u(-0.1, 0.35), 1), (out[side] * u(-0.4, 0.9), -u(0, 0.3), 1)
            )
            pose.bones["clavicle" + side] = rotation((0, out[side], 0), -u(8, 18))
    elif word == "waving":
        pose.arm(
            lead,
            (out[lead] * u(0.7, 1.2), -u(0, 0.5), u(0, 0.8)),
            (out[lead] * u(-0.4, 0.6), -u(0.1, 0.5), 1),
        )
        pose.bones["clavicle" + lead] = rotation((0, out[lead], 0), -u(3, 12))
        pose.hang(trail, u(-12, 16), u(5, 45))
    elif word == "pointing":
        way = np.array([out[lead] * u(-0.1, 1.0), -u(0.3, 1.0), u(-0.15, 0.35)])
        pose.arm(lead, way, way + np.array([0, 0, u(-0.1, 0.15)]))
        pose.hang(trail, u(-12, 16), u(5, 45))
    elif word == "hands on hips":
        for side in SIDES:
            pose.hand_to(
                side, pose.hip(side, 0.09, u(0.02, 0.09), u(0.10, 0.15)), (out[side], u(0.1, 0.5), -0.3)
            )
            pose.bones["wrist" + side] = rotation((0, 0, 1), out[side] * u(10, 30))
    elif word == "arms crossed":
        chest = (pose.rest["upperarm01.L"] + pose.rest["upperarm01.R"]) / 2
        for side, front, low in ((lead, 0.235, 0.0), (trail, 0.19, 0.055)):
            target = chest + np.array([-out[side] * u(0.05, 0.09), -front, -low - u(0.20, 0.23)])
            pose.hand_to(side, target, (out[side], -0.25, -1))
    elif word in ("sitting", "kneeling", "crouching"):
        for side in SIDES:
            if u(0, 1) < 0.6:  # hands on the thighs
                pose.hand_to(side, pose.hip(side, 0.07, u(0.2, 0.34), u(0.15, 0.19)), (out[side], 0.6, -0.4))
    elif word == "leaning":
        for side in SIDES:
            if u(0, 1) < 0.7:  # hands towards the knees
                pose.hand_to(side, pose.hip(side, 0.06, u(0.25, 0.3), -0.15), (out[side], -0.1, 0))


def sample_pose(word: str, rest: dict[str, np.ndarray], rng: np.random.Generator) -> Pose:
    """A pose for one of `POSES`. rest: bone -> head position [3] in the resting body, scaled to 1.75 m."""
    pose = Pose(rest, rng)
    u = pose.u
    lead, trail = rng.permutation(SIDES).tolist()
    _legs(pose, lead, trail, word)
    _arms(pose, lead, trail, word)
    for side in SIDES:
        pose.curl(side, u(2, 12) if word in ("waving", "arms raised") else u(8, 45))
    bend = (
        u(8, 20)
        if word == "leaning"
        else u(-4, 16)
        if word in ("sitting", "kneeling", "crouching")
        else u(-5, 7)
    )
    pose.spine(bend, u(-5, 5), u(-10, 10))
    raise_head = u(8, 25) if word == "leaning" else 0
    pose.bones["neck01"] = rotation((1, 0, 0), u(-6, 8) - raise_head) @ rotation((0, 0, 1), u(-16, 16))
    pose.bones["head"] = (
        rotation((1, 0, 0), u(-9, 12)) @ rotation((0, 1, 0), u(-7, 7)) @ rotation((0, 0, 1), u(-24, 24))
    )
    return pose
