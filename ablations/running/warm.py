"""What every trial needs and no trial changes, loaded once in the process that trials are forked from.

Importing torch and open_clip takes seconds, and so does reading the embedded drawings; importing this module
does both. It is for the fork server alone (:class:`ablations.running.supervisor.Supervisor`).
"""

from contextlib import suppress

import ablations.running.trial  # noqa: F401
from crossgap.datasets.emoji import training_pictures
from crossgap.errors import InputError

with suppress(InputError):  # drawings that are damaged are refused where a trial uses them
    training_pictures()  # their reader keeps them
