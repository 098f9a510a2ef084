"""Samples that cannot be used: counted by shard, named, and tolerated up to a limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from crossgap.errors import InputError

LEAVE_OUT = " (--max-bad N would leave up to N such samples out)"  # at the end of a message


@dataclass(kw_only=True)
class BadSamples:
    """What was left out so far; ``limit`` is how many may be. ``say`` is told of each that is tolerated.

    Each of several processes counts what it met itself: they read the same shards, so the limit is one of the
    data, not of a process's share.
    """

    limit: int
    reasons: list[str] = field(default_factory=list)
    by_shard: Counter[str] = field(default_factory=Counter)
    say: Callable[[str], None] | None = None

    def remember(self, reasons: Iterable[str]) -> None:
        """Count what a run met before it was interrupted."""
        self.reasons.extend(reason for reason in reasons if reason not in self.reasons)

    def summary(self, most: int = 3) -> list[str]:
        """Say in a sentence how many were left out, and which first; nothing where none was."""
        if not self.reasons:
            return []
        shown = "; ".join(self.reasons[:most]) + ("; ..." if len(self.reasons) > most else "")
        return [f"Bad samples left out: {len(self.reasons)} ({shown})."]

    def add(self, where: str, error: InputError) -> None:
        """Count one of the shard, or other source, ``where``; what was counted before is not again.

        Raises:
            InputError: it is one more than the limit; names the first five.
        """
        reason = str(error).removesuffix(LEAVE_OUT)
        if reason in self.reasons:  # a stream meets it in each pass
            return
        self.reasons.append(reason)
        self.by_shard[where] += 1
        if len(self.reasons) > self.limit:
            shown = "; ".join(self.reasons[:5])
            if not self.limit:
                raise InputError(f"{shown}{LEAVE_OUT}") from error
            raise InputError(
                f"{len(self.reasons)} bad samples, more than --max-bad {self.limit}: {shown}"
            ) from error
        if self.say is not None:
            self.say(f"left out: {reason}")
