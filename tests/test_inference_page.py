"""Pages of answers: the answer on the left and the truth on the right, in one file."""

import base64
import io
import re

import numpy as np
from PIL import Image

from refhcm.data.annotation import Annotation, Question
from refhcm.inference.draw import BOX_COLOUR, PEOPLE_COLOURS
from refhcm.inference.page import GAP, SIDE, Entry, as_jpeg, draw_pair, page, resize, write_page
from refhcm.tasks import Reading

SIZE = (400, 200)


def entry(found: Reading, text: str | None = "the man", **truth) -> Entry:
    question = Question(SIZE, text, None if text else (10.0, 10.0, 90.0, 90.0))
    return Entry("rec", resize(Image.new("RGB", SIZE, (90, 90, 90))), question, found, Annotation(SIZE, **truth))


def coloured(side: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere(np.abs(side.astype(int) - colour).sum(-1) < 90)


def test_both_sides_are_drawn_where_they_belong():
    right, wrong = (300.0, 20.0, 380.0, 180.0), (20.0, 40.0, 100.0, 160.0)
    sheet = np.asarray(draw_pair(entry(Reading(box=wrong, box_score=0.4), box=right)))
    assert sheet.shape == (SIDE // 2, 2 * SIDE + GAP, 3)
    scale = SIDE / SIZE[0]
    for side, box in ((sheet[:, :SIDE], wrong), (sheet[:, SIDE + GAP :], right)):
        places = coloured(side, BOX_COLOUR) / scale
        assert np.abs(places.min(0) - np.array(box)[[1, 0]]).max() < 15  # the score's tag stands above the box
        assert np.abs(places.max(0) - np.array(box)[[3, 2]]).max() < 4


def test_the_truth_shows_only_what_was_asked_for():
    known = {"box": (50.0, 20.0, 150.0, 180.0), "parts": np.full(SIZE[::-1], 5, np.uint8),
             "keypoints": np.full((17, 3), 100.0)}  # fmt: skip
    only_box = entry(Reading(box=known["box"]), **known)
    plain = entry(Reading(box=known["box"]), box=known["box"])
    assert draw_pair(only_box) == draw_pair(plain)
    assert draw_pair(entry(Reading(box=known["box"], parts=known["parts"]), **known)) != draw_pair(plain)


def test_masks_people_and_points_are_drawn_on_both_sides():
    half = np.zeros(SIZE[::-1], bool)
    half[:, :200] = True
    found, right = (20.0, 20.0, 180.0, 180.0), (220.0, 20.0, 380.0, 180.0)
    sheet = np.asarray(draw_pair(entry(Reading(box=found, mask=half), box=right, mask=~half)), int)
    left, truth = sheet[:, :SIDE], sheet[:, SIDE + GAP :]
    assert (left[30:-30, 60:180] != 90).any(-1).all() and (left[30:-30, 300:400] == 90).all()
    assert (truth[30:-30, 300:400] != 90).any(-1).all() and (truth[30:-30, 60:180] == 90).all()
    people = Reading(people=(Reading(box=found), Reading(box=right)))
    meant = entry(people, people=(Annotation(SIZE, box=right),))
    sheet = np.asarray(draw_pair(meant), int)
    assert len(coloured(sheet[:, :SIDE], PEOPLE_COLOURS[0])) and len(coloured(sheet[:, :SIDE], PEOPLE_COLOURS[1]))
    assert len(coloured(sheet[:, SIDE:], PEOPLE_COLOURS[0])) and not len(coloured(sheet[:, SIDE:], PEOPLE_COLOURS[1]))
    nobody = np.asarray(draw_pair(entry(Reading(present=False), box=right)), int)
    assert (nobody[:, :SIDE] == 90).all() and len(coloured(nobody[:, SIDE:], BOX_COLOUR))
    asked = Entry("people", resize(Image.new("RGB", SIZE)), Question(SIZE, everybody=True), people, Annotation(SIZE))
    assert "everybody" in page("valid", {}, [asked], [b""])
    pointed = Entry("rec", asked.picture, Question(SIZE, points=(((200.0, 100.0),),)), Reading(), Annotation(SIZE))
    assert len(coloured(np.asarray(draw_pair(pointed)), (255, 255, 255)))


def test_a_page_holds_its_pictures_and_says_everything_as_text():
    asked = entry(Reading(box=(1.0, 1.0, 9.0, 9.0)), text="<b>the man</b>", box=(1.0, 1.0, 9.0, 9.0))
    told = entry(Reading(caption="a <man>"), text=None, box=(10.0, 10.0, 90.0, 90.0), captions=("a man", "one man"))
    drawn = [as_jpeg(draw_pair(one)) for one in (asked, told)]
    content = page("valid, update 3", {"rec/box_acc@0.5": 0.25}, [asked, told], drawn)
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', content)
    assert [Image.open(io.BytesIO(base64.b64decode(data))).format for data in pictures] == ["JPEG", "JPEG"]
    assert "<b>the man</b>" not in content and "&lt;b&gt;the man&lt;/b&gt;" in content
    assert "a &lt;man&gt;" in content and "a man / one man" in content and "0.2500" in content
    assert not re.search(r'(src|href)="(http|/|\.\.)', content)


def test_the_oldest_pages_make_room(tmp_path):
    for update in range(5):
        write_page(tmp_path / "pictures", f"{update:08d}-valid", f"page {update}", keep=3)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["00000002-valid.html", "00000003-valid.html", "00000004-valid.html", "index.html"]
    links = re.findall(r'href="([^"]+)"', (tmp_path / "pictures" / "index.html").read_text())
    assert links == names[2::-1]
