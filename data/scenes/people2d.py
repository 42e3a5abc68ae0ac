"""Quick people: thick limbs on a jointed figure, drawn with Pillow in a few milliseconds, with exact labels.

Every shape is drawn twice, into the picture and into a map of shape numbers; that map gives the part
classes and says which shape lies over a joint. A joint is seen when nothing of the own body lies further in
front of it than the body is thick.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..annotation import KEYPOINT_NAMES, PART_NAMES
from .cutout import ANY_ELEVATION, Cutout
from .figure2d import Build, Joints, joints, sample_build, sample_pose, sample_view, turn, view_turn
from .shapes2d import CIRCLE, RGB, Drawing, dimmed, hull
from .splits import outfit_split
from .wardrobe2d import COLOURS, HAIR_COLOURS, SKINS, sample_clothes, shade

HAT, HAIR, UPPER, DRESS, COAT, PANTS, TORSO, SKIRT, FACE = map(
    PART_NAMES.index,
    ("hat", "hair", "upper-clothes", "dress", "coat", "pants", "torso-skin", "skirt", "face"),
)
ARM, LEG, SHOE = (
    {side: PART_NAMES.index(f"{side}-{limb}") for side in ("left", "right")}
    for limb in ("arm", "leg", "shoe")
)
_OTHER_SIDE = {
    "left": (ARM["right"], LEG["right"], SHOE["right"]),
    "right": (ARM["left"], LEG["left"], SHOE["left"]),
}
_SUPERSAMPLING = 2
_LIFT = np.array([0, 0.02, 0])  # trousers reach a little above the hip joint
# How far (in standing heights) the seen surface may lie before a joint that still counts as seen, COCO order.
_THICK = np.array(
    [0.05, 0.05, 0.05, 0.06, 0.06, 0.09, 0.09, 0.06, 0.06, 0.06, 0.06, 0.12, 0.12, 0.08, 0.08, 0.07, 0.07]
)


@dataclass(frozen=True)
class _Look:
    """Colours and build that the parts of a drawing share."""

    who: dict[str, str]
    build: Build
    skin: RGB
    top: RGB
    inner: RGB
    bottom: RGB
    hair: RGB
    hat: RGB
    shoe: RGB
    facing: float  # cosine between the person's forward direction and the camera's

    @property
    def short_sleeves(self) -> bool:
        """Whether the arms are bare below the elbow."""
        return self.who["top"] in ("t-shirt", "overalls", "dress")


def _level(centre: np.ndarray, half: float, up: np.ndarray) -> np.ndarray:
    """Left and right end [2, 2] of a level of the trunk."""
    across = np.array([up[1], -up[0]])
    return np.stack([centre[:2] - across * half, centre[:2] + across * half])


def _trunk(d: Drawing, j: Joints, k: _Look, yaw: float) -> None:
    girth, who = k.build.girth, k.who
    pelvis, chest, up = j["pelvis"], j["chest"], j["up"]
    c, s = abs(np.cos(yaw)), abs(np.sin(yaw))

    def half(wide: float, deep: float) -> float:
        return float(np.hypot(wide * c, deep * s)) * girth

    woman = who["gender"] == "woman"
    levels = [
        (chest + up * 0.012, half(k.build.shoulder_half * 0.8, 0.05)),
        (chest - up * 0.035, half(k.build.shoulder_half, 0.075)),
        ((pelvis + chest) / 2 - up * 0.02, half(0.072 if woman else 0.085, 0.068)),
        (pelvis - up * 0.012, half(0.092 if woman else 0.086, 0.075)),
    ]
    part, colour = {
        "jacket": (COAT, k.top),
        "suit jacket": (COAT, k.top),
        "dress": (DRESS, k.top),
        "overalls": (UPPER, k.inner),
    }.get(who["top"], (UPPER, k.top))
    ends = [_level(centre, width, up) for centre, width in levels]
    outline = np.concatenate([[e[0] for e in ends], [e[1] for e in ends[::-1]]])
    d.cloth(part, colour, outline, pelvis, chest, 0.07, 0.045)
    neck, head = j["neck"], j["head"]
    d.limb(TORSO, k.skin, neck - up * 0.02, head - up * k.build.head * 0.3, 0.032 * girth, 0.03 * girth, 0.04)
    if k.facing > 0.2:
        front = chest + np.array([0, 0, 0.06])
        forward = np.array([np.sin(yaw) * 0.03, 0])
        if part == COAT:  # an open front shows the shirt
            slit = np.stack(
                [
                    front[:2] + forward + v
                    for v in ((-0.035 * c, 0.012), (0.035 * c, 0.012), (0.012 * c, -0.2), (-0.012 * c, -0.2))
                ]
            )
            d.cloth(UPPER, k.inner, slit, front, pelvis, 0.03, 0.06)
        else:
            neckline = front + np.array([forward[0] * 0.6, 0.012, 0])
            d.blob(TORSO, k.skin, neckline, 0.034 * max(c, 0.5), 0.02, 0.06)
    if who["top"] == "overalls":
        bib = np.concatenate(
            [
                _level(pelvis + up * 0.17, half(0.06, 0.06), up),
                _level(pelvis - up * 0.02, half(0.09, 0.075), up)[::-1],
            ]
        )
        d.cloth(PANTS, k.top, bib, pelvis, chest, 0.07, 0.05)
        for side in (-1, 1):
            strap = np.array([side * 0.045 * c, 0, 0])
            d.limb(PANTS, k.top, pelvis + up * 0.16 + strap, chest + strap, 0.009, 0.009, 0.052)


def _arms(d: Drawing, j: Joints, k: _Look) -> None:
    g = k.build.girth
    part = COAT if k.who["top"] in ("jacket", "suit jacket") else UPPER
    part, colour = (
        (DRESS, k.top)
        if k.who["top"] == "dress"
        else (part, k.inner if k.who["top"] == "overalls" else k.top)
    )
    for name, skin in ARM.items():
        a, b, c, h = (j[f"{name}_{joint}"] for joint in ("shoulder", "elbow", "wrist", "hand"))
        d.limb(skin, k.skin, a, b, 0.033 * g, 0.026 * g, 0.05)
        d.limb(skin, k.skin, b, c, 0.026 * g, 0.018 * g, 0.052)
        d.limb(skin, k.skin, c, h, 0.019 * g, 0.017 * g, 0.054)
        if k.who["top"] == "top":
            continue
        if k.short_sleeves:
            d.limb(part, colour, a, a + (b - a) * 0.62, 0.039 * g, 0.036 * g, 0.056)
        else:
            d.limb(part, colour, a, b, 0.038 * g, 0.033 * g, 0.056)
            d.limb(part, colour, b, c, 0.033 * g, 0.025 * g, 0.058)


def _legs(d: Drawing, j: Joints, k: _Look) -> None:
    g, who = k.build.girth, k.who
    overalls = who["top"] == "overalls"
    for name in ("left", "right"):
        hip, knee, ankle, toe = (j[f"{name}_{joint}"] for joint in ("hip", "knee", "ankle", "toe"))
        d.limb(LEG[name], k.skin, hip, knee, 0.044 * g, 0.036 * g, -0.02)
        d.limb(LEG[name], k.skin, knee, ankle, 0.038 * g, 0.023 * g, -0.02)
        d.limb(SHOE[name], k.shoe, ankle - (0, 0.012, 0), toe, 0.027, 0.022, 0.0)
        if who["bottom"] in ("trousers", "jeans") or overalls:
            colour = k.top if overalls else k.bottom
            tight = 0.9 if who["bottom"] == "jeans" else 1.06
            d.limb(PANTS, colour, hip + _LIFT, knee, 0.058 * g, 0.045 * g * tight, -0.005)
            d.limb(
                PANTS,
                colour,
                knee,
                ankle + (knee - ankle) * 0.08,
                0.045 * g * tight,
                0.034 * g * tight,
                -0.005,
            )
        elif who["bottom"] == "shorts":
            d.limb(PANTS, k.bottom, hip + _LIFT, hip + (knee - hip) * 0.82, 0.06 * g, 0.052 * g, -0.005)
    if who["bottom"] == "skirt" or who["top"] == "dress":
        part, colour = (SKIRT, k.bottom) if who["bottom"] == "skirt" else (DRESS, k.top)
        pelvis, knees = j["pelvis"] + (0, 0.03, 0), (j["left_knee"], j["right_knee"])
        rings = [pelvis[:2] + CIRCLE * (0.078 * g, 0.03)] + [
            knee[:2] + CIRCLE * (0.06, 0.03) for knee in knees
        ]
        nearest = max(pelvis, *knees, key=lambda point: point[2])
        d.cloth(part, colour, hull(np.concatenate(rings)), pelvis, nearest, 0.07, 0.04)


def _head(d: Drawing, j: Joints, k: _Look, yaw: float) -> dict[str, np.ndarray]:
    """Draws head, hair and hat; returns nose, eyes and ears [3]."""
    h, centre, who = k.build.head, j["head"], k.who
    front = turn(np.array([0, 0, 1.0]), yaw)
    side = turn(np.array([1.0, 0, 0]), yaw)
    up = np.array([0, 1.0, 0])
    points = {"nose": centre + front * 0.42 * h - up * 0.07 * h}
    for name, sign in (("left", 1), ("right", -1)):
        points[f"{name}_eye"] = centre + front * 0.36 * h + side * sign * 0.15 * h + up * 0.04 * h
        points[f"{name}_ear"] = centre + side * sign * 0.36 * h - up * 0.02 * h - front * 0.03 * h
    swell = {"afro": 1.32}.get(who["hair"], 1.0)
    d.blob(HAIR, k.hair, centre - front * 0.04 * h + up * 0.03 * h, 0.4 * h * swell, 0.5 * h * swell, 0.03)
    if k.facing > -0.3:
        width = h * (0.27 + 0.08 * max(k.facing, 0))
        d.blob(FACE, k.skin, centre + front * 0.13 * h - up * 0.1 * h, width, 0.42 * h, 0.034)
    for name, sign in (("left", 1), ("right", -1)):
        if who["hair"] in ("short", "tied") and side[2] * sign > -0.5:
            d.blob(
                FACE,
                k.skin,
                points[f"{name}_ear"],
                0.055 * h,
                0.1 * h,
                0.036 if side[2] * sign > 0.2 else 0.01,
                False,
            )
    _features(d, points, k, centre)
    if who["hair"] in ("long", "bob"):
        drop = (1.05 if who["hair"] == "long" else 0.45) * h
        back = centre - front * 0.2 * h
        d.limb(HAIR, k.hair, back, back - up * drop, 0.38 * h, 0.34 * h, -0.02 if k.facing > -0.2 else 0.06)
        for sign in (-1, 1):
            lock = centre + side * sign * 0.34 * h - front * 0.05 * h
            d.limb(HAIR, k.hair, lock + up * 0.1 * h, lock - up * drop, 0.1 * h, 0.09 * h, 0.037)
    elif who["hair"] == "tied":
        d.blob(HAIR, k.hair, centre - front * 0.42 * h + up * 0.3 * h, 0.19 * h, 0.2 * h, 0.0)
    if who["hat"]:
        d.blob(HAT, k.hat, centre + up * 0.33 * h, 0.42 * h, 0.27 * h, 0.044)
        d.blob(
            HAT,
            dimmed(k.hat, 0.8),
            centre + up * 0.24 * h + front * 0.12 * h,
            0.58 * h,
            0.09 * h,
            0.045,
        )
    return points


def _features(d: Drawing, points: dict[str, np.ndarray], k: _Look, centre: np.ndarray) -> None:
    """Eyes, nose and mouth, as far as they look towards the camera."""
    h = k.build.head
    if k.facing < -0.1:
        return
    for name in ("left_eye", "right_eye"):
        if points[name][2] - centre[2] > 0.06 * h:
            d.blob(FACE, (245, 245, 240), points[name], 0.05 * h, 0.03 * h, 0.05, False)
            d.blob(FACE, (40, 28, 24), points[name], 0.024 * h, 0.028 * h, 0.051, False)
    nose = points["nose"]
    d.blob(FACE, dimmed(k.skin, 0.85), nose, 0.035 * h, 0.06 * h, 0.05, False)
    mouth = nose + (0, -0.17 * h, 0) + (centre - nose) * (0.12, 0, 0.12)
    d.blob(
        FACE,
        (min(int(k.skin[0] * 0.85) + 12, 255), int(k.skin[1] * 0.58), int(k.skin[2] * 0.58)),
        mouth,
        0.09 * h * max(k.facing, 0.35),
        0.025 * h,
        0.05,
        False,
    )


def _look(rng: np.random.Generator, who: dict[str, str], build: Build, yaw: float) -> _Look:
    def named(key: str, palette: dict[str, RGB]) -> RGB:
        return shade(rng, palette[who[key]]) if who[key] else (0, 0, 0)

    inner = shade(rng, (226, 226, 222) if who["top_colour"] != "white" else (90, 96, 110))
    dark = [c for name, c in COLOURS.items() if name in ("black", "brown", "white", "gray", "red")]
    return _Look(
        who,
        build,
        shade(rng, SKINS[rng.integers(len(SKINS))], 6),
        named("top_colour", COLOURS),
        inner,
        named("bottom_colour", COLOURS),
        named("hair_colour", HAIR_COLOURS),
        shade(rng, list(COLOURS.values())[rng.integers(len(COLOURS))]),
        shade(rng, dark[rng.integers(len(dark))]),
        float(np.cos(yaw)),
    )


def _weave(rng: np.random.Generator, rgb: np.ndarray, parts: np.ndarray, striped: bool) -> None:
    """Folds (slow light and dark over everything) and, if asked, stripes on the upper garment. Changes `rgb`
    (float [h, w, 3]) in place."""
    h, w = parts.shape
    coarse = Image.fromarray(rng.uniform(0.86, 1.12, (max(h // 24, 2), max(w // 24, 2))).astype(np.float32))
    rgb *= np.asarray(coarse.resize((w, h), Image.Resampling.BICUBIC))[..., None]
    if striped:
        period = rng.uniform(8, 16)
        rows, columns = np.ogrid[:h, :w]
        across = rows if rng.random() < 0.7 else columns
        light = np.isin(parts, (UPPER, DRESS, COAT)) & (across % period < period / 2)
        rgb[light] = rgb[light] * 0.45 + (110 if rgb[light].mean() < 128 else 40)


def _seen(points: np.ndarray, d: Drawing, numbers: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Visibility [17] of joints `points` [17, 3] (camera frame) at the pixels `xy` [17, 2] of the map of
    shape numbers."""
    seen = np.full(17, 2, np.float32)
    for i, (point, (x, y)) in enumerate(zip(points, xy, strict=True)):
        row, column = int(np.clip(y, 0, numbers.shape[0] - 1)), int(np.clip(x, 0, numbers.shape[1] - 1))
        number = int(numbers[row, column])
        if not number:
            continue
        shape = d.shapes[number - 1]
        if shape.part in _OTHER_SIDE.get(KEYPOINT_NAMES[i].split("_")[0], ()):
            seen[i] = 1
            continue
        axis = shape.stop - shape.start
        along = float(np.clip((point - shape.start) @ axis / max(float(axis @ axis), 1e-9), 0, 1))
        if shape.start[2] + along * axis[2] + shape.radius - point[2] > _THICK[i] + min(shape.radius, 0.05):
            seen[i] = 1
    return seen


