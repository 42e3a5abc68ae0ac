"""Photographing one built person from a few sides: cameras, light, keypoint visibility, tight cut-outs."""

from __future__ import annotations

import numpy as np

from ..cutout import Cutout
from .body import Person
from .poses import unit
from .render import Camera, Light, Picture, Renderer, look_at

MARGIN = 3
"""Pixels kept free around a person in the renderer's frame."""
STATURE_PX = (260.0, 320.0)
"""The standing height of a person in pixels; a pose that is wider or higher than the frame is drawn smaller.
"""

ELEVATIONS = ((-4.0, 14.0), (14.0, 38.0), (38.0, 65.0))
ELEVATION_SHARES = (0.68, 0.2, 0.12)
"""Degrees between which cameras look down, and how often; more steeply, nobody's clothes are to be seen."""

THICKNESS = np.array(
    [0.04, 0.04, 0.04, 0.07, 0.07, 0.13, 0.13, 0.08, 0.08, 0.07, 0.07, 0.18, 0.18, 0.11, 0.11, 0.10, 0.10]
)
"""How far the visible surface may lie before a joint that counts as seen: half the body's depth there, in
metres of a person 1.7 m tall, clothes and hair included. COCO order; measured on the rest body."""

OWN_GROUPS = (
    *[(0,)] * 5, (1, 2), (1, 3), (2,), (3,), (2,), (3,), (1, 4), (1, 5), (4,), (5,), (4,), (5,),
)  # fmt: skip
"""The groups (`model.GROUPS`) a joint belongs to: it is hidden when another group is seen in its place."""


def view_word(yaw: float) -> str:
    """The side that faces the camera; yaw in degrees, 0 before the person, 90 at the person's left."""
    turn = (yaw + 180) % 360 - 180
    if abs(turn) <= 50:
        return "front"
    if abs(turn) >= 130:
        return "back"
    return "left side" if turn > 0 else "right side"


def sample_yaws(count: int, rng: np.random.Generator) -> list[float]:
    """Camera directions in degrees: mostly the front half, then the back, then the sides; all differ."""
    yaws: list[float] = []
    while len(yaws) < count:
        kind = rng.random()
        yaw = (
            rng.normal(0, 28)
            if kind < 0.58
            else rng.normal(180, 28)
            if kind < 0.80
            else rng.uniform(-180, 180)
        )
        if all(abs((yaw - other + 180) % 360 - 180) > 20 for other in yaws):
            yaws.append(float(yaw))
    return yaws


def sample_elevation(rng: np.random.Generator) -> float:
    """By how many degrees a camera looks down on a person: from before the chest, from a stair, from a window."""
    low, high = ELEVATIONS[int(rng.choice(len(ELEVATIONS), p=ELEVATION_SHARES))]
    return float(rng.uniform(low, high))


def frame_person(person: Person, yaw: float, rng: np.random.Generator, size: int) -> Camera:
    """A camera around a person, its picture tight around it and at most `size` pixels wide and high."""
    points = np.concatenate([s.positions[np.unique(s.faces)] for s in person.surfaces])
    middle = (points.min(0) + points.max(0)) / 2
    elevation = sample_elevation(rng)
    distance = float(np.exp(rng.uniform(np.log(2.2), np.log(10)))) + 0.4
    a, e = np.radians(yaw), np.radians(elevation)
    eye = middle + distance * np.array([np.sin(a) * np.cos(e), -np.cos(a) * np.cos(e), np.sin(e)])
    view = look_at(eye, middle)
    unscaled = Camera(view, 1.0, (0.0, 0.0), (1, 1))
    flat = unscaled.project(points)
    low, high = flat.min(0), flat.max(0)
    hips = -unscaled.in_camera(person.keypoints[[11, 12]])[:, 2].mean()
    focal = rng.uniform(*STATURE_PX) * hips / person.height
    focal = min(focal, (size - 2 * MARGIN - 1) / (high - low).max())
    width, height = (int(np.ceil(side)) + 2 * MARGIN for side in focal * (high - low))
    left, top = MARGIN - focal * low
    return Camera(view, float(focal), (float(left), float(top)), (min(width, size), min(height, size)))


