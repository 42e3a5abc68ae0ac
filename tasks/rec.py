"""REC, referring expression comprehension: words in, the person's box out."""

from ..data.vocabulary import Vocabulary
from .segments import BoxSegment
from .task import Task, register


@register
class Rec(Task):
    """Answer: four bins. Scored by box accuracy at IoU 0.5 and 0.75."""

    name = "rec"
    needs = ("box",)
    by_words = True
    prompt = ' which region does the text " {} " describe?'

    def __init__(self, vocabulary: Vocabulary, max_words: int = 80, clamp: bool = True) -> None:
        super().__init__(vocabulary, [BoxSegment(vocabulary, clamp)], max_words, clamp)