def draw_person(rng: np.random.Generator, clothes: dict[str, str], stature_px: float = 300.0) -> Cutout:
    """One person in these clothes (see `wardrobe2d.sample_clothes`), in a random pose and view; about 6
    ms."""
    build, height = sample_build(rng, clothes["gender"], clothes["age"])
    pose, view = sample_pose(rng), sample_view(rng)
    who = {**clothes, "pose": pose, "view": view}
    yaw = view_turn(rng, view)
    body = {name: turn(point, yaw) for name, point in joints(rng, build, pose).items()}
    look = _look(rng, who, build, yaw)
    d = Drawing()
    _trunk(d, body, look, yaw)
    _legs(d, body, look)
    _arms(d, body, look)
    body.update(_head(d, body, look, yaw))
    corners = np.concatenate([shape.outline for shape in d.shapes])
    low, high = corners.min(0), corners.max(0)
    origin, scale = np.array([low[0] - 0.01, high[1] + 0.01]), stature_px * _SUPERSAMPLING
    columns, rows = (int(v) // 2 * 2 + 2 for v in (high - low + 0.02) * scale)
    picture, numbers = d.paint(scale, origin, (columns, rows))
    part_of = np.array([0, *(shape.part for shape in d.shapes)], np.uint8)
    points = np.stack([body[name] for name in KEYPOINT_NAMES])
    xy = (points[:, :2] - origin) * (scale, -scale)
    seen = _seen(points, d, numbers, xy)
    for i, name in ((1, "left_eye"), (2, "right_eye"), (3, "left_ear"), (4, "right_ear"), (0, "nose")):
        limit = (-0.14 if "ear" in name else 0.03) * build.head
        if body[name][2] - body["head"][2] < limit or (
            "ear" in name and who["hair"] not in ("short", "tied")
        ):
            seen[i] = 1
    return _cut(
        rng, picture, part_of[numbers], np.column_stack([xy / _SUPERSAMPLING, seen]), who, height, stature_px
    )


def _cut(
    rng: np.random.Generator,
    picture: Image.Image,
    parts: np.ndarray,
    keypoints: np.ndarray,
    who: dict[str, str],
    height: float,
    stature_px: float,
) -> Cutout:
    """Halves the supersampled drawing: colours are averaged, part classes are picked."""
    inside = Image.fromarray(np.where(parts, np.uint8(255), np.uint8(0)))
    small = picture.copy()
    small.putalpha(inside)
    rgba = np.asarray(small.convert("RGBa").reduce(_SUPERSAMPLING).convert("RGBA")).astype(np.float32)
    parts = np.ascontiguousarray(parts[1::2, 1::2])
    colour = rgba[..., :3]
    _weave(rng, colour, parts, who["top_pattern"] == "striped")
    image = np.clip(rgba, 0, 255).astype(np.uint8)
    return Cutout(image, parts, keypoints.astype(np.float32), who, height, stature_px)


class DrawnPeople:
    """The 2-D back end as a source of cut-outs."""

    def draw(
        self, rng: np.random.Generator, split: str, elevations: tuple[float, float] = ANY_ELEVATION
    ) -> Cutout:
        """A new person whose outfit belongs to `split`, always seen from its own height."""
        return draw_person(rng, _clothes_of(rng, split))

    def look(self, rng: np.random.Generator, split: str) -> dict[str, str]:
        """The words about such a person."""
        clothes = _clothes_of(rng, split)
        return {**clothes, "pose": sample_pose(rng), "view": sample_view(rng)}


def _clothes_of(rng: np.random.Generator, split: str) -> dict[str, str]:
    while True:
        clothes = sample_clothes(rng)
        if outfit_split(clothes) == split:
            return clothes