def sample_light(yaw: float, rng: np.random.Generator) -> Light:
    """Daylight or lamp light, warm to cool, mostly from the camera's side; bright enough to name colours."""
    a = np.radians(yaw + rng.uniform(-110, 110))
    up = np.radians(rng.uniform(20, 70))
    to_sun = np.array([np.sin(a) * np.cos(up), -np.cos(a) * np.cos(up), np.sin(up)])
    warmth = rng.uniform(-0.07, 0.10)
    warm, cool = np.array([1 + warmth, 1, 1 - warmth]), np.array([1 - warmth / 2, 1, 1 + warmth / 2])
    share = rng.uniform(0.25, 0.7)  # of the sun in all light: overcast to clear
    level = rng.uniform(0.85, 1.2)
    sky = level * (1.05 - 0.75 * share) * cool
    return Light(
        to_sun, level * 1.35 * share * warm, sky, sky * rng.uniform(0.45, 0.75) * np.array([1.03, 1, 0.96])
    )


def joints_seen(person: Person, camera: Camera, picture: Picture) -> np.ndarray:
    """float32 [17, 3]: pixels of the picture, and 2 for a joint whose own body part is seen before it, else
    1.
    """
    xy, depth = camera.project(person.keypoints), -camera.in_camera(person.keypoints)[:, 2]
    width, height = camera.size
    columns = np.clip(np.floor(xy[:, 0]).astype(int), 0, width - 1)
    rows = np.clip(np.floor(xy[:, 1]).astype(int), 0, height - 1)
    groups = picture.groups[rows, columns]
    slanting = max(abs(np.cos(np.radians(_elevation(camera)))), 0.5)  # a way through upright limbs is longer from above
    near = depth - picture.depth[rows, columns] < THICKNESS * person.height / 1.7 / slanting
    own = np.array([group in allowed for group, allowed in zip(groups, OWN_GROUPS, strict=True)])
    # Thin parts such as ears may miss the pixel under them: then the joint lies free, nothing hides it.
    seen = (near & own) | (groups == 255)
    return np.column_stack([xy, np.where(seen, 2, 1)]).astype(np.float32)


def portraits(
    renderer: Renderer, person: Person, views: int, rng: np.random.Generator
) -> list[tuple[Cutout, dict]]:
    """Cut-outs of one person from several sides, each with the camera and light it was taken with (plain
    numbers).
    """
    renderer.load(person)
    answer = []
    for yaw in sample_yaws(views, rng):
        camera = frame_person(person, yaw, rng, renderer.size)
        light = sample_light(yaw, rng)
        picture = renderer.render(camera, light)
        answer.append((_cut(person, camera, picture, view_word(yaw)), _notes(person, yaw, camera, light)))
    return answer


def _cut(person: Person, camera: Camera, picture: Picture, view: str) -> Cutout:
    """The tight crop of a picture."""
    rows, columns = (np.flatnonzero((picture.image[..., 3] > 0).any(axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    keypoints = joints_seen(person, camera, picture)
    keypoints[:, :2] -= (left, top)
    hips = -camera.in_camera(person.keypoints[[11, 12]])[:, 2].mean()
    return Cutout(
        np.ascontiguousarray(picture.image[top:bottom, left:right]),
        np.ascontiguousarray(picture.parts[top:bottom, left:right]), keypoints,
        person.look.attributes() | {"view": view}, person.height, float(camera.focal * person.height / hips),
        _elevation(camera),
    )  # fmt: skip


def _elevation(camera: Camera) -> float:
    """By how many degrees it looks down."""
    return float(np.degrees(np.arcsin(camera.view[2, 2])))


def _notes(person: Person, yaw: float, camera: Camera, light: Light) -> dict[str, float]:
    """What a compositor may want to match: angles in degrees (sun relative to the camera), distance in
    metres.
    """
    eye = -camera.view[:3, :3].T @ camera.view[:3, 3]
    sun = unit(light.to_sun)
    return {
        "yaw": round(yaw, 1),
        "distance": round(float(np.linalg.norm(eye - person.keypoints[[11, 12]].mean(0))), 2),
        "sun_yaw": round(float((np.degrees(np.arctan2(sun[0], -sun[1])) - yaw + 180) % 360 - 180), 1),
        "sun_elevation": round(float(np.degrees(np.arcsin(sun[2]))), 1),
    }
