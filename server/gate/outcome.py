"""How a step of the gate ends other than by passing. Both are raised inside a step and caught around it."""


class Skipped(Exception):
    """A step that has nothing to do, and why."""


class RefusedError(Exception):
    """A step's refusal: a sentence that says what is wrong and, where it can, what to do."""
