"""The views of a batch that terms can ask for: of which part, embedded by whom, at which level."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

Views = dict[str, Tensor]


# unit: rows of the shared embedding; raw: before they are scaled to length 1; state: before the projection
Level = Literal["unit", "raw", "state"]


Tower = Literal["image", "text", "dropout", "teacher", "given"]


class View(NamedTuple):
    """One input of a term: the part of a batch, who embeds it, and at which level.

    ``dropout`` is the text tower with dropout, ``teacher`` the average of the image tower over the steps,
    without a gradient; ``given`` is not embedded.
    """

    part: str
    tower: Tower
    level: Level = "unit"

    @property
    def differentiable(self) -> bool:
        """Whether a gradient goes back through it."""
        return self.tower not in ("given", "teacher")

    @property
    def modality(self) -> Literal["image", "text"] | None:
        """Whose tower embeds it; None for what is given."""
        if self.tower == "given":
            return None
        return "text" if self.tower in ("text", "dropout") else "image"


# name -> view. The second image and text are other views of the same pair, the third image one more;
# fewer_words is the same caption with words left out; local images are small crops, (B, K, ...).
VIEWS: dict[str, View] = {
    "image_BD": View("image", "image"),
    "text_BD": View("text", "text"),
    "second_image_BD": View("second_image", "image"),
    "second_text_BD": View("second_text", "text"),
    "fewer_words_text_BD": View("fewer_words", "text"),
    "dropout_text_BD": View("text", "dropout"),
    "image_raw_BD": View("image", "image", "raw"),
    "text_raw_BD": View("text", "text", "raw"),
    "image_state_BW": View("image", "image", "state"),
    "second_image_state_BW": View("second_image", "image", "state"),
    "third_image_state_BW": View("third_image", "image", "state"),
    "text_state_BW": View("text", "text", "state"),
    "second_text_state_BW": View("second_text", "text", "state"),
    "local_state_BKW": View("local_images", "image", "state"),
    "teacher_state_BW": View("image", "teacher", "state"),
    "concept_B": View("concept_B", "given"),
    "semantic_BS": View("semantic_BS", "given"),
}
