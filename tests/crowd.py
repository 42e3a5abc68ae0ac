"""A dataset file about pictures of three people each: rows about one, several, nobody and everybody."""

import numpy as np
from PIL import Image

from refhcm.data.annotation import PART_NAMES
from refhcm.data.masks import encode_mask
from refhcm.data.person_file import Person, PersonRow, PersonWriter

SIZE = (60, 40)
PICTURES = 2


def person(folder, number, left, random):
    """A person of 14 x 30 pixels, every pixel of the inner 12 x 28 theirs, with a part map beside the file."""
    mask = np.zeros(SIZE[::-1], bool)
    mask[6:34, left + 1 : left + 13] = True
    parts = np.where(mask, random.integers(1, len(PART_NAMES), mask.shape), 0).astype(np.uint8)
    name = f"parts{number}-{left}.png"
    Image.fromarray(parts).save(folder / name)
    points = np.column_stack([random.uniform(left + 2, left + 12, 17), random.uniform(7, 33, 17), np.full(17, 2)])
    return Person((left, 5, left + 14, 35), points, encode_mask(mask), name)


def write_crowd(folder):
    """The file: per picture three rows about one, one each about two, nobody and everybody."""
    random = np.random.default_rng(3)
    with PersonWriter(folder / "crowd.tsv") as out:
        for number in range(PICTURES):
            picture = f"{number}.png"
            pixels = random.integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / picture)
            people = [person(folder, number, left, random) for left in (2, 22, 42)]
            rows = [(f"{place}", (one,), f"man on place {place}") for place, one in enumerate(people)]
            rows += [("two", (people[2], people[0]), "men at the sides"), ("none", (), "a horse")]
            for name, meant, words in rows:
                captions = (f"a man {name}",) if len(meant) == 1 else ()
                out.add(PersonRow(f"{number}{name}", str(number), picture, meant, words, captions))
            out.add(PersonRow(f"{number}all", str(number), picture, tuple(people), everybody=True))
    return folder / "crowd.tsv"
