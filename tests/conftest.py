"""A complete model with random weights, small enough to be made in a second, for tests of everything above it."""

import importlib.util
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image

from refhcm.data.text import SentencePieceText, train_sentencepiece
from refhcm.data.vocabulary import Vocabulary
from refhcm.data.vocabulary_file import TEXT_MODEL, describe_vocabulary
from refhcm.models.checkpoint import save_folder
from refhcm.models.config import ModelConfig
from refhcm.models.label_map import LabelMapConfig, LabelMapTokenizer
from refhcm.models.label_map_files import save_label_map
from refhcm.models.refhcm import RefHCM

ROOT = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)  # tiny tensors: threads cost more than they bring, most of all on a busy machine


@pytest.fixture(autouse=True)
def one_thread():
    """Commands that a test runs set the number of threads of the whole process. Tests that fork would then wait for
    ever: OpenMP in a forked process waits for threads that did not come along."""
    yield
    torch.set_num_threads(1)


hypothesis.settings.register_profile("no clock", deadline=None)
hypothesis.settings.load_profile("no clock")

SENTENCES = (
    "the woman in the red coat on the left",
    "a tall man with short hair wearing a blue shirt and black trousers",
    "which region does the text describe? Provide the parsing map and the keypoints.",
    "what does the region describe?",
    "the person who is sitting, third from the right",
)


@pytest.fixture(scope="session")
def tiny_text_model(tmp_path_factory):
    """File of a SentencePiece model of 400 pieces at most."""
    path = tmp_path_factory.mktemp("text") / TEXT_MODEL
    train_sentencepiece(SENTENCES * 4, path, 400)
    return path


@pytest.fixture(scope="session")
def tiny_vocabulary(tiny_text_model):
    """SentencePiece with bytes, 16 part codes, 64 bins."""
    return Vocabulary(SentencePieceText(tiny_text_model), num_codes=66, num_bins=64, label_codes=16, mark_start=16)


@pytest.fixture(scope="session")
def tiny_model(tiny_vocabulary):
    """One layer on each side, three bottlenecks, 64 x 64 pixels; random weights, always the same."""
    torch.manual_seed(3)
    config = ModelConfig(
        d_model=32, encoder_ffn_dim=64, decoder_ffn_dim=64, encoder_heads=2, decoder_heads=2, encoder_layers=1,
        decoder_layers=1, trunk="resnet18", trunk_blocks=(1, 1, 1), vocab_size=tiny_vocabulary.size,
        num_bins=tiny_vocabulary.num_bins, num_codes=tiny_vocabulary.num_codes, image_size=64, image_bucket_size=4,
        max_source_positions=512, max_target_positions=512, token_bucket_size=16, decoder_image_tables=False,
    )  # fmt: skip
    model = RefHCM(config).eval()
    for parameter in model.parameters():  # larger than where training starts, so that answers differ from one another
        if parameter.dim() > 1:
            parameter.data.mul_(4)
    return model


@pytest.fixture(scope="session")
def tiny_label_map():
    """8 x 6 codes out of 16, on crops of 16 x 12 pixels; random weights, always the same."""
    torch.manual_seed(4)
    config = LabelMapConfig(
        height=16, width=12, channels=8, multipliers=(1,), blocks=1, attention_levels=(), latent=8, embedding=8,
        codebook=16, groups=4, fold=2,
    )  # fmt: skip
    return LabelMapTokenizer(config).eval()


@pytest.fixture
def tiny_predictor(tiny_model, tiny_vocabulary, tiny_label_map):
    """`RefHCMPredictor` on those parts."""
    from refhcm.inference.predictor import RefHCMPredictor

    return RefHCMPredictor(tiny_model, tiny_vocabulary, tiny_label_map)


@pytest.fixture(scope="session")
def tiny_masks():
    """A mask tokenizer: 8 x 6 codes out of 12, on crops of 16 x 12 pixels; random weights, always the same."""
    torch.manual_seed(6)
    config = LabelMapConfig(
        classes=3, height=16, width=12, channels=8, multipliers=(1,), blocks=1, attention_levels=(), latent=8,
        embedding=8, codebook=12, groups=4, fold=2,
    )  # fmt: skip
    return LabelMapTokenizer(config).eval()


@pytest.fixture(scope="session")
def people_model(tiny_model, tiny_vocabulary):
    """The same network with codes for masks, and its token space."""
    from refhcm.models.add_codes import grow

    vocabulary = tiny_vocabulary.with_masks(12, 48)
    model = grow(tiny_model, tiny_vocabulary, vocabulary)
    torch.manual_seed(7)
    with torch.no_grad():
        model.encoder.embed_tokens.weight[slice(*vocabulary.code_span)].normal_(std=0.3)
    return model, vocabulary


@pytest.fixture
def people_predictor(people_model, tiny_label_map, tiny_masks):
    """A predictor with all abilities."""
    from refhcm.inference.predictor import RefHCMPredictor
    from refhcm.models.abilities import Abilities
    from refhcm.tasks import names

    model, vocabulary = people_model
    trained = tuple(name for name in names() if name != "rpar")
    able = Abilities(trained, region_prompts=True, point_prompts=True, nobody=True)
    return RefHCMPredictor(model, vocabulary, tiny_label_map, masks=tiny_masks, abilities=able)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory, tiny_model, tiny_vocabulary, tiny_text_model, tiny_label_map):
    """The same parts as a model folder of our format (not to be written into; copy it first)."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    sections = {"vocabulary": describe_vocabulary(tiny_vocabulary)}
    save_folder(folder, tiny_model, sections, torch.float32, files=[tiny_text_model])
    save_label_map(folder, tiny_label_map, torch.float32)
    return folder


@pytest.fixture
def photo():
    """A 90 x 60 picture of random pixels."""
    pixels = np.random.default_rng(5).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def command(monkeypatch):
    """evaluate.py as a module."""
    monkeypatch.syspath_prepend(str(ROOT))
    spec = importlib.util.spec_from_file_location("evaluate_script", ROOT / "evaluate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(capsys):
    """Run the command: (exit code, stdout, stderr)."""
    from refhcm import cli

    def run(*arguments):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # from argparse
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run
