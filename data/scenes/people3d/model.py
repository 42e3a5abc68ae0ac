"""The naked body: Anny in MakeHuman topology, with what dressing it needs at hand."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np

from ....errors import RefHCMError
from . import wardrobe as w
from .assets import INSTALL, read_proxy

SKIN_VERTICES = 13380
"""The first vertices of the base mesh are the skin; the others only help to fit garments."""
GROUPS = ("head", "trunk", "left-arm", "right-arm", "left-leg", "right-leg")
"""Coarse body parts that skin and clothes alike follow; a joint is seen when its own group is seen there."""
GROUP_PART = (w.FACE, w.PART["torso-skin"], *(w.PART[n] for n in GROUPS[2:]))


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
    """Anny with what dressing needs at hand. Loading takes seconds, the very first time a minute
    (ANNY_CACHE_DIR).
    """

    def __init__(self) -> None:
        try:
            import anny
            import torch
        except ImportError as error:
            raise RefHCMError(f"{error.name or 'anny'} is not installed: run {INSTALL}.") from error
        self.torch = torch
        model = (
            anny.Anny(rig="makehuman", topology="makehuman-full", phenotypes="all").to(torch.float32).eval()
        )
        self.model, self.bones = model, list(model.bone_labels)
        self.skinning = np.zeros((len(model.template_vertices), model.bone_count), np.float32)
        for bone, share in zip(
            model.vertex_bone_indices.numpy().T, model.vertex_bone_weights.numpy().T, strict=True
        ):
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

    def forward(
        self, shape: dict[str, float], turns: dict[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
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

    @cache  # noqa: B019 - there is one model per process
    def fitted_skinning(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Bones that move a garment, int [B], and its weights, float32 [V, B].

        They are the weights of the body vertices that it hangs on, mixed as its positions are.
        """
        proxy = read_proxy(name)
        shares = np.einsum("vkb,vk->vb", self.skinning[proxy.refs], proxy.weights).clip(0)
        bones = np.flatnonzero(shares.any(0))
        return bones, shares[:, bones] / (shares.sum(1, keepdims=True) + 1e-9)

    @cache  # noqa: B019
    def fitted_groups(self, name: str) -> np.ndarray:
        """Group of every triangle of a garment, uint8 [T]."""
        return self.face_groups(*self.fitted_skinning(name), read_proxy(name).faces)

    @cache  # noqa: B019
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
    """Anny's shape controls, each 0 to 1; height 0.2 to 0.5 makes men of 1.6 to 1.9 m, women 0.1 m less."""
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
