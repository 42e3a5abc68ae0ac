"""S1: one instruction that asks for the box, the keypoints and the body-part map at once.

The published demo reaches this by asking again with a forced beginning until everything has come, encoding the picture
each time. Here it is a task like the others: one encode, one answer, complete by its grammar. With block
decoding the part map comes before the keypoints, so that all rows of a batch reach the block at the same step.
"""

from ..data.vocabulary import Vocabulary
from .rec import Rec
from .segments import BoxSegment, PartsSegment, Segment, pose_segment
from .task import Task, register


@register
class S1(Task):
    """Answer: four bins, the part map, the keypoints (token by token: keypoints first, as published)."""

    name = "s1"
    needs = ("box", "keypoints", "codes")
    prompt = Rec.prompt + " Provide the parsing map and the keypoints."

    def __init__(
        self, vocabulary: Vocabulary, max_words: int = 80, clamp: bool = True, block: bool = True, inside: bool = False
    ) -> None:
        keypoints, parts = pose_segment(vocabulary, clamp, inside), PartsSegment(vocabulary, block)
        rest: list[Segment] = [parts, keypoints] if block else [keypoints, parts]
        super().__init__(vocabulary, [BoxSegment(vocabulary, clamp), *rest], max_words, clamp)
