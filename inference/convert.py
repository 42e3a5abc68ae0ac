"""Published files -> one model folder that `refhcm.load` takes."""

from __future__ import annotations

from pathlib import Path

from ..data.text import PUBLISHED_FILES, check_published
from ..errors import RefHCMError
from ..models.checkpoint import convert_published, read_published_vqgan
from ..models.label_map_files import CONFIG_NAME, from_published, save_label_map

_DICTIONARY = PUBLISHED_FILES[0]


def convert(
    checkpoint: str | Path,
    folder: str | Path,
    *,
    dictionary: str | Path | None = None,
    vqgan: str | Path | None = None,
    ema: bool = False,
) -> list[str]:
    """Make `folder` of a published OFA or RefHCM checkpoint; nothing in the files is executed.

    Args:
        dictionary: fairseq's dict.txt, checked and copied.
        vqgan: The published parsing tokenizer (Lightning .ckpt); part maps need it.
        ema: Take the averaged weights.

    Returns one sentence for each thing that the folder still lacks. RefHCMError or FileNotFoundError when a file
    cannot be used; the small files are looked at first.
    """
    checkpoint, folder = Path(checkpoint), Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RefHCMError(f"{folder} is a file: name a folder to write the model to.")
    words = None
    if dictionary is not None:
        if not Path(dictionary).is_file():
            raise FileNotFoundError(f"There is no file {dictionary}: it is published at {_DICTIONARY.url}.")
        with Path(dictionary).open("rb") as file:
            words = check_published(_DICTIONARY, file.read(_DICTIONARY.size + 1), str(dictionary))
    label_map = None if vqgan is None else from_published(read_published_vqgan(vqgan))
    convert_published(checkpoint, folder, ema=ema)
    if words is not None:
        (folder / _DICTIONARY.name).write_bytes(words)
    if label_map is not None:
        save_label_map(folder, label_map)
    missing = []
    if not (folder / _DICTIONARY.name).is_file():
        missing.append(f"Still needed: dict.txt; `python -m refhcm.data.fetch {folder}` downloads it.")
    if not (folder / CONFIG_NAME).is_file():
        missing.append("Without the parsing tokenizer (--vqgan) the model cannot answer 'parsing'.")
    return missing
