"""RKpt, referring keypoints: words in, the person's box and 17 COCO keypoints out."""

from ..data.vocabulary import Vocabulary
from .rec import Rec
from .segments import BoxSegment, Segment, pose_segment
from .task import Task, register


@register
class RKpt(Task):
    """Answer: four bins, then name, x, y of each visible keypoint. Scored by OKS and keypoint AP (and the box)."""

    name = "rkpt"
    needs = ("box", "keypoints")
    prompt = Rec.prompt + " Provide the bounding box and keypoints."

    def __init__(
        self, vocabulary: Vocabulary, max_words: int = 80, clamp: bool = True, inside: bool = False
    ) -> None:
        segments: list[Segment] = [BoxSegment(vocabulary, clamp), pose_segment(vocabulary, clamp, inside)]
        super().__init__(vocabulary, segments, max_words, clamp)
