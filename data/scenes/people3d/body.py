"""Building one dressed, posed person: the Anny body in MakeHuman topology, garments fitted to it and skinned with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ....errors import MissingExtraError
from . import wardrobe as w
from .assets import read_proxy, skin_textures
from .poses import sample_pose

SKIN_VERTICES = 13380
"""The first vertices of the base mesh are the skin; the others only help to fit garments."""
Z_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)
"""MakeHuman's axes (y up) to Anny's (z up)."""
OFFSET_SCALE = 0.1 / 1.657
"""Garment offsets are decimetres of a body 1.657 m tall (MakeHuman's neutral one)."""
GROUPS = ("head", "trunk", "left-arm", "right-arm", "left-leg", "right-leg")
"""Coarse body parts that skin and clothes alike follow; a joint is seen when its own group is seen there."""
GROUP_PART = (w.FACE, w.PART["torso-skin"], *(w.PART[n] for n in GROUPS[2:]))


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
    """uint8 [T], index into `GROUPS`."""
    texture: Path
    tint: tuple[float, float, float] | None = None
    """Linear RGB that replaces the texture's colour but not its folds."""
    shade: float = 1.0
    """Factor on the texture's own brightness."""
    second: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pattern: int = 0
    period: float = 0.05
    """Pattern number of `wardrobe.PATTERNS`, its other colour and its period in metres."""
    alpha_test: float = 0.1
    gloss: float = 0.03


@dataclass
class Person:
    """A finished person, feet (or the lowest point) on z = 0, hips over the origin, facing -y."""

    look: w.Look
    surfaces: list[Surface]
    keypoints: np.ndarray
    """float [17, 3], COCO order, metres."""
    height: float
    """Standing height in metres."""


def bone_group(bone: str) -> int:
    """Index into `GROUPS` for a bone of the MakeHuman rig."""
    right = bone.endswith(".R")
    if any(key in bone for key in ("upperarm", "lowerarm", "wrist", "finger", "metacarpal")):
        return 2 + right
    if any(key in bone for key in ("upperleg", "lowerleg", "foot", "toe")):
        return 4 + right
    trunk = ("clavicle", "shoulder", "spine", "breast", "pelvis", "root", "neck01", "neck02")
    return 1 if any(key in bone for key in trunk) else 0


class BodyModel:
    """Anny with what dressing needs at hand. Loading takes seconds, the very first time a minute (ANNY_CACHE_DIR)."""

    def __init__(self) -> None:
        try:
            import anny
            import torch
        except ImportError as error:
            raise MissingExtraError(error.name or "anny", "scenes3d") from error
        self.torch = torch
        model = anny.Anny(rig="makehuman", topology="makehuman-full", phenotypes="all").to(torch.float32).eval()
        self.model, self.bones = model, list(model.bone_labels)
        self.skinning = np.zeros((len(model.template_vertices), model.bone_count), np.float32)
        for bone, share in zip(model.vertex_bone_indices.numpy().T, model.vertex_bone_weights.numpy().T, strict=True):
            np.add.at(self.skinning, (np.arange(len(bone)), bone), share)
        self.bone_groups = np.array([bone_group(bone) for bone in self.bones])
        quads, uvs = model.faces.numpy(), model.face_texture_coordinate_indices.numpy()
        self.faces = np.concatenate([quads[:, :3], quads[:, [0, 2, 3]]])
        self.face_uvs = np.concatenate([uvs[:, :3], uvs[:, [0, 2, 3]]])
        skin = self.faces.max(1) < SKIN_VERTICES
        self.faces, self.face_uvs = self.faces[skin], self.face_uvs[skin]
        self.uvs = model.texture_coordinates.numpy().astype(np.float32)
        self.groups = self.face_groups(np.arange(len(self.bones)), self.skinning, self.faces)
        self.regressor = anny.keypoints.KeypointsRegressor.coco(model)
        self.template = model.template_vertices.numpy()

    def face_groups(self, bones: np.ndarray, shares: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """The group each triangle moves with most, uint8 [T]; shares [V, B] are those of `bones` [B]."""
        groups = self.bone_groups[bones]
        shares = np.stack([shares[:, groups == g].sum(1) for g in range(len(GROUPS))], 1)
        return shares[faces].sum(1).argmax(1).astype(np.uint8)

    def forward(self, shape: dict[str, float], turns: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Anny's answer for one body; turns: bone -> [3, 3]."""
        torch = self.torch
        pose = torch.eye(4).repeat(1, len(self.bones), 1, 1)
        for bone, turn in (turns or {}).items():
            pose[0, self.bones.index(bone), :3, :3] = torch.as_tensor(np.asarray(turn), dtype=torch.float32)
        with torch.no_grad():
            answer = self.model(pose_parameters=pose, phenotype_kwargs=shape)
            points = self.regressor(answer)[0, :17]
        return {"keypoints": points.numpy()} | {
            key: answer[key][0].numpy()
            for key in ("rest_vertices", "rest_bone_heads", "rest_bone_poses", "vertices", "bone_poses")
        }

    @lru_cache(maxsize=None)  # noqa: B019 - there is one model per process
    def fitted_skinning(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Bones that move a garment, int [B], and its weights, float32 [V, B].

        They are the weights of the body vertices that it hangs on, mixed as its positions are.
        """
        proxy = read_proxy(name)
        shares = np.einsum("vkb,vk->vb", self.skinning[proxy.refs], proxy.weights).clip(0)
        bones = np.flatnonzero(shares.any(0))
        return bones, shares[:, bones] / (shares.sum(1, keepdims=True) + 1e-9)

    @lru_cache(maxsize=None)  # noqa: B019
    def fitted_groups(self, name: str) -> np.ndarray:
        """Group of every triangle of a garment, uint8 [T]."""
        return self.face_groups(*self.fitted_skinning(name), read_proxy(name).faces)

    @lru_cache(maxsize=None)  # noqa: B019
    def hidden_by(self, name: str, legs: bool) -> np.ndarray:
        """Body vertices under the upper or the lower (`legs`) half of a suit, bool [BASE_VERTICES]."""
        proxy = read_proxy(name)
        rest = np.einsum("vkc,vk->vc", self.template[proxy.refs], proxy.weights)
        lower = np.zeros(len(rest), bool)
        lower[proxy.faces[w.lower_half(w.suit_labels(name))]] = True
        index = np.flatnonzero(proxy.hides)
        distance = self.torch.cdist(
            self.torch.as_tensor(self.template[index]), self.torch.as_tensor(rest.astype(np.float32))
        )
        mask = np.zeros(len(self.template), bool)
        mask[index] = lower[distance.argmin(1).numpy()] == legs
        return mask


@lru_cache(maxsize=1)
def body_model() -> BodyModel:
    """The one body model of this process."""
    return BodyModel()


def sample_shape(look: w.Look, rng: np.random.Generator) -> dict[str, float]:
    """Anny's shape controls, each 0 to 1. Height 0.2 to 0.5 gives men of 1.6 to 1.9 m, women of 1.5 to 1.8 m."""
    low = 0.3 if look.age == "child" else 0.2
    mix = rng.dirichlet((0.25, 0.25, 0.25))
    mix[("african", "asian", "caucasian").index(look.ancestry)] += 1.5
    mix /= mix.sum()
    return {
        "gender": float(look.gender == "woman"), "age": float(rng.uniform(*w.MODEL_AGES[look.age])),
        "muscle": float(rng.uniform(0.3, 0.75)), "weight": float(rng.uniform(0.3, 0.82)),
        "height": float(rng.uniform(low, 0.52)), "proportions": float(rng.uniform(0.35, 0.85)),
        "cupsize": float(rng.uniform(0.35, 0.65)), "firmness": 0.5,
        "african": float(mix[0]), "asian": float(mix[1]), "caucasian": float(mix[2]),
    }  # fmt: skip


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
        moves = self.posed["bone_poses"].astype(float) @ np.linalg.inv(resting["rest_bone_poses"].astype(float))
        self.moves = moves[:, :3].astype(np.float32)  # [bones, 3, 4], rest to posed
        self.covered = np.zeros(len(self.rest), bool)
        self.surfaces: list[Surface] = []

    def fit(self, name: str) -> np.ndarray:
        """Rest positions of an item on this body, float32 [V, 3]."""
        proxy = read_proxy(name)
        anchor = np.einsum("vkc,vk->vc", self.rest[proxy.refs], proxy.weights)
        return (anchor + proxy.offsets @ Z_UP.T * (OFFSET_SCALE * self.height)).astype(np.float32)

    def add(self, name: str, rest: np.ndarray, keep: np.ndarray, labels, trim=None, **drawing) -> None:
        """Skin an item and add those of its triangles that `keep` marks."""
        proxy, (bones, shares) = read_proxy(name), self.model.fitted_skinning(name)
        moves = (shares @ self.moves[bones].reshape(-1, 12)).reshape(-1, 3, 4)
        positions = (moves[:, :, :3] @ rest[:, :, None])[:, :, 0] + moves[:, :, 3]
        labels = np.broadcast_to(np.asarray(labels, np.uint8), len(proxy.faces))
        trim = np.ones(len(rest), np.float32) if trim is None else trim
        texture = drawing.pop("texture", None) or proxy.textures[0]
        self.surfaces.append(
            Surface(
                positions, rest, trim, proxy.faces[keep], proxy.uvs, proxy.face_uvs[keep], labels[keep],
                self.model.fitted_groups(name)[keep], texture, **drawing,
            )
        )  # fmt: skip

    def colour(self, name: str) -> tuple[float, ...]:
        """A named colour, varied a little."""
        return tuple(np.array(w.COLOURS[name]) * self.rng.uniform(0.85, 1.15) * self.rng.uniform(0.95, 1.05, 3))

    def clothes(self) -> float:
        """Add both halves of the outfit; returns the rest height of the trousers' hem."""
        look = self.look
        mixed = look.top != look.bottom
        for name, legs in ((look.top, False), (look.bottom, True)):
            self.covered |= self.model.hidden_by(name, legs)
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

    def paint(self, top: bool) -> dict:
        """How the outer garment of a half is coloured; a dress is one colour, overalls count as the top."""
        look = self.look
        named = look.top_colour if top or look.top_word == "overalls" else look.bottom_colour
        drawing = {"tint": self._tints.setdefault(named, self.colour(named))}
        if top and look.pattern != "plain":
            second = self._tints.setdefault(look.second_colour, self.colour(look.second_colour))
            drawing |= {"pattern": w.PATTERNS[look.pattern], "second": second, "period": self._period}
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
        bare = on_arm(np.arange(len(self.model.bones)), self.model.skinning) & (beyond(self.rest) > cut - 0.02)
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
            self.add(look.hat, hat, np.ones(len(read_proxy(look.hat).faces), bool), w.HAT, tint=self.colour(look.hat_colour))
        tint = tuple(np.array(w.HAIR_COLOURS[look.hair_colour]) * self.rng.uniform(0.8, 1.2))
        self.add(look.hair, hair, keep, w.HAIR, tint=tint, alpha_test=0.4, gloss=0.06)
        dark = w.HAIR_COLOURS["brown" if look.hair_colour in ("blonde", "red", "brown") else "dark"]
        for name, colour, cut in ((look.brows, dark, 0.35), ("Eyelashes01", None, 0.4), ("HighPolyEyes", None, 0.0)):
            proxy = read_proxy(name)
            texture = proxy.textures[int(self.rng.integers(len(proxy.textures)))]
            self.add(
                name, self.fit(name), np.ones(len(proxy.faces), bool), w.FACE, tint=colour, alpha_test=cut, texture=texture
            )

    def skin(self) -> None:
        """The body where no garment covers all three corners of a triangle."""
        look, model = self.look, self.model
        pictures = skin_textures(w.SKIN_AGES[look.age], look.ancestry, "female" if look.gender == "woman" else "male")
        shown = ~self.covered[model.faces].all(1)
        groups = model.groups[shown]
        self.surfaces.append(
            Surface(
                self.posed["vertices"], self.rest, np.ones(len(self.rest), np.float32), model.faces[shown], model.uvs,
                model.face_uvs[shown], np.array(GROUP_PART, np.uint8)[groups], groups,
                pictures[int(self.rng.integers(len(pictures)))], gloss=0.05,
                shade=float(self.rng.uniform(0.95, 1.8) if look.ancestry == "african" else self.rng.uniform(0.7, 1.15)),
            )
        )  # fmt: skip

    def person(self) -> Person:
        """Everything put together and set down on the floor."""
        self._tints: dict[str, tuple[float, ...]] = {}
        self._period = float(self.rng.uniform(0.03, 0.09))
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

    The plane of the brim is fitted to the quarter of the hat's vertices farthest from its axis; 8 mm are left over.
    """
    out = np.linalg.norm((hat - hat.mean(0))[:, :2], axis=1)
    brim = hat[out > np.quantile(out, 0.75)]
    middle = brim.mean(0)
    normal = np.linalg.svd(brim - middle, full_matrices=False)[2][2]
    return (points - middle) @ (normal * np.sign(normal[2])) > 0.008


def build_person(look: w.Look, rng: np.random.Generator) -> Person:
    """Dress and pose a person. Everything random that `look` leaves open is drawn from `rng`."""
    return _Dresser(look, rng).person()
