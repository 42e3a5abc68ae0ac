"""A source tree in the layout of `refer`: photos of COCO, their objects, keypoints and referring expressions, with the
quirks of the real ones."""

import json

from converted import save_picture
from PIL import Image

CROWD = 900100000110
"""Ids of crowds have twelve digits."""
TRAIN = "images/train2014"


def rectangle(x, y, width, height):
    """A polygon as COCO has it."""
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def thing(number, image, box, polygons=None, category=1, **more):
    """An entry of `annotations`."""
    polygons = [rectangle(*box)] if polygons is None else polygons
    return {
        "id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0, "segmentation": polygons,
        "area": box[2] * box[3] - 0.5, **more,
    }  # fmt: skip


def points(*labelled):
    """51 numbers, of which some (index, x, y, v) are labelled."""
    values = [0] * 51
    for index, x, y, v in labelled:
        values[3 * index : 3 * index + 3] = [x, y, v]
    return values


def name(image, serial=None):
    """A picture's name; references add a serial number, so that theirs is no file."""
    return f"COCO_train2014_{image:012d}{'' if serial is None else f'_{serial}'}.jpg"


def ref(number, annotation, image, *texts, split="train", category=1, **more):
    """An entry of refs(...).p."""
    sentences = [
        {"tokens": text.split(), "raw": text.upper() + " ", "sent": text, "sent_id": number * 10 + k}
        for k, text in enumerate(texts)
    ]
    return {
        "ref_id": number, "ann_id": annotation, "category_id": category, "image_id": image, "split": split,
        "file_name": name(image, annotation), "sent_ids": [s["sent_id"] for s in sentences], "sentences": sentences,
        **more,
    }  # fmt: skip


SIZES = {110: (60, 40), 220: (50, 50), 330: (64, 48), 440: (40, 40), 550: (10, 10)}
ANNOTATIONS = [
    thing(1, 110, [5.25, 5, 20, 30]),
    thing(2, 110, [30, 10, 12, 12], [rectangle(30, 10, 8, 8), rectangle(34, 14, 8, 8)]),
    thing(CROWD, 110, [0, 0, 60, 40], {"counts": [100, 300, 2000], "size": [40, 60]}, iscrowd=1, area=300),
    thing(3, 220, [1, 1, 40, 45]),
    thing(4, 220, [7, 7, 0, 12]),
    thing(5, 330, [10, 10, 20, 20], category=18),
    thing(6, 330, [40, -2, 30, 40.5]),
    thing(7, 440, [2, 2, 30, 30]),
    thing(8, 550, [1, 1, 5, 5]),
]
KEYPOINTS = {
    1: points((0, 10, 8, 2), (5, 9, 20, 1)),
    2: points(),
    3: points((0, 20, 5, 2)),
    6: points((0, 50, 10, 2), (15, 20, 45, 1)),  # an ankle outside the box
    7: points((0, 10, 8, 2)),
}
REFS = [
    ref(1, 1, 110, "man on left", "café waiter", ""),
    ref(2, 2, 110, "the kid w/ cap"),
    ref(3, 5, 330, "a dog", category=18),
    ref(4, 6, 330, "right person", split="testA"),
    ref(5, 4, 220, "nobody there"),
    ref(6, 8, 550, "lost photo"),
    ref(7, 7, 440, "man, under the name of 2017", split="val"),
    ref(8, CROWD, 110, "the crowd"),
    ref(9, 1, 220, "of another photo"),
    ref(10, 3, 220, "grey lady", split="testA"),
]


def save_images(folder):
    """The photos: one grey, one CMYK, one under the name of another release, one missing."""
    save_picture(folder / name(110), SIZES[110])
    Image.new("L", SIZES[220], 90).save(folder / name(220))
    Image.new("CMYK", SIZES[330]).save(folder / name(330))
    save_picture(folder / "000000000440.jpg", SIZES[440])


def coco(annotations):
    """A file in COCO's layout."""
    images = [
        {"id": image, "file_name": name(image), "width": width, "height": height}
        for image, (width, height) in SIZES.items()
    ]
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def people():
    """The annotations of person_keypoints_train2014.json."""
    found = [entry for entry in ANNOTATIONS if entry["id"] in KEYPOINTS]
    return [{**entry, "keypoints": KEYPOINTS[entry["id"]], "num_keypoints": 1} for entry in found]


def make_tree(root, dataset="refcoco", by="unc", refs=REFS):
    """The whole tree; gives its root."""
    save_images(root / TRAIN)
    (root / dataset).mkdir()
    (root / "annotations").mkdir()
    (root / dataset / "instances.json").write_text(json.dumps(coco(ANNOTATIONS)))
    (root / "annotations" / "person_keypoints_train2014.json").write_text(json.dumps(coco(people())))
    (root / dataset / f"refs({by}).p").write_bytes(python2_pickle(refs))
    return root


# -- pickles as Python 2 wrote them ----------------------------------------------------------------------
def python2_pickle(value, encoding="utf-8"):
    """Protocol 0, texts as bytes."""
    return _python2(value, encoding) + b"."


def _python2(value, encoding):
    if isinstance(value, bool):
        return b"I01\n" if value else b"I00\n"
    if isinstance(value, int):
        return f"L{value}L\n".encode() if value >= 1 << 31 else f"I{value}\n".encode()
    if isinstance(value, str):
        return b"S" + repr(value.encode(encoding))[1:].encode() + b"\n"
    if isinstance(value, list):
        return b"(l" + b"".join(_python2(entry, encoding) + b"a" for entry in value)
    entries = (_python2(key, encoding) + _python2(entry, encoding) + b"s" for key, entry in value.items())
    return b"(d" + b"".join(entries)
