"""RHrc, referring human-region captioning: a region in, a description of the person out."""

from ..data.vocabulary import Vocabulary
from .segments import CaptionSegment
from .task import Task, register


@register
class RHrc(Task):
    """Answer: a sentence or two. Scored by CIDEr-D."""

    name = "rhrc"
    needs = ("captions",)
    by_region = True
    prompt = " what does the region {} describe?"

    def __init__(
        self, vocabulary: Vocabulary, max_words: int = 80, clamp: bool = True, max_target_words: int = 100,
        max_tokens: int = 200,
    ) -> None:  # fmt: skip
        segment = CaptionSegment(vocabulary, max_target_words, max_tokens)
        super().__init__(vocabulary, [segment], max_words, clamp)
