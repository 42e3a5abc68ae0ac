"""Every model size as a fairseq architecture: `--arch refhcm_tiny` ... `refhcm_huge`, `refhcm_compact`, `refhcm`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model, register_model_architecture
from torch import Tensor, nn

from ..errors import RefHCMError
from ..models.adapters import LoraSettings, add_adapters
from ..models.config import PRESETS, ModelConfig
from ..models.initial import start_codes, start_places, start_weights
from ..models.label_map_files import load_label_map
from ..models.refhcm import RefHCM
from .muon import mark_matrices
from .parts import freeze, frozen_norms, recompute
from .sharding import spread
from .weights import described_sizes, load_initial

AUTOCAST = {"none": None, "bf16": torch.bfloat16}


@dataclass
class ModelOptions(FairseqDataclass):
    """Command-line options. -1 keeps the value of the named size, or of the folder in --init-from."""

    size: str = field(default="large", metadata={"help": "model size; set by --arch"})
    patch_image_size: int = field(default=-1, metadata={"help": "side of the square pictures, in pixels"})
    dropout: float = field(default=-1.0, metadata={"help": "dropout of the transformer"})
    encoder_drop_path_rate: float = field(default=-1.0, metadata={"help": "drop path of the encoder"})
    decoder_drop_path_rate: float = field(default=-1.0, metadata={"help": "drop path of the decoder"})
    resnet_drop_path_rate: float = field(default=-1.0, metadata={"help": "drop path of the image trunk"})
    freeze_resnet: bool = field(
        default=False, metadata={"help": "keep the trunk's batch norms on their running statistics"}
    )
    freeze_encoder_embedding: bool = field(default=False, metadata={"help": "do not train token embeddings"})
    freeze_decoder_embedding: bool = field(default=False, metadata={"help": "the same: both ends share them"})
    freeze: str = field(
        default="", metadata={"help": "NAME,NAME: do not train parameters whose names begin so (encoder.embed_images)"}
    )
    checkpoint_activations: bool = field(
        default=False, metadata={"help": "run each layer again in the backward pass, to keep less in memory"}
    )
    fully_shard: bool = field(
        default=False, metadata={"help": "spread weights and optimizer over all processes (torch's fully_shard)"}
    )
    lora_r: int = field(default=0, metadata={"help": "above 0: train LoRA adapters of this rank and nothing else"})
    lora_alpha: float = field(default=16.0, metadata={"help": "adapters count lora_alpha / lora_r times"})
    lora_dropout: float = field(default=0.0, metadata={"help": "dropout before the adapters"})
    lora_target_modules: str = field(
        default="q_proj,v_proj", metadata={"help": "last parts of the names of the layers that get adapters"}
    )
    init_from: str = field(
        default="", metadata={"help": "start from a model folder, a published .pt file or a run's checkpoint (weights)"}
    )
    resize_places: bool = field(
        default=False, metadata={"help": "with --init-from a folder: carry its places over to another picture size"}
    )
    trunk_levels: int = field(
        default=-1, metadata={"help": "1 to 3: let cells know finer features too (compact only)"}
    )
    imagenet: bool = field(
        default=False, metadata={"help": "start the trunk from ImageNet weights (compact only)"}
    )
    start_places: bool = field(
        default=False, metadata={"help": "begin bins and picture cells as Fourier features of their places"}
    )
    start_codes: str = field(
        default="", metadata={"help": "folder of the label-map tokenizer: begin its codes by what they stand for"}
    )
    autocast: str = field(
        default="none", metadata={"help": "none, or bf16: mixed precision without loss scaling, CPU or GPU"}
    )


_OVERRIDES = {
    "patch_image_size": "image_size",
    "trunk_levels": "trunk_levels",
    "dropout": "dropout",
    "encoder_drop_path_rate": "encoder_drop_path",
    "decoder_drop_path_rate": "decoder_drop_path",
    "resnet_drop_path_rate": "trunk_drop_path",
}


@register_model("refhcm", dataclass=ModelOptions)
class FairseqRefHCM(BaseFairseqModel, RefHCM):
    """RefHCM with fairseq's manners; it is the network itself, so checkpoints keep the published names."""

    def __init__(self, config: ModelConfig, autocast: str = "none") -> None:
        RefHCM.__init__(self, config)
        self._is_generation_fast = False  # what BaseFairseqModel.__init__ sets; it cannot pass `config` on
        if autocast not in AUTOCAST:
            raise RefHCMError(f"--autocast is one of {', '.join(AUTOCAST)}, not {autocast!r}.")
        self.autocast = AUTOCAST[autocast]
        self.num_updates = 0
        self.fully_shard = False
        self.adapters: LoraSettings | None = None
        self.still: list[nn.Module] = []
        """Norms that stay in evaluation mode."""

    @classmethod
    def build_model(cls, cfg: ModelOptions, task: Any) -> "FairseqRefHCM":
        """The network of this size over the task's token space, started as asked."""
        vocabulary = task.vocabulary
        changes = {ours: cfg[theirs] for theirs, ours in _OVERRIDES.items() if cfg[theirs] >= 0}
        changes = described_sizes(cfg.init_from) | changes
        config = ModelConfig.preset(
            cfg.size,
            vocab_size=vocabulary.size,
            num_bins=vocabulary.num_bins,
            num_codes=vocabulary.num_codes,
            freeze_trunk_norm=cfg.freeze_resnet,
            **changes,
        )
        model = cls(config, cfg.autocast)
        if cfg.init_from:
            load_initial(model, cfg.init_from, cfg.resize_places)
        else:
            if cfg.start_places:
                start_places(model, vocabulary.bin_span)
                start_weights(model)
            if cfg.imagenet:
                model.load_imagenet()
        if cfg.start_codes:
            start_codes(model, vocabulary.label_span, load_label_map(cfg.start_codes).quantize.embedding.weight)
        if cfg.freeze_encoder_embedding or cfg.freeze_decoder_embedding:
            model.encoder.embed_tokens.weight.requires_grad_(False)
        if cfg.lora_r:
            targets = tuple(name for name in cfg.lora_target_modules.split(",") if name)
            model.adapters = LoraSettings(cfg.lora_r, cfg.lora_alpha, cfg.lora_dropout, targets)
            add_adapters(model, model.adapters)
        mark_matrices(model)
        freeze(model, cfg.freeze)
        model.fully_shard = cfg.fully_shard
        if cfg.checkpoint_activations:
            recompute(model)
        if cfg.lora_r or cfg.freeze:
            model.still = frozen_norms(model)
        return model

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As in fairseq; whole tensors also go into weights that are spread over processes."""
        spread_out = self.named_parameters(remove_duplicate=False)
        parts = {name: spread(state_dict[name], weight) for name, weight in spread_out if name in state_dict}
        return super().load_state_dict({**state_dict, **parts}, *args, **kwargs)

    def train(self, mode: bool = True) -> "FairseqRefHCM":
        """As in torch; norms of frozen parts stay on their running statistics."""
        super().train(mode)
        for norm in getattr(self, "still", ()):
            norm.eval()
        return self

    def set_num_updates(self, num_updates: int) -> None:
        """Told by the trainer before each step; the loss reads it."""
        super().set_num_updates(num_updates)
        self.num_updates = num_updates

    def _precision(self) -> torch.autocast:
        device = self.encoder.embed_tokens.weight.device.type
        return torch.autocast(device, self.autocast, enabled=self.autocast is not None)

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, dict[str, Any]]:
        """As `RefHCM.forward`, under mixed precision if asked."""
        with self._precision():
            return RefHCM.forward(self, *args, **kwargs)

    def logits(self, features: Tensor, ids: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """As `RefHCM.logits`, under mixed precision if asked."""
        with self._precision():
            return RefHCM.logits(self, features, ids)


def _sized(size: str) -> Callable[[Any], None]:
    """What fairseq calls to turn `--arch refhcm_SIZE` into options."""

    def set_size(args: Any) -> None:
        args.size = size

    return set_size


for _size in PRESETS:
    register_model_architecture("refhcm", f"refhcm_{_size}")(_sized(_size))
