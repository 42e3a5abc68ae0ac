"""The one description of a network: its sizes, switches, token counts and the pictures it expects.

size      d_model   FFN  heads  layers   trunk               published as
tiny          256  1024      4   4 +  4  ResNet-50           ofa_tiny
medium        512  2048      8   4 +  4  ResNet-101          ofa_medium
base          768  3072     12   6 +  6  ResNet-101          ofa_base
large        1024  4096     16  12 + 12  ResNet-152          ofa_large, refhcm, refhcm_tuned
huge         1280  5120     16  24 + 12  ResNet-152          ofa_huge
compact       256  1024      4   4 +  4  EfficientNet-Lite0  ours, small enough to ship with the code
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..errors import RefHCMError

RESNET_BLOCKS = {
    "resnet18": (2, 2, 2),
    "resnet34": (3, 4, 6),
    "resnet50": (3, 4, 6),
    "resnet101": (3, 4, 23),
    "resnet152": (3, 8, 36),
}
"""Bottlenecks in the three stages that are used; OFA builds bottlenecks for 18 and 34 too."""

TRUNKS = (*RESNET_BLOCKS, "efficientnet_lite0")

TRUNK_LEVELS = (112, 4 * 40, 16 * 24)
"""Channels of a cell at a sixteenth of the side in EfficientNet-Lite0, for features at a 16th, 8th and 4th of it."""

_GREATEST = 1 << 20
"""No single size may exceed this, so that a wrong config file cannot ask for an absurd amount of memory."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes a network's parameters and arithmetic. All sizes are counts, `image_size` is in
    pixels.

    The published switches that never vary (pre-norm, scaled attention, scaled FFN, scaled heads, shared
    embeddings, exact GELU) are part of the code, not of this record; `from_published_args` refuses files that
    differ in them.
    """

    d_model: int = 1024
    encoder_ffn_dim: int = 4096
    decoder_ffn_dim: int = 4096
    encoder_heads: int = 16
    decoder_heads: int = 16
    encoder_layers: int = 12
    decoder_layers: int = 12
    trunk: str = "resnet152"
    trunk_blocks: tuple[int, ...] = ()
    """Bottlenecks per ResNet stage; empty means those of the name."""
    trunk_levels: int = 1
    """Of EfficientNet-Lite0: 1 for its features at a sixteenth of the side, 2 with those at an eighth, 3 with those at
    a quarter: finer ones stand beside the others as the channels of the cell that they lie in.
    """

    vocab_size: int = 59457
    num_bins: int = 1000
    num_codes: int = 8192
    bos: int = 0
    pad: int = 1
    eos: int = 2
    unk: int = 3

    image_size: int = 512
    image_mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    image_std: tuple[float, ...] = (0.5, 0.5, 0.5)

    max_source_positions: int = 1024
    max_target_positions: int = 1024
    token_bucket_size: int = 256
    image_bucket_size: int = 42
    """Side of the grid of image cells that have a position: pictures up to 16 times as many pixels."""
    code_image_size: int = 128
    """Only fixes one index table that published files carry; see `positions.code_window_ids`."""
    attn_scale_factor: float = 2.0
    entangle_encoder_positions: bool = False
    """Add position vectors to the encoder's inputs, beside the position bias of the attention."""
    entangle_decoder_positions: bool = False
    decoder_image_tables: bool = True
    """Carry the decoder's image-position tables, which no referring task reads but published files hold."""
    block_columns: int = 0
    """Above 0: a block's queries form a grid of this many columns over their box and begin with what the encoder saw
    there, see `located`; 0, as published: they do not.
    """

    dropout: float = 0.1
    encoder_drop_path: float = 0.0
    """Chance to skip a branch of the last layer; it rises linearly from 0 at the first layer."""
    decoder_drop_path: float = 0.0
    trunk_drop_path: float = 0.0
    trunk_norm_eps: float = 1e-5
    """Added to the variance in the trunk's batch norms; 1e-3 in OFA runs with `sync_bn` and in
    EfficientNet.
    """
    freeze_trunk_norm: bool = False
    """Keep the trunk's batch norms on their running statistics while training."""

    def __post_init__(self) -> None:
        for name in ("trunk_blocks", "image_mean", "image_std"):
            if isinstance(getattr(self, name), list):  # JSON has no tuples; what is neither is refused below
                object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_types()
        self._check_values()

    # -- ways to make one ------------------------------------------------------------------------------------
    @classmethod
    def preset(cls, name: str, **changes: Any) -> ModelConfig:
        """The config of a named size, with single fields changed: `ModelConfig.preset("compact",
        image_size=256)`.
        """
        if name not in PRESETS:
            raise RefHCMError(f"There is no model size {name!r}; the sizes are {', '.join(PRESETS)}.")
        return cls.from_dict({**PRESETS[name], **changes})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `to_dict`; fields that are not given keep their defaults, unknown ones are
        refused.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise RefHCMError(
                f"A model config has no field {unknown[0]!r}; the fields are {', '.join(sorted(known))}."
            )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, booleans and lists, ready for JSON."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_published_args(cls, args: Namespace | Mapping[str, Any], **changes: Any) -> ModelConfig:
        """The config that the saved arguments of an OFA or RefHCM run describe.

        `args` is the `cfg["model"]` (or old `args`) entry of a checkpoint, or the same as a mapping;
        arguments that are absent count as the published value. `changes` overrides single fields. An argument
        whose value asks for arithmetic that no published model uses raises RefHCMError.
        """
        given = dict(args) if isinstance(args, Mapping) else vars(args)
        for name, needed in _FIXED_SWITCHES.items():
            if given.get(name) is not None and given[name] != needed:
                raise RefHCMError(
                    f"The checkpoint was trained with {name}={given[name]!r}; only {needed!r} is supported."
                )
        values = {
            ours: given[theirs]
            for theirs, names in _PUBLISHED_NAMES.items()
            if given.get(theirs) is not None
            for ours in names
        }
        if "disable_entangle" in given:
            values["entangle_decoder_positions"] = not given["disable_entangle"]
        if given.get("sync_bn"):
            values["trunk_norm_eps"] = 1e-3
        return cls.from_dict({**values, **changes})

    def replace(self, **changes: Any) -> ModelConfig:
        """A copy with single fields changed and checked again."""
        return replace(self, **changes)

    # -- what follows from the fields ------------------------------------------------------------------------
    @property
    def resnet_blocks(self) -> tuple[int, ...]:
        """Bottlenecks in each of the ResNet's stages; empty for another trunk."""
        return self.trunk_blocks or RESNET_BLOCKS.get(self.trunk, ())

    @property
    def trunk_channels(self) -> int:
        """Channels of the trunk's output, which has a sixteenth of the picture's side."""
        return sum(TRUNK_LEVELS[: self.trunk_levels]) if self.trunk == "efficientnet_lite0" else 1024

    # -- checks ----------------------------------------------------------------------------------------------
    def _check_types(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), field.type
            good = {
                "int": isinstance(value, int) and not isinstance(value, bool),
                "float": _is_number(value),
                "bool": isinstance(value, bool),
                "str": isinstance(value, str),
                "tuple[int, ...]": isinstance(value, tuple) and all(type(item) is int for item in value),
                "tuple[float, ...]": isinstance(value, tuple) and all(map(_is_number, value)),
            }[str(kind)]
            if not good:
                raise RefHCMError(f"The model config's {field.name} must be {kind}, not {value!r}.")

    def _check_values(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("bos", "pad", "eos", "unk", "num_codes", "block_columns") else 1
            if field.type == "int" and not least <= value <= _GREATEST:
                raise RefHCMError(
                    f"The model config's {field.name} must lie in {least}..{_GREATEST}, not {value}."
                )
        for name in ("dropout", "encoder_drop_path", "decoder_drop_path", "trunk_drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise RefHCMError(f"The model config's {name} must lie in [0, 1), not {getattr(self, name)}.")
        for name in ("encoder_heads", "decoder_heads"):
            if self.d_model % getattr(self, name):
                raise RefHCMError(
                    f"d_model {self.d_model} cannot be split into {getattr(self, name)} heads ({name})."
                )
        if max(self.encoder_layers, self.decoder_layers) > 256:
            raise RefHCMError("encoder_layers and decoder_layers are at most 256.")
        if self.trunk not in TRUNKS:
            raise RefHCMError(f"There is no trunk {self.trunk!r}; the trunks are {', '.join(TRUNKS)}.")
        if self.trunk_levels > (len(TRUNK_LEVELS) if self.trunk == "efficientnet_lite0" else 1):
            raise RefHCMError(f"trunk_levels is 1 to {len(TRUNK_LEVELS)} for efficientnet_lite0 and 1 for others.")
        if self.trunk_blocks and (self.trunk not in RESNET_BLOCKS or len(self.trunk_blocks) != 3):
            raise RefHCMError("trunk_blocks lists the bottlenecks of a ResNet's three stages.")
        if not all(1 <= count <= 256 for count in self.trunk_blocks):
            raise RefHCMError("Each entry of trunk_blocks must lie in 1..256.")
        if len(self.image_mean) != 3 or len(self.image_std) != 3 or min(self.image_std) <= 0:
            raise RefHCMError("image_mean and image_std hold three numbers each, those of image_std above 0.")
        if self.attn_scale_factor <= 0 or self.trunk_norm_eps <= 0:
            raise RefHCMError("attn_scale_factor and trunk_norm_eps must be above 0.")
        if max(self.bos, self.pad, self.eos, self.unk) >= self.vocab_size:
            raise RefHCMError(f"bos, pad, eos and unk must be below vocab_size {self.vocab_size}.")
        if self.num_bins + self.num_codes >= self.vocab_size:
            raise RefHCMError(
                f"{self.num_bins} bins and {self.num_codes} codes exceed vocab_size {self.vocab_size}."
            )
        if not 4 <= self.token_bucket_size <= 4096 or self.image_bucket_size > 256:
            raise RefHCMError("token_bucket_size must lie in 4..4096 and image_bucket_size in 1..256.")
        if self.image_size > 16 * self.image_bucket_size:
            raise RefHCMError(
                f"image_size {self.image_size} is too large: {self.image_bucket_size} cells of 16 pixels "
                "have positions in each direction, no more."
            )


def _is_number(value: Any) -> bool:
    """Whether it is a number that fits into float32; JSON as Python reads it knows NaN and Infinity too."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e38


_FIXED_SWITCHES: dict[str, Any] = {
    "encoder_normalize_before": True,
    "decoder_normalize_before": True,
    "scale_attn": True,
    "scale_fc": True,
    "scale_heads": True,
    "scale_resids": False,
    "layernorm_embedding": True,
    "patch_layernorm_embedding": True,
    "code_layernorm_embedding": True,
    "add_type_embedding": True,
    "share_all_embeddings": True,
    "no_scale_embedding": True,
    "activation_fn": "gelu",
    "interpolate_position": False,
}
"""Arguments of the published runs that this code takes for granted (reference training scripts)."""

_PUBLISHED_NAMES: dict[str, tuple[str, ...]] = {
    "encoder_embed_dim": ("d_model",),
    "encoder_ffn_embed_dim": ("encoder_ffn_dim", "decoder_ffn_dim"),
    "decoder_ffn_embed_dim": ("decoder_ffn_dim",),
    "encoder_attention_heads": ("encoder_heads", "decoder_heads"),
    "decoder_attention_heads": ("decoder_heads",),
    "encoder_layers": ("encoder_layers",),
    "decoder_layers": ("decoder_layers",),
    "resnet_type": ("trunk",),
    "resnet_blocks": ("trunk_blocks",),
    "vocab_size": ("vocab_size",),
    "num_bins": ("num_bins",),
    "code_dict_size": ("num_codes",),
    "bos": ("bos",),
    "pad": ("pad",),
    "eos": ("eos",),
    "unk": ("unk",),
    "patch_image_size": ("image_size",),
    "max_source_positions": ("max_source_positions",),
    "max_target_positions": ("max_target_positions",),
    "token_bucket_size": ("token_bucket_size",),
    "image_bucket_size": ("image_bucket_size",),
    "code_image_size": ("code_image_size",),
    "attn_scale_factor": ("attn_scale_factor",),
    "entangle_position_embedding": ("entangle_encoder_positions",),
    "dropout": ("dropout",),
    "encoder_drop_path_rate": ("encoder_drop_path",),
    "decoder_drop_path_rate": ("decoder_drop_path",),
    "resnet_drop_path_rate": ("trunk_drop_path",),
    "freeze_resnet": ("freeze_trunk_norm",),
    "batch_norm_eps": ("trunk_norm_eps",),
}
"""Published argument -> our fields; later rows win, so an own decoder size replaces the encoder's."""


def _published(
    d_model: int, heads: int, encoder_layers: int, decoder_layers: int, trunk: str
) -> dict[str, Any]:
    return {
        "d_model": d_model,
        "encoder_ffn_dim": 4 * d_model,
        "decoder_ffn_dim": 4 * d_model,
        "encoder_heads": heads,
        "decoder_heads": heads,
        "encoder_layers": encoder_layers,
        "decoder_layers": decoder_layers,
        "trunk": trunk,
    }


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": _published(256, 4, 4, 4, "resnet50"),
    "medium": _published(512, 8, 4, 4, "resnet101"),
    "base": _published(768, 12, 6, 6, "resnet101"),
    "large": _published(1024, 16, 12, 12, "resnet152"),
    "huge": _published(1280, 16, 24, 12, "resnet152"),
    "compact": {
        **_published(256, 4, 4, 4, "efficientnet_lite0"),
        "vocab_size": 6000,
        "num_codes": 256,
        "image_size": 320,
        "image_mean": (0.485, 0.456, 0.406),
        "image_std": (0.229, 0.224, 0.225),
        # A network that starts from nothing finds places sooner when its inputs carry them too.
        "entangle_encoder_positions": True,
        "entangle_decoder_positions": True,
        "decoder_image_tables": False,
        "block_columns": 6,
        "trunk_norm_eps": 1e-3,
    },
}
"""Fields by size name; `vocab_size` and `num_codes` of compact are usually replaced by the tokenizer's."""
