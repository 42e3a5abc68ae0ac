"""Drawing: a mask is tinted where it is and nowhere else, with smooth edges; several people differ in colour."""

import numpy as np
import pytest
from PIL import Image

from refhcm.errors import RefHCMError
from refhcm.inference.answer import Answer
from refhcm.inference.answers import save_answers
from refhcm.inference.draw import MASK_COLOUR, OTHERS_COLOUR, PEOPLE_COLOURS, draw_answers
from refhcm.inference.draw_fills import paint_mask
from refhcm.inference.region_map import RegionMap

SIZE = (120, 90)
GREY = Image.new("RGB", SIZE, (90, 90, 90))


def circle(x=60, y=45, radius=25):
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def near(picture, colour, place, most=60):
    return np.abs(np.asarray(picture, int)[place[1], place[0]] - colour).sum() < most


def test_a_mask_is_tinted_inside_and_untouched_outside():
    drawn = Answer(SIZE, "him", mask=circle()).draw(GREY, panel=False)
    pixels = np.asarray(drawn, int)
    assert (pixels[~circle(radius=32)] == 90).all()
    inside = circle(radius=18)
    assert (pixels[inside] != 90).any(-1).all() and len(np.unique(pixels[inside], axis=0)) == 1
    tint = pixels[45, 60] - 90
    assert (np.sign(tint) == np.sign(np.array(MASK_COLOUR) - 90)).all()


def test_the_outline_of_an_enlarged_mask_has_no_steps():
    mask = np.zeros((9, 12), bool)
    mask[2:6, 3:8] = np.eye(4, 5, dtype=bool) | np.tri(4, 5, dtype=bool)
    big = np.asarray(paint_mask(Image.new("RGB", (960, 720)), mask, (255, 255, 255), 1.0), int)[..., 0]
    assert big.max() > 200 and np.abs(np.diff(big, axis=1)).max() < 40 and np.abs(np.diff(big, axis=0)).max() < 40


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3000, 2), (2500, 1800)])
def test_masks_of_any_size_can_be_drawn(size):
    for mask in (np.ones(size[::-1], bool), np.zeros(size[::-1], bool)):
        answer = Answer(size, "him", box=(0, 0, *size), mask=mask)
        assert answer.draw(Image.new("RGB", size)).width >= size[0]
        assert draw_answers(Image.new("RGB", size), [answer] * 12, panel=False).size == size


def test_a_region_map_shows_the_person_and_the_others():
    logits = np.full((3, 8, 6), -5, np.float32)
    logits[1, :, :3] = logits[2, :, 3:] = 5
    answer = Answer(SIZE, region=(20, 10, 100, 80), region_map=RegionMap((20, 10, 100, 80), SIZE, logits))
    pixels = np.asarray(answer.draw(GREY, panel=False), int)
    for x, colour in ((30, MASK_COLOUR), (90, OTHERS_COLOUR)):
        assert (np.sign(pixels[45, x] - 90) == np.sign(np.array(colour) - 90)).all()
    assert (pixels[45, 5] == 90).all()


def test_everybody_has_a_colour_and_a_place_of_their_own():
    boxes = [(10.0 + 40 * i, 40.0, 30.0 + 40 * i, 80.0) for i in range(3)]
    people = [Answer(SIZE, box=box, score=0.5) for box in boxes]
    drawn = draw_answers(GREY, people, panel=False)
    for box, colour in zip(boxes, PEOPLE_COLOURS, strict=False):
        assert any(near(drawn, colour, (round(box[2]) - shift, 60)) for shift in range(4))
    assert drawn.size == SIZE and draw_answers(GREY, people).height > 540
    assert (np.asarray(draw_answers(GREY, [], panel=False)) == np.asarray(GREY)).all()
    assert draw_answers(GREY, [], text="the giants").height > 540
    with pytest.raises(RefHCMError, match="different sizes"):
        draw_answers(GREY, [people[0], Answer((5, 5))])
    with pytest.raises(RefHCMError, match="one answer draws itself"):
        draw_answers(GREY, people[0])
    with pytest.raises(RefHCMError, match="120 x 90"):
        draw_answers(Image.new("RGB", (5, 5)), people)


def test_answers_of_everybody_are_saved_together(tmp_path):
    people = [Answer(SIZE, box=(1.0, 2.0, 30.0, 40.0), mask=circle(x)) for x in (30, 80)]
    paths = save_answers(people, tmp_path / "new", "all", GREY)
    assert [path.name for path in paths] == ["all.json", "all_1_mask.png", "all_2_mask.png", "all.png"]
    assert (np.asarray(Image.open(paths[2])) == 255 * people[1].mask).all()
    assert '"mask": "all_2_mask.png"' in paths[0].read_text()
    assert save_answers([], tmp_path, "none")[0].read_text() == "[]\n"
