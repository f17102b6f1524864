"""What every runner owes a task, as tests that the author of any runner can run; pytest alone knows of `suite`."""

from mlcube.conformance.subject import Subject

__all__ = ["Subject"]
