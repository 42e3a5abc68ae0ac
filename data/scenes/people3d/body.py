"""Building one dressed, posed person: garments fitted to the body, skinned with it and set on the floor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from . import wardrobe as w
from .assets import read_proxy, skin_textures
from .model import GROUP_PART, SKIN_VERTICES, body_model, sample_shape
from .poses import sample_pose

if TYPE_CHECKING:
    from typing_extensions import Unpack

Colour = tuple[float, float, float]
"""Linear RGB."""

Z_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)
"""MakeHuman's axes (y up) to Anny's (z up)."""
OFFSET_SCALE = 0.1 / 1.657
"""Garment offsets are decimetres of a body 1.657 m tall (MakeHuman's neutral one)."""


@dataclass
class Surface:
    """A textured triangle mesh in metres, z up, and how to draw it."""

    positions: np.ndarray
    """float32 [V, 3]."""
    rest: np.ndarray
    """float32 [V, 3], the same vertices before posing: what patterns stick to."""
    trim: np.ndarray
    """float32 [V]; the surface is cut away where this is negative."""
    faces: np.ndarray
    """int [T, 3]."""
    uvs: np.ndarray
    """float32 [U, 2]."""
    face_uvs: np.ndarray
    """int [T, 3]."""
    labels: np.ndarray
    """uint8 [T], part class."""
    groups: np.ndarray
    """uint8 [T], index into `model.GROUPS`."""
    texture: Path
    tint: Colour | None = None
    """Linear RGB that replaces the texture's colour but not its folds."""
    shade: float = 1.0
    """Factor on the texture's own brightness."""
    second: Colour = (0.0, 0.0, 0.0)
    pattern: int = 0
    period: float = 0.05
    """Pattern number of `wardrobe.PATTERNS`, its other colour and its period in metres."""
    alpha_test: float = 0.1
    gloss: float = 0.03


class Paint(TypedDict, total=False):
    """Fields of a `Surface` that say how an item is coloured."""

    tint: Colour | None
    second: Colour
    pattern: int
    period: float
    alpha_test: float
    gloss: float


@dataclass
class Person:
    """A finished person, feet (or the lowest point) on z = 0, hips over the origin, facing -y."""

    look: w.Look
    surfaces: list[Surface]
    keypoints: np.ndarray
    """float [17, 3], COCO order, metres."""
    height: float
    """Standing height in metres."""


class _Dresser:
    """Fits and skins the items of one person, and remembers which skin they cover."""

    def __init__(self, look: w.Look, rng: np.random.Generator) -> None:
        self.look, self.rng, self.model = look, rng, body_model()
        shape = sample_shape(look, rng)
        resting = self.model.forward(shape)
        self.rest = resting["rest_vertices"]
        self.floor, top = self.rest[:SKIN_VERTICES, 2].min(), self.rest[:SKIN_VERTICES, 2].max()
        self.height = float(top - self.floor)
        self.heads = dict(zip(self.model.bones, resting["rest_bone_heads"], strict=True))
        self.pose = sample_pose(look.pose, {b: h * 1.75 / self.height for b, h in self.heads.items()}, rng)
        self.posed = self.model.forward(shape, self.pose.bones)
        moves = self.posed["bone_poses"].astype(float) @ np.linalg.inv(
            resting["rest_bone_poses"].astype(float)
        )
        self.moves = moves[:, :3].astype(np.float32)  # [bones, 3, 4], rest to posed
        self.covered = np.zeros(len(self.rest), bool)
        self.surfaces: list[Surface] = []
        self.tints: dict[str, Colour] = {}
        self.period = float(rng.uniform(0.03, 0.09))

    def fit(self, name: str) -> np.ndarray:
        """Rest positions of an item on this body, float32 [V, 3]."""
        proxy = read_proxy(name)
        anchor = np.einsum("vkc,vk->vc", self.rest[proxy.refs], proxy.weights)
        return (anchor + proxy.offsets @ Z_UP.T * (OFFSET_SCALE * self.height)).astype(np.float32)

    def add(
        self, name: str, rest: np.ndarray, keep: np.ndarray, labels: int | np.ndarray,
        trim: np.ndarray | None = None, texture: Path | None = None, **paint: Unpack[Paint],
    ) -> None:  # fmt: skip
        """Skin an item and add those of its triangles that `keep` marks, with its first texture if none is named."""
        proxy, (bones, shares) = read_proxy(name), self.model.fitted_skinning(name)
        moves = (shares @ self.moves[bones].reshape(-1, 12)).reshape(-1, 3, 4)
        positions = (moves[:, :, :3] @ rest[:, :, None])[:, :, 0] + moves[:, :, 3]
        labels = np.broadcast_to(np.asarray(labels, np.uint8), len(proxy.faces))
        trim = np.ones(len(rest), np.float32) if trim is None else trim
        self.surfaces.append(
            Surface(
                positions, rest, trim, proxy.faces[keep], proxy.uvs, proxy.face_uvs[keep], labels[keep],
                self.model.fitted_groups(name)[keep], texture or proxy.textures[0], **paint,
            )
        )  # fmt: skip

    def colour(self, name: str) -> Colour:
        """A named colour, varied a little."""
        return tuple(
            np.array(w.COLOURS[name]) * self.rng.uniform(0.85, 1.15) * self.rng.uniform(0.95, 1.05, 3)
        )

    def clothes(self) -> float:
        """Add both halves of the outfit; returns the rest height of the trousers' hem."""
        look = self.look
        mixed = look.top != look.bottom
        for name, lower in ((look.top, False), (look.bottom, True)):
            self.covered |= self.model.hidden_by(name, lower)
        rest = {name: self.fit(name) for name in {look.top, look.bottom}}
        labels, faces = w.suit_labels(look.bottom), read_proxy(look.bottom).faces
        legs = w.lower_half(labels)
        hem = float(rest[look.bottom][faces[legs], 2].min())
        waist = float(rest[look.bottom][faces[legs], 2].max())
        trim = None
        if look.hem is not None:
            hem = self.floor + look.hem * self.height
            trim = rest[look.bottom][:, 2] - hem
            self.covered &= (self.rest[:, 2] > hem + 0.02) | ~self.model.hidden_by(look.bottom, True)
        if mixed:  # skin between the halves may show: each suit counts on its own other half to cover it
            self.covered &= np.abs(self.rest[:, 2] - waist) > 0.03
        one = look.dress
        self.add(look.bottom, rest[look.bottom], legs, w.DRESS if one else labels, trim, **self.paint(one))
        labels = w.suit_labels(look.top)
        outer = labels == (w.COAT if (labels == w.COAT).any() else w.UPPER)
        if look.top_word == "overalls":
            self.inner(look.top, rest[look.top], labels)
            return hem
        trim = self.sleeves(rest[look.top])
        self.add(look.top, rest[look.top], outer, w.DRESS if one else labels, trim, **self.paint(True))
        if (labels[~outer] == w.UPPER).any():
            self.inner(look.top, rest[look.top], labels)
        return hem

    def inner(self, name: str, rest: np.ndarray, labels: np.ndarray) -> None:
        """The shirt under a jacket or under the bib: white or as the texture has it."""
        tint = self.colour("white") if self.rng.random() < 0.5 else None
        self.add(name, rest, labels == w.UPPER, labels, tint=tint)

    def paint(self, top: bool) -> Paint:
        """How the outer garment of a half is coloured; a dress is one colour, overalls count as the top."""
        look = self.look
        named = look.top_colour if top or look.top_word == "overalls" else look.bottom_colour
        drawing: Paint = {"tint": self.tints.setdefault(named, self.colour(named))}
        if top and look.pattern != "plain":
            second = self.tints.setdefault(look.second_colour, self.colour(look.second_colour))
            drawing |= {"pattern": w.PATTERNS[look.pattern], "second": second, "period": self.period}
        return drawing

    def sleeves(self, rest: np.ndarray) -> np.ndarray | None:
        """Trim values that cut long sleeves, and the skin below them uncovered."""
        if self.look.sleeve is None:
            return None
        name = self.look.top

        def beyond(points: np.ndarray) -> np.ndarray:
            """Metres along the arm, past the shoulder, of each point."""
            along = np.empty(len(points), np.float32)
            for sign, side in ((1, ".L"), (-1, ".R")):
                shoulder, wrist = self.heads["upperarm01" + side], self.heads["wrist" + side]
                axis = (wrist - shoulder) / np.linalg.norm(wrist - shoulder)
                mine = sign * points[:, 0] >= 0
                along[mine] = (points[mine] - shoulder) @ axis
            return along

        def on_arm(bones: np.ndarray, shares: np.ndarray) -> np.ndarray:
            return shares[:, np.isin(self.model.bone_groups[bones], (2, 3))].sum(1) > 0.5

        cut = self.look.sleeve * self.height
        bare = on_arm(np.arange(len(self.model.bones)), self.model.skinning) & (
            beyond(self.rest) > cut - 0.02
        )
        self.covered &= ~bare
        trim = np.where(on_arm(*self.model.fitted_skinning(name)), cut - beyond(rest), 0.05)
        return trim.astype(np.float32)

    def shoes(self, hem: float) -> None:
        """Shoes and the socks that the trousers leave visible."""
        name, rest = self.look.shoes, self.fit(self.look.shoes)
        proxy = read_proxy(name)
        sock = np.isin(proxy.components, w.SOCK_PIECES[name])
        side = np.where(rest[proxy.faces[:, 0], 0] > 0, w.PART["left-shoe"], w.PART["right-shoe"])
        self.covered |= proxy.hides
        tint = self.colour(self.look.shoe_colour) if self.look.shoe_colour else None
        self.add(name, rest, ~sock, side, tint=tint, gloss=0.08)
        shown = sock & (rest[proxy.faces, 2].max(1) < hem + 0.01)
        if shown.any():
            tone = self.colour(("white", "black", "gray", "navy")[self.rng.integers(4)])
            self.add(name, rest, shown, w.SOCKS, tint=tone)

    def head(self) -> None:
        """Hair, hat, brows, lashes and eyes."""
        look, hair = self.look, self.fit(self.look.hair)
        faces = read_proxy(look.hair).faces
        keep = np.ones(len(faces), bool)
        if look.hat:
            hat = self.fit(look.hat)
            keep = ~_under_hat(hair[faces].mean(1), hat)
            self.add(
                look.hat,
                hat,
                np.ones(len(read_proxy(look.hat).faces), bool),
                w.HAT,
                tint=self.colour(look.hat_colour),
            )
        tint = tuple(np.array(w.HAIR_COLOURS[look.hair_colour]) * self.rng.uniform(0.8, 1.2))
        self.add(look.hair, hair, keep, w.HAIR, tint=tint, alpha_test=0.4, gloss=0.06)
        dark = w.HAIR_COLOURS["brown" if look.hair_colour in ("blonde", "red", "brown") else "dark"]
        for name, colour, cut in (
            (look.brows, dark, 0.35),
            ("Eyelashes01", None, 0.4),
            ("HighPolyEyes", None, 0.0),
        ):
            proxy = read_proxy(name)
            texture = proxy.textures[int(self.rng.integers(len(proxy.textures)))]
            self.add(
                name,
                self.fit(name),
                np.ones(len(proxy.faces), bool),
                w.FACE,
                tint=colour,
                alpha_test=cut,
                texture=texture,
            )

    def skin(self) -> None:
        """The body where no garment covers all three corners of a triangle."""
        look, model = self.look, self.model
        pictures = skin_textures(
            w.SKIN_AGES[look.age], look.ancestry, "female" if look.gender == "woman" else "male"
        )
        shown = ~self.covered[model.faces].all(1)
        groups = model.groups[shown]
        tones = (
            (0.95, 1.8) if look.ancestry == "african" else (0.7, 1.15)
        )  # those skins are painted very dark
        self.surfaces.append(
            Surface(
                self.posed["vertices"], self.rest, np.ones(len(self.rest), np.float32), model.faces[shown],
                model.uvs, model.face_uvs[shown], np.array(GROUP_PART, np.uint8)[groups], groups,
                pictures[int(self.rng.integers(len(pictures)))], gloss=0.05,
                shade=float(self.rng.uniform(*tones)),
            )
        )  # fmt: skip

    def person(self) -> Person:
        """Everything put together and set down on the floor."""
        self.shoes(self.clothes())
        self.head()
        self.skin()
        points = self.posed["keypoints"].astype(float)
        hips = points[[11, 12]].mean(0)
        turn = self.pose.tilt
        for s in self.surfaces:
            s.positions = ((s.positions - hips) @ turn.T).astype(np.float32)
        floor = min(s.positions[s.faces.ravel(), 2].min() for s in self.surfaces)
        for s in self.surfaces:
            s.positions[:, 2] -= floor
        points = (points - hips) @ turn.T - [0, 0, floor]
        return Person(self.look, self.surfaces, points, self.height)


def _under_hat(points: np.ndarray, hat: np.ndarray) -> np.ndarray:
    """Which points lie above the brim of a hat, so that it hides them: bool [N].

    The plane of the brim is fitted to the quarter of the hat's vertices farthest from its axis; 8 mm are left
    over.
    """
    out = np.linalg.norm((hat - hat.mean(0))[:, :2], axis=1)
    brim = hat[out > np.quantile(out, 0.75)]
    middle = brim.mean(0)
    normal = np.linalg.svd(brim - middle, full_matrices=False)[2][2]
    return (points - middle) @ (normal * np.sign(normal[2])) > 0.008


def build_person(look: w.Look, rng: np.random.Generator) -> Person:
    """Dress and pose a person. Everything random that `look` leaves open is drawn from `rng`."""
    return _Dresser(look, rng).person()
