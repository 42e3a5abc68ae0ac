"""RPar, referring parsing: words in, the person's box and body-part map (as 48 codes) out.

`rpar` writes the codes one after the other. `rpar_full_mask` is RefHCM's Query Parallel Generation: the codes come out
of one decoder pass in which 48 query tokens see each other. Both answer the same instruction.
"""

from ..data.vocabulary import Vocabulary
from .rec import Rec
from .segments import BoxSegment, PartsSegment
from .task import Task, register


@register
class RPar(Task):
    """Answer: four bins, then 48 codes. Scored by mean IoU over part classes (and the box)."""

    name = "rpar"
    needs = ("box", "codes")
    prompt = Rec.prompt + " Provide the bounding box and the parsing map."
    block = False

    def __init__(
        self, vocabulary: Vocabulary, max_words: int = 80, clamp: bool = True, end_seen: bool = False
    ) -> None:
        parts = PartsSegment(vocabulary, self.block, end_seen)
        super().__init__(vocabulary, [BoxSegment(vocabulary, clamp), parts], max_words, clamp)


@register
class RParFullMask(RPar):
    """Answer: four bins, `<code_40>`, then the 48 codes in one pass."""

    name = "rpar_full_mask"
    block = True
